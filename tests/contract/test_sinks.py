"""One suite over every sink: redelivery changes nothing, flushed is durable, an absent destination loses nothing."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import pkgutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from prometheus_client import CollectorRegistry, generate_latest

import sinks
from detectors.base import FeatureVerdict, Histogram, Reason, Verdict
from monitor.transport.embedded import EmbeddedPublisher
from monitor.transport.http import HttpPublisher
from monitor.transport.log import EmbeddedLog
from sinks.base import Finding, FlaggedInstance, Position, Sink, Unavailable
from sinks.cloudevents import CloudEventsSink, to_record
from sinks.jsonlines import JsonLinesSink
from sinks.prometheus import MonitorLabels, PrometheusSink
from sinks.store import FindingStore, StoreSink

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def finding(i: int, **changes: Any) -> Finding:
    """A window's finding; every third is an alarm."""
    alarm = i % 3 == 0
    histogram = Histogram((0.5, 0.5), (0.1, 0.9), (0.0, 1.0, 2.0))
    column = FeatureVerdict("age", "numeric", "alert", 0.5, 1e-9, 0.01, 0.5, 100, 1, 0, "", histogram)
    reasons = (Reason("age", "mean", 1.0, 2.0, "age: 1 -> 2"),)
    verdict = Verdict("alert" if alarm else "ok", 100, float(i), 2.0, 0.01, 0.5, (column,), reasons)
    end = START + timedelta(minutes=i)
    first, last = Position("payloads/0", 10 * i, 0), Position("payloads/0", 10 * i + 9, 3)
    made = Finding(
        f"id-{i}", "drift", "default", "income", "drift", "window", "TabularDrift", verdict, alarm, end, START, end,
        first, last, 10, "age: 1 -> 2",
    )  # fmt: skip
    return replace(made, **changes)


