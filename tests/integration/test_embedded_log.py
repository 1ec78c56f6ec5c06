"""The embedded log on a real disk, with real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.events import Checkpoint, Record
from monitor.settings import TransportSettings
from monitor.transport import log as log_module
from monitor.transport import log_file, log_rows
from monitor.transport.base import Rejected, Unavailable
from monitor.transport.embedded import EmbeddedSource, open_log
from monitor.transport.log import EmbeddedLog, LogError


def record(number: int, size: int = 10, key: str | None = "k") -> Record:
    return Record(key, {"ce_id": str(number)}, b"x" * size, float(number))


def held(log: EmbeddedLog, partition: str = "t/0") -> list[int]:
    """The ids of what the partition holds."""
    found: list[int] = []
    offset = 0
    while block := log.read(partition, offset):
        found += [int(delivery.record.headers["ce_id"]) for delivery in block]
        offset = block[-1].offset + 1
    return found


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log.db", warmup=0)
    yield log
    log.close()


def python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )


# --- retention -----------------------------------------------------------------------------------------------


def test_what_every_group_committed_goes_except_the_warm_up(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", warmup=100)
    log.append("t", [record(number) for number in range(3000)])
    log.commit("fast", "t/0", Checkpoint(2500))
    assert log.start_offset("t/0") == 2400
    assert held(log) == list(range(2400, 3000))
    log.close()


def test_a_slow_group_holds_records_back(log: EmbeddedLog) -> None:
    log.append("t", [record(number) for number in range(3000)])
    log.join("slow", "t/0")
    log.commit("fast", "t/0", Checkpoint(3000))
    assert log.start_offset("t/0") == 0
    assert log.committed("slow", "t/0") is None
    log.commit("slow", "t/0", Checkpoint(2000))
    assert log.start_offset("t/0") == 2000
    log.leave("slow", "t")
    assert log.trim() == 1000
    assert (log.start_offset("t/0"), log.end_offset("t/0")) == (3000, 3000)


def test_small_amounts_are_not_trimmed_at_every_commit_but_on_request(log: EmbeddedLog) -> None:
    log.append("t", [record(number) for number in range(50)])
    log.commit("g", "t/0", Checkpoint(50))
    assert log.start_offset("t/0") == 0
    assert log.trim() == 50
    assert log.read("t/0", 0) == ()
    log.append("t", [record(50)])
    assert held(log) == [50]
    assert log.read("t/0", 0)[0].offset == 50


def test_bytes_are_bounded_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", retain_bytes=100_000)
    for start in range(0, 2000, 10):
        log.append("t", [record(number, 1000) for number in range(start, start + 10)])
        assert log.stats("t")[0].bytes <= 100_000
    (stats,) = log.stats("t")
    assert stats.bytes > 80_000
    assert stats.dropped == stats.start
    assert held(log) == list(range(stats.start, 2000))
    assert (tmp_path / "log.db").stat().st_size < 400_000
    log.close()


def test_what_was_committed_is_not_counted_as_dropped(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", retain_bytes=20_000)
    for number in range(100):
        log.append("t", [record(number, 1000)])
        if number < 60:
            log.commit("g", "t/0", Checkpoint(number + 1))
    (stats,) = log.stats("t")
    assert stats.start > 60
    assert stats.dropped == stats.start - 60
    log.close()


def test_the_fullest_partition_gives_way(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", retain_bytes=100_000)
    log.append("small", [record(number, 100) for number in range(10)])
    for number in range(500):
        log.append("big", [record(number, 1000)])
    assert held(log, "small/0") == list(range(10))
    assert log.stats("small")[0].dropped == 0
    assert log.stats("big")[0].dropped > 300
    log.close()


def test_a_batch_larger_than_all_there_is_room_for_keeps_its_end(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", retain_bytes=50_000)
    log.append("t", [record(number, 1000) for number in range(500)])
    kept = held(log)
    assert kept == list(range(kept[0], 500))
    assert 20 < len(kept) < 50
    log.close()


def test_bytes_are_counted_right_through_everything(log: EmbeddedLog) -> None:
    log.append("t", [record(number, number % 50) for number in range(5000)])
    log.commit("g", "t/0", Checkpoint(3210))
    (stats,) = log.stats("t")
    with sqlite3.connect(log.path) as db:
        (size,) = db.execute(
            "SELECT sum(? + length(key) + length(headers) + length(value)) FROM records_1", (log_rows.ROW_BYTES,)
        ).fetchone()
    db.close()
    assert stats == ("t/0", 3210, 5000, size, 0)


# --- reading -------------------------------------------------------------------------------------------------


def test_a_read_is_bounded_in_bytes_and_always_gets_on(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BLOCK_BYTES", 10_000)
    log.append("t", [record(number, 3000 if number % 7 else 30_000) for number in range(50)])
    assert held(log) == list(range(50))
    assert max(len(log.read("t/0", offset)) for offset in range(50)) == 4


def test_scan_gives_all_partitions_up_to_now_and_no_further(log: EmbeddedLog) -> None:
    log.create_topic("t", 3)
    log.append("t", [record(number, key=f"k{number % 8}") for number in range(1000)])
    found = []
    for block in log.scan("t", limit=100):
        log.append("t", [record(9999)])
        found += [int(delivery.record.headers["ce_id"]) for delivery in block.deliveries]
    assert sorted(found) == list(range(1000))


def test_keyless_records_take_turns(log: EmbeddedLog) -> None:
    log.create_topic("t", 3)
    for number in range(9):
        log.append("t", [record(number, key=None)])
    assert [len(held(log, f"t/{partition}")) for partition in range(3)] == [3, 3, 3]


def test_a_reader_that_was_overtaken_goes_on_at_the_oldest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    from monitor.transport.base import Block

    log = EmbeddedLog(tmp_path / "log.db", retain_bytes=20_000)
    log.append("t", [record(0)])

    async def go() -> list[int]:
        source = EmbeddedSource(log, "t", "g")
        seen: list[int] = []
        async for signal_ in source:
            if isinstance(signal_, Block):
                seen += [delivery.offset for delivery in signal_.deliveries]
                if len(seen) > 1:
                    return seen
                log.append("t", [record(number, 1000) for number in range(1, 100)])
        raise AssertionError

    seen = asyncio.run(go())
    assert seen[0] == 0
    assert seen[1:] == list(range(seen[1], 100))
    assert f"t/0: {seen[1] - 1} records went before they were read" in caplog.text
    log.close()


# --- topics --------------------------------------------------------------------------------------------------


def test_the_number_of_partitions_never_changes(log: EmbeddedLog) -> None:
    assert log.create_topic("t", 2) == ("t/0", "t/1")
    assert log.create_topic("t") == ("t/0", "t/1")
    with pytest.raises(LogError, match=r"has 2 partitions, not 3: set transport\.partitions to 2"):
        log.create_topic("t", 3)
    assert log.topics() == ("t",)


@pytest.mark.parametrize("act", [lambda log: log.read("t/7", 0), lambda log: log.end_offset("nothing/0")])
def test_an_unknown_partition_is_named(log: EmbeddedLog, act: Callable[[EmbeddedLog], object]) -> None:
    log.create_topic("t")
    with pytest.raises(LogError, match="has no partition"):
        act(log)


@pytest.mark.parametrize("topic", ["", "a/b"])
def test_a_topic_name_that_is_none(log: EmbeddedLog, topic: str) -> None:
    with pytest.raises(LogError, match="no topic name"):
        log.create_topic(topic)


def test_open_log_makes_directory_and_topics(tmp_path: Path) -> None:
    settings = TransportSettings(path=str(tmp_path / "a" / "b" / "log.db"), partitions=4, retain="10MiB")
    log = open_log(settings)
    assert log.topics() == ("dead-letters", "payloads")
    assert len(log.stats("payloads")) == 4
    assert log.retain_bytes == 10 * 1024 * 1024
    log.close()


# --- failures ------------------------------------------------------------------------------------------------


def test_a_failed_append_leaves_nothing(log: EmbeddedLog) -> None:
    log.append("t", [record(0)])
    for bad in (Record("\ud800", {}, b"", 0.0), Record("k", {"a": "\ud800"}, b"", 0.0)):
        with pytest.raises(Rejected, match="no valid text"):
            log.append("t", [record(1), bad])
    log.append("t", [record(2)])
    assert [(d.offset, d.record.headers["ce_id"]) for d in log.read("t/0", 0)] == [(0, "0"), (1, "2")]


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"this is no SQLite file, not at all" * 100)
    with pytest.raises(LogError, match=r"log\.db is another file, no log.*give the log another path"):
        EmbeddedLog(path)
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(LogError, match=r"log\.db is damaged"):
        EmbeddedLog(path)


@pytest.mark.parametrize("fill", [b"\x00", b"\x0d", b"\xff"])
def test_damage_inside(tmp_path: Path, fill: bytes) -> None:
    path = tmp_path / "log.db"
    log = EmbeddedLog(path)
    log.append("t", [record(number, 1000) for number in range(1000)])
    log.close()
    with path.open("r+b") as file:
        file.seek(100_000)
        file.write(fill * 500_000)
    log = EmbeddedLog(path)
    with pytest.raises(LogError, match=r"damaged.*move it away"):
        held(log)
    log.close()


@pytest.mark.parametrize("damage", ["headers = x'7b'", "key = CAST(x'ff' AS TEXT)"])
def test_damaged_text(log: EmbeddedLog, damage: str) -> None:
    log.append("t", [record(number) for number in range(10)])
    with sqlite3.connect(log.path) as db:
        db.execute(f"UPDATE records_1 SET {damage} WHERE offset = 5")
    db.close()
    with pytest.raises(LogError, match="damaged"):
        log.read("t/0", 0)


def test_lost_rows_are_no_end(log: EmbeddedLog) -> None:
    log.append("t", [record(number) for number in range(1000)])
    with sqlite3.connect(log.path) as db:
        db.execute("DELETE FROM records_1 WHERE offset >= 900 OR offset BETWEEN 100 AND 110")
    db.close()
    assert len(log.read("t/0", 0, 100)) == 100
    for offset in (50, 100, 900, 950):
        with pytest.raises(LogError, match="are missing or unreadable from offset"):
            log.read("t/0", offset)
    assert log.read("t/0", 1000) == ()


def test_a_file_of_something_else(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    with pytest.raises(LogError, match="SQLite file of something else"):
        EmbeddedLog(tmp_path / "other.db")


def test_a_newer_format(log: EmbeddedLog) -> None:
    with sqlite3.connect(log.path) as db:
        db.execute(f"PRAGMA user_version = {log_file.FORMAT + 1}")
    db.close()
    with pytest.raises(LogError, match="update offpath"):
        EmbeddedLog(log.path)


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="there is no log at"):
        EmbeddedLog(tmp_path / "log.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file is no directory"):
        EmbeddedLog(tmp_path / "file" / "log.db")
    with pytest.raises(Unavailable, match="cannot be made"):
        open_log(TransportSettings(path=str(tmp_path / "file" / "sub" / "log.db")))


def test_a_full_disk(log: EmbeddedLog) -> None:
    log.append("t", [record(0)])
    log._file._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(Unavailable, match="no space is left"):
        log.append("t", [record(number, 1000) for number in range(1000)])
    assert held(log) == [0]
    log._file._db.execute("PRAGMA max_page_count = 100000")
    log.append("t", [record(1)])
    assert held(log) == [0, 1]


def test_a_read_only_file(log: EmbeddedLog) -> None:
    log.append("t", [record(0)])
    log._file._db.execute("PRAGMA query_only = 1")
    with pytest.raises(Unavailable, match="read-only for this user"):
        log.append("t", [record(1)])
    assert held(log) == [0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(Unavailable):
            EmbeddedLog(tmp_path / "log.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_log_in_a_directory_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only mount: SQLite can make no file beside it, and must not try."""
    folder = tmp_path / "mounted log"
    folder.mkdir()
    with closing(EmbeddedLog(folder / "log.db")) as log:
        log.append("t", [record(0)])
        (folder / "kept").write_bytes((folder / "log.db-wal").read_bytes())
    monkeypatch.setattr(log_file.os, "access", lambda *_: False)
    with closing(EmbeddedLog(folder / "log.db", create=False)) as log:
        assert held(log) == [0]
        assert not (folder / "log.db-shm").exists()
        with pytest.raises(Unavailable, match="read-only"):
            log.append("t", [record(1)])
    (folder / "kept").rename(folder / "log.db-wal")
    with pytest.raises(LogError, match=r"are in log\.db-wal: copy both"):
        EmbeddedLog(folder / "log.db", create=False)


