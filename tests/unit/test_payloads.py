"""The claim check: bodies stored once under their digest, bounded, and read back only as what they are."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.capture.claims import Claims, SafePublisher
from monitor.capture.metrics import Counters, sample
from monitor.events import InvalidEvent, Record
from monitor.transport.base import Unavailable
from monitor.transport.payloads import STALE_SECONDS, PayloadStore, read_payload


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def files(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.glob("*/*")}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store(directory: Path, clock: Clock, limit: int = 1000, keep: float = 100.0) -> PayloadStore:
    return PayloadStore(directory / "payloads", limit, keep, clock)


def test_stored_once_and_read_back(tmp_path: Path, clock: Clock) -> None:
    kept = store(tmp_path, clock)
    reference = kept.put(b"body")
    assert kept.put(b"body") == reference
    digest = sha256(b"body").hexdigest()
    assert reference == f"{digest[:2]}/{digest}"
    assert files(tmp_path / "payloads") == {digest: 4}
    assert kept.bytes == 4
    assert read_payload(tmp_path / "payloads", reference, 4) == b"body"


def test_the_oldest_go_for_room_and_what_is_asked_for_again_is_young(tmp_path: Path, clock: Clock) -> None:
    kept = store(tmp_path, clock)
    references = []
    for i in range(3):
        clock.now += 1
        references.append(kept.put(bytes([i]) * 300))
    clock.now += 1
    assert kept.put(bytes(300)) == references[0]
    clock.now += 1
    kept.put(b"new" * 100)
    there = files(tmp_path / "payloads")
    assert sum(there.values()) <= 1000
    assert references[0][3:] in there
    assert references[1][3:] not in there
    assert kept.removed == 1 + (references[2][3:] not in there)


def test_the_old_go_for_age(tmp_path: Path, clock: Clock) -> None:
    kept = store(tmp_path, clock)
    kept.put(b"old")
    clock.now += 101
    kept.put(b"new")
    assert list(files(tmp_path / "payloads").values()) == [3]
    assert kept.removed == 1


def test_what_another_process_left_counts(tmp_path: Path, clock: Clock) -> None:
    store(tmp_path, clock).put(b"x" * 900)
    again = store(tmp_path, clock)
    assert again.bytes == 900
    clock.now += 1
    again.put(b"y" * 900)
    assert sum(files(tmp_path / "payloads").values()) == 900


def test_unfinished_files_of_dead_processes_go(tmp_path: Path, clock: Clock) -> None:
    store(tmp_path, clock).put(b"x")
    unfinished = next((tmp_path / "payloads").iterdir()) / ".0123"
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (clock.now, clock.now))
    store(tmp_path, clock)
    assert unfinished.exists()
    clock.now += STALE_SECONDS + 1
    store(tmp_path, clock, keep=1e9)
    assert not unfinished.exists()


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), max_size=30))
def test_never_above_the_limit(tmp_path_factory: Any, sizes: list[int]) -> None:
    clock = Clock()
    kept = store(tmp_path_factory.mktemp("p"), clock)
    for i, size in enumerate(sizes):
        clock.now += 1
        kept.put(i.to_bytes(2, "big") + bytes(size))
        there = files(kept._directory)
        assert sum(there.values()) == kept.bytes <= 1000


def test_what_cannot_be_stored(tmp_path: Path, clock: Clock) -> None:
    kept = store(tmp_path, clock)
    with pytest.raises(Unavailable, match="larger than the limit of all"):
        kept.put(bytes(1001))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be made"):
        PayloadStore(tmp_path / "file" / "below", 1, 1, clock)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "../../etc/passwd",
        "/etc/passwd",
        "ab/../x",
        "http://example/x",
        "ab/" + "c" * 64,
        "AB/AB" + "0" * 62,
        "ab/ab" + "0" * 62 + "\n",
    ],
)
def test_references_lead_nowhere_else(tmp_path: Path, reference: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        read_payload(tmp_path, reference, 100)
    assert raised.value.reason == "bad_dataref"


def test_missing_damaged_large_and_linked_payloads(tmp_path: Path, clock: Clock) -> None:
    kept, directory = store(tmp_path, clock), tmp_path / "payloads"
    reference = kept.put(b"body")

    def reason(of: str = reference, size: int = 100) -> str:
        with pytest.raises(InvalidEvent) as raised:
            read_payload(directory, of, size)
        return raised.value.reason

    assert reason(size=3) == "too_large"
    (directory / reference).write_bytes(b"ydob")
    assert reason() == "payload_mismatch"
    (directory / reference).unlink()
    assert reason() == "payload_missing"
    (tmp_path / "outside").write_bytes(b"body")
    (directory / reference).symlink_to(tmp_path / "outside")
    assert reason() == "payload_missing", "links are not followed"
    (directory / reference).unlink()
    os.mkfifo(directory / reference)
    assert reason() == "payload_missing", "nor is a pipe waited for"
    elsewhere = sha256(b"elsewhere").hexdigest()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / elsewhere).write_bytes(b"elsewhere")
    (directory / elsewhere[:2]).symlink_to(tmp_path / "folder")
    assert reason(f"{elsewhere[:2]}/{elsewhere}") == "payload_missing"


class TestClaims:
    def test_above_the_size_the_event_says_where(self, tmp_path: Path, clock: Clock) -> None:
        counters = Counters()
        claims = Claims(lambda: store(tmp_path, clock), 10, counters, clock)
        headers: dict[str, str] = {}
        assert claims.check(headers, b"x" * 10) == b"x" * 10
        assert headers == {}
        assert not (tmp_path / "payloads").exists(), "opened when it is needed"
        assert claims.check(headers, b"x" * 11) == b""
        assert headers["ce_datasize"] == "11"
        assert read_payload(tmp_path / "payloads", headers["ce_dataref"], 11) == b"x" * 11
        assert counters[sample("claims_total", outcome="stored")] == 1
        assert counters[sample("payloads_bytes")] == 11

    def test_what_cannot_be_stored_stays_and_the_directory_is_tried_again_later(self, clock: Clock) -> None:
        tries: list[float] = []

        def opener() -> PayloadStore:
            tries.append(clock.now)
            raise Unavailable("read-only")

        counters = Counters()
        claims = Claims(opener, 1, counters, clock)
        for _ in range(3):
            assert claims.check({}, b"xx") == b"xx"
            clock.now += 3
        assert tries == [1_000_000.0, 1_000_006.0]
        assert counters[sample("claims_total", outcome="failed")] == 3


class Disk:
    """Notes what is made safe, and fails when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.safe: list[Path] = []
        self.fails = False
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self.safe.append(Path(f"/proc/self/fd/{descriptor}").readlink())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class TestSafety:
    def test_files_first_then_the_directories_that_name_them(self, tmp_path: Path, clock: Clock, disk: Disk) -> None:
        stored = store(tmp_path, clock)
        files = [tmp_path / "payloads" / stored.put(body) for body in (b"one", b"two", b"one")]
        assert disk.safe == []
        assert stored.has_new
        stored.sync()
        assert not stored.has_new
        assert set(disk.safe[:2]) == set(files)
        assert set(disk.safe[2:4]) == {file.parent for file in files}
        assert disk.safe[4:] == [tmp_path / "payloads"]
        stored.put(b"one")
        assert not stored.has_new, "it is safe already"

    def test_what_fails_is_tried_again(self, tmp_path: Path, clock: Clock, disk: Disk) -> None:
        stored = store(tmp_path, clock)
        file = tmp_path / "payloads" / stored.put(b"one")
        disk.fails = True
        with pytest.raises(Unavailable, match="Input/output error"):
            stored.sync()
        disk.fails = False
        stored.put(b"two")
        stored.sync()
        assert file in disk.safe

    def test_what_is_removed_meanwhile_needs_none(self, tmp_path: Path, clock: Clock, disk: Disk) -> None:
        stored = store(tmp_path, clock)
        (tmp_path / "payloads" / stored.put(b"one")).unlink()
        stored.sync()
        assert not stored.has_new

    def test_nobody_takes_an_event_before_its_body_is_safe(self, tmp_path: Path, clock: Clock, disk: Disk) -> None:
        order: list[str] = []

        class Receiver:
            async def publish(self, records: Sequence[Record]) -> None:
                assert {tmp_path / "payloads" / r.headers["ce_dataref"] for r in records} <= set(disk.safe)
                order.extend(record.headers["ce_dataref"] for record in records)

            async def close(self) -> None:
                order.append("closed")

        claims = Claims(lambda: store(tmp_path, clock), 1, Counters(), clock)
        publisher = SafePublisher(Receiver(), claims)
        given: list[Record] = []
        for body in (b"one", b"two"):
            headers: dict[str, str] = {}
            given.append(Record("k", headers, claims.check(headers, body), 0.0))

        async def publish() -> None:
            disk.fails = True
            with pytest.raises(Unavailable):
                await publisher.publish(given)
            assert order == [], "the events wait"
            disk.fails = False
            await publisher.publish(given)
            known = len(disk.safe)
            await publisher.publish(given)
            assert len(disk.safe) == known, "once is enough"
            await publisher.close()

        asyncio.run(publish())
        assert order == [record.headers["ce_dataref"] for record in given] * 2 + ["closed"]