class Receiver(servers.Receiver):
    """Keeps bodies by id."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        super().__init__()

    def take(self, headers: HTTPMessage, body: bytes) -> None:
        self.bodies[headers["ce-id"]] = json.loads(body)


@dataclass
class Case:
    """A sink under test: how it is opened, what its destination holds, and how that goes away and comes back."""

    open: Callable[[], Sink]
    held: Callable[[], list[str]]
    away: Callable[[Any], None] | None
    back: Callable[[Any], None] | None
    forgets: str = ""
    """Why it does not know findings of an earlier process again; empty if it does."""


def store(folder: Path, _: Receiver) -> Case:
    path = folder / "findings.db"
    locks: list[sqlite3.Connection] = []

    def held() -> list[str]:
        reader = FindingStore(path)
        found = reader.findings(limit=10_000)
        reader.close()
        return [one["id"] for one in found]

    def away(sink: Any) -> None:
        sink._file._db.execute("PRAGMA busy_timeout = 20")
        locks.append(sqlite3.connect(path, isolation_level=None))
        locks[0].execute("BEGIN EXCLUSIVE")

    return Case(lambda: StoreSink(path), held, away, lambda _: locks.pop().close())


def jsonlines(folder: Path, _: Receiver) -> Case:
    path = folder / "out" / "findings.jsonl"

    def held() -> list[str]:
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]

    return Case(lambda: JsonLinesSink(str(path)), held, None, None)


def cloudevents_http(_: Path, receiver: Receiver) -> Case:
    def switch(away: bool) -> Callable[[Any], None]:
        return lambda _: setattr(receiver, "away", away)

    return Case(
        lambda: CloudEventsSink(HttpPublisher(receiver.url, max_retries=0)),
        lambda: list(receiver.bodies),
        switch(True),
        switch(False),
        "the receiver de-duplicates on (source, id, type), as CloudEvents asks",
    )


def cloudevents_log(folder: Path, _: Receiver) -> Case:
    path = folder / "log.db"

    def held() -> list[str]:
        log = EmbeddedLog(path)
        found = [d.record.headers["ce_id"] for block in log.scan("findings") for d in block.deliveries]
        log.close()
        return found

    def open_sink() -> Sink:
        log = EmbeddedLog(path)
        log.create_topic("findings", 1)
        return CloudEventsSink(EmbeddedPublisher(log, "findings"))

    return Case(open_sink, held, None, None, "consumers de-duplicate on (source, id, type)")


def prometheus(_: Path, __: Receiver) -> Case:
    registries: list[CollectorRegistry] = []

    def open_sink() -> Sink:
        registries.append(CollectorRegistry())
        return PrometheusSink(registries[-1], [MonitorLabels("default", "income", "drift", "drift", ("age",))])

    def held() -> list[str]:
        text = generate_latest(registries[-1]).decode().splitlines()
        counts = [float(line.split()[-1]) for line in text if line.startswith("offpath_evaluations_total")]
        return [f"id-{i}" for i in range(int(sum(counts)))]

    return Case(open_sink, held, None, None, "counters begin at 0 with each process, which Prometheus expects")


CASES: dict[type, list[Callable[[Path, Receiver], Case]]] = {
    StoreSink: [store],
    JsonLinesSink: [jsonlines],
    CloudEventsSink: [cloudevents_http, cloudevents_log],
    PrometheusSink: [prometheus],
}
ALL = [make for makers in CASES.values() for make in makers]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(params=ALL, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path, receiver: Receiver) -> Case:
    made: Case = request.param(tmp_path, receiver)
    return made


def test_every_sink_has_its_case() -> None:
    found = set()
    for module in pkgutil.iter_modules(sinks.__path__, "sinks."):
        for _, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            methods = all(callable(getattr(one, name, None)) for name in ("write", "flush", "close"))
            if methods and one.__module__ == module.name and one is not Sink:
                found.add(one)
    assert found == CASES.keys()


def test_flushed_once_and_redelivered(case: Case) -> None:
    async def act() -> None:
        sink = case.open()
        findings = [finding(i) for i in range(5)]
        await sink.write(findings[:3])
        await sink.flush()
        await sink.write(findings)
        await sink.write(findings)
        await sink.flush()
        await sink.flush()
        assert sorted(case.held()) == [f"id-{i}" for i in range(5)]
        await sink.close()

    asyncio.run(act())


def test_a_new_process_knows_what_was_written(case: Case) -> None:
    if case.forgets:
        pytest.skip(case.forgets)

    async def once() -> None:
        sink = case.open()
        await sink.write([finding(i) for i in range(4)])
        await sink.flush()
        await sink.close()

    asyncio.run(once())
    asyncio.run(once())
    assert sorted(case.held()) == [f"id-{i}" for i in range(4)]


def test_an_absent_destination_loses_nothing(case: Case) -> None:
    async def act() -> None:
        assert case.away
        assert case.back
        sink = case.open()
        await sink.write([finding(0)])
        await sink.flush()
        case.away(sink)
        await sink.write([finding(1)])
        with pytest.raises(Unavailable):
            await sink.flush()
        await sink.write([finding(2)])
        with pytest.raises(Unavailable):
            await sink.flush()
        case.back(sink)
        await sink.flush()
        assert sorted(case.held()) == ["id-0", "id-1", "id-2"]
        await sink.close()

    if case.away is None:
        pytest.skip("its destination is this machine's disk or memory; the file's case is tested below")
    asyncio.run(act())


def test_values_that_json_has_not(case: Case) -> None:
    odd = Verdict("alert", 3, float("inf"), np.float64("nan"), 0.0, np.float32(0.5), reasons=())  # type: ignore[arg-type]
    instance = FlaggedInstance(2, float("nan"), {"Ägé ☃\n": None, "n": 3, "x": "<b>"}, {"n": float("inf")})

    async def act() -> None:
        sink = case.open()
        await sink.write([finding(0, verdict=odd, text="überall ☃", instances=(instance,))])
        await sink.flush()
        assert case.held() == ["id-0"]
        await sink.close()

    asyncio.run(act())


def test_many_findings(case: Case) -> None:
    async def act() -> None:
        sink = case.open()
        await sink.write([finding(i) for i in range(2000)])
        await sink.flush()
        assert len(case.held()) == 2000
        await sink.close()

    asyncio.run(act())


KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = {tests!r}
from test_sinks import finding
from sinks.{module} import {name}
async def act():
    sink = {name}({make})
    await sink.write([finding(i) for i in range(3)])
    await sink.flush()
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(act())
"""


@pytest.mark.parametrize(
    ("module", "name", "make"),
    [("store", "StoreSink", "__import__('pathlib').Path(sys.argv[1])"), ("jsonlines", "JsonLinesSink", "sys.argv[1]")],
)
def test_what_was_flushed_outlives_the_process(module: str, name: str, make: str, tmp_path: Path) -> None:
    path = tmp_path / "findings"
    tests = [str(folder) for folder in Path(__file__).parents[:2]]
    code = KILLED.format(tests=tests, module=module, name=name, make=make)
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    if module == "store":
        reader = FindingStore(path)
        found = [one["id"] for one in reader.findings(limit=10)]
        reader.close()
    else:
        found = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert sorted(found) == ["id-0", "id-1", "id-2"]


def test_a_half_written_line_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    path.write_bytes(finding(0).to_json() + b"\n" + finding(1).to_json()[:40])

    async def act() -> None:
        sink = JsonLinesSink(str(path))
        await sink.write([finding(0), finding(1)])
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["id-0", "id-1"]