# --- processes -----------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from monitor.events import Record
from monitor.transport.log import EmbeddedLog

log = EmbeddedLog(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    log.append("t", [Record("k", {"ce_id": str(number + i)}, b"x" * 500, 0.0) for i in range(7)])
    number += 7
    print(number, flush=True)
"""


def test_what_a_killed_writer_had_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    number = 0
    for _ in range(5):
        writer = python(WRITER, path, number)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(60):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        log = EmbeddedLog(path)
        found = held(log)
        log.close()
        assert found == list(range(len(found))), "gaps, or another order"
        assert acknowledged <= len(found) <= acknowledged + 7
        assert len(found) % 7 == 0, "half a batch"
        number = len(found)


HOLDER = """
import asyncio, sys, time
from pathlib import Path
from monitor.transport.embedded import EmbeddedSource
from monitor.transport.log import EmbeddedLog

source = EmbeddedSource(EmbeddedLog(Path(sys.argv[1])), "t", "g")
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_consumer_frees_its_place_at_once(log: EmbeddedLog) -> None:
    log.create_topic("t")
    holder = python(HOLDER, log.path)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(Unavailable, match=rf"'g' on topic t .* is held by process {holder.pid}$"):
        EmbeddedSource(log, "t", "g")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    EmbeddedSource(log, "t", "g")


def _append(path: Path, start: int) -> None:
    log = EmbeddedLog(path)
    for number in range(start, start + 100):
        log.append("t", [record(number)])
    log.close()


def test_processes_that_create_and_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(path, 1000 * index)) for index in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    log = EmbeddedLog(path)
    found = held(log)
    log.close()
    assert len(found) == 400
    for index in range(4):
        assert [number for number in found if number // 1000 == index] == list(range(1000 * index, 1000 * index + 100))