def test_json_lines_go_to_a_pipe_too(tmp_path: Path) -> None:
    """As to ``/dev/stdout`` of a container; nothing is read back."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(Unavailable, match="cannot be written"):
        JsonLinesSink(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def act() -> None:
        sink = JsonLinesSink(str(path))
        await sink.write([finding(0), finding(0), finding(1)])
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert [json.loads(line)["id"] for line in os.read(reader, 1 << 20).splitlines()] == ["id-0", "id-1"]
    os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_json_lines_to_a_device_that_takes_nothing() -> None:
    async def act() -> None:
        sink = JsonLinesSink("/dev/full")
        await sink.write([finding(0)])
        with pytest.raises(Unavailable, match="No space left"):
            await sink.flush()
        await sink.close()

    asyncio.run(act())


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "findings.jsonl"

    async def act() -> None:
        sink = JsonLinesSink(str(path))

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        await sink.write([finding(0)])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(Unavailable, match="No space left"):
                await sink.flush()
        assert path.read_bytes() == b""
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert json.loads(path.read_text())["id"] == "id-0"


@pytest.mark.parametrize("make", [StoreSink, lambda p: JsonLinesSink(str(p))], ids=["store", "jsonlines"])
def test_a_place_that_cannot_be(make: Callable[[Path], Sink], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file"):
        make(tmp_path / "file" / "findings")


def test_the_store_keeps_the_newest(tmp_path: Path) -> None:
    async def act() -> None:
        sink = StoreSink(tmp_path / "f.db", keep=500)
        await sink.write([finding(i) for i in range(1500)])
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    reader = FindingStore(tmp_path / "f.db")
    found = reader.findings(limit=10_000)
    reader.close()
    assert [one["id"] for one in found] == [f"id-{i}" for i in range(1499, 999, -1)]


@pytest.mark.parametrize("kind", ["drift", "outlier"])
def test_a_cloudevent_as_the_specification_and_seldon_have_it(kind: Any) -> None:
    instance = FlaggedInstance(7, 0.9, {"age": 190})
    record = to_record(finding(3, kind=kind, instances=(instance,), request_id="r-1"), "offpath/worker")
    headers = {name: value.encode() for name, value in record.headers.items()}
    event = from_binary(KafkaMessage(headers, record.key, record.value or b""), JSONFormat())
    assert event.get_type() == f"io.seldon.serving.inference.{kind}"
    assert (event.get_id(), event.get_source(), event.get_subject()) == ("id-3", "offpath/worker", "drift")
    assert event.get_time() == START + timedelta(minutes=3)
    assert event.get_extension("requestid") == "r-1"
    data: Any = event.get_data()
    assert data["data"][f"is_{kind}"] == 1
    assert data["data"]["threshold"] == 2.0
    expected = {"distance": 3.0, "p_val": 0.01} if kind == "drift" else {"instance_score": [0.9], "index": [7]}
    assert data["data"].items() >= expected.items()
    assert data["finding"]["verdict"]["features"][0]["histogram"]["window"] == [0.1, 0.9]


def test_only_alarms(receiver: Receiver) -> None:
    async def act() -> None:
        sink = CloudEventsSink(HttpPublisher(receiver.url), only_alarms=True)
        await sink.write([finding(i) for i in range(7)])
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert sorted(receiver.bodies) == ["id-0", "id-3", "id-6"]


@pytest.mark.parametrize("kept", [True, False], ids=["moved", "removed"])
def test_a_file_of_lines_that_was_rotated_is_begun_anew(tmp_path: Path, kept: bool) -> None:
    path = tmp_path / "findings.jsonl"

    async def act() -> None:
        sink = JsonLinesSink(str(path))
        await sink.write([finding(0)])
        await sink.flush()
        if kept:
            path.rename(path.with_suffix(".1"))
        else:
            path.unlink()
        await sink.write([finding(0), finding(1)])
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["id-1"]


def test_a_file_of_lines_that_cannot_be_begun_anew_is_waited_for(tmp_path: Path) -> None:
    """As where logrotate moves the file, in a directory that the worker may not write."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "findings.jsonl"

    async def act() -> None:
        sink = JsonLinesSink(str(path))
        await sink.write([finding(0)])
        await sink.flush()
        folder.rename(tmp_path / "moved")
        folder.write_text("in the way")
        await sink.write([finding(1)])
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"cannot be written: (File exists|Not a directory)"):
                await sink.flush()
        folder.unlink()
        await sink.flush()
        await sink.close()

    asyncio.run(act())
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["id-1"]


def test_a_store_whose_file_was_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"

    async def act() -> None:
        sink, page = StoreSink(path), FindingStore(path)
        await sink.write([finding(0)])
        await sink.flush()
        assert page.finding("id-0")
        path.unlink()
        await sink.write([finding(1)])
        await sink.flush()
        assert page.finding("id-0") is None
        assert page.finding("id-1")
        await sink.close()
        page.close()

    asyncio.run(act())
    again = FindingStore(path)
    assert again.finding("id-1")
    again.close()
