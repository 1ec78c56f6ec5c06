"""The loop: flush, then commit; sinks that are away; stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from monitor import outflow as outflow_module
from monitor.dead_letters import dead_letter_record
from monitor.events import Checkpoint, DeadLetter, Delivery, Record
from monitor.outcome import Outcome, Tally
from monitor.outflow import Outflow
from monitor.parts import Part, from_record
from monitor.progress import Progress
from monitor.transport.base import Assigned, Block, Idle, Quiet, Revoked, Signal, Unavailable
from monitor.worker import Worker


def block(offset: int, partition: str = "t/0") -> Block:
    return Block(partition, (Delivery(partition, offset, Record(None, {}, b"x", 0.0)),), offset + 1)


@dataclass
class Journal:
    """What happened, in order."""

    entries: list[Any] = field(default_factory=list)

    def note(self, *entry: Any) -> None:
        self.entries.append(entry)


class FakeSource:
    def __init__(self, journal: Journal, signals: Sequence[Signal], failures: int = 0) -> None:
        self.journal, self.signals, self.failures = journal, signals, failures

    async def __aiter__(self) -> AsyncIterator[Signal]:
        for signal in self.signals:
            yield signal

    async def commit(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("log is locked")
        self.journal.note("commit", {p: c.offset for p, c in checkpoints.items()})

    async def still_ours(self, partitions: Collection[str]) -> Collection[str]:
        return partitions

    async def pause(self, seconds: float) -> None:
        self.journal.note("pause")

    async def close(self) -> None: ...


class FakePipeline:
    """One finding and, for odd offsets, one dead letter an event."""

    def __init__(self) -> None:
        self.position: dict[str, int] = {}

    def assign(self, partition: str, checkpoint: Checkpoint | None) -> None:
        self.position[partition] = 0

    def revoke(self, partition: str) -> None:
        del self.position[partition]

    def process(self, partition: str, deliveries: Sequence[Delivery]) -> Outcome:
        self.position[partition] = deliveries[-1].offset + 1
        letters = [DeadLetter(d, "invalid_json", "not JSON") for d in deliveries if d.offset % 2]
        findings: Any = [
            SimpleNamespace(alarm=False, id=d.offset, first=SimpleNamespace(partition=partition)) for d in deliveries
        ]
        return Outcome(findings, letters, Tally(), [])

    def expire(self, now: float) -> Outcome:
        return Outcome.empty()

    def checkpoint(self, partition: str) -> Checkpoint:
        return Checkpoint(self.position[partition])

    def fill(self) -> Mapping[str, float]:
        return {}


class FakeSink:
    def __init__(self, journal: Journal, failures: int = 0) -> None:
        self.journal, self.failures = journal, failures
        self.sink = self

    def takes(self, finding: Any) -> bool:
        return True

    async def write(self, findings: Sequence[Any]) -> None:
        self.journal.note("write", [finding.id for finding in findings])

    async def flush(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("disk is full")
        self.journal.note("flush")

    async def publish(self, records: Sequence[Record]) -> None:
        self.journal.note("bury", len(records))

    async def close(self) -> None: ...


class Numbers:
    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lags: list[tuple[str, int]] = []

    def lag(self, partition: str, events: int, seconds: float) -> None:
        self.lags.append((partition, events))

    def error(self, stage: str) -> None:
        self.errors.append(stage)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


def make(
    signals: Sequence[Signal], *, sink_failures: int = 0, commit_failures: int = 0
) -> tuple[Worker, Journal, Numbers]:
    journal, numbers = Journal(), Numbers()
    sink: Any = FakeSink(journal, sink_failures)
    source: Any = FakeSource(journal, signals, commit_failures)
    pipeline: Any = FakePipeline()
    observer: Any = numbers
    outflow = Outflow([sink], sink, None, observer, asyncio.Lock(), source.pause)
    return Worker(source, pipeline, outflow, observer, lambda: 0.0, commit_every=0.0), journal, numbers


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outflow_module, "FIRST_BACKOFF", 0.001)


def test_a_checkpoint_of_somebody_elses_is_told_and_windows_begin_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[Checkpoint | None] = []

    def assign(self: FakePipeline, partition: str, checkpoint: Checkpoint | None) -> None:
        Progress(checkpoint)
        begun.append(checkpoint)

    monkeypatch.setattr(FakePipeline, "assign", assign)
    for state in ("no JSON", "[1]", '{"next": []}'):
        worker, _, _ = make([Assigned("t/0", Checkpoint(7, state), 5)])
        asyncio.run(worker.run())
        assert begun.pop() == Checkpoint(7)
    assert caplog.text.count("t/0, committed at offset 7: its checkpoint cannot be read") == 3


def test_findings_are_flushed_before_their_offset_is_committed() -> None:
    worker, journal, _ = make([Assigned("t/0", None, 0), block(0), block(2)])
    asyncio.run(worker.run())
    assert journal.entries[:6] == [
        ("write", [0]),
        ("flush",),
        ("commit", {"t/0": 1}),
        ("write", [2]),
        ("flush",),
        ("commit", {"t/0": 3}),
    ]


def test_dead_letters_are_durable_before_the_commit() -> None:
    worker, journal, _ = make([Assigned("t/0", None, 0), block(1)])
    asyncio.run(worker.run())
    names = [entry[0] for entry in journal.entries]
    assert names.index("bury") < names.index("commit")


def test_a_sink_that_is_away_pauses_the_source_and_loses_nothing() -> None:
    worker, journal, numbers = make([Assigned("t/0", None, 0), block(0)], sink_failures=3)
    asyncio.run(worker.run())
    names = [entry[0] for entry in journal.entries]
    assert names.count("pause") == 3
    assert names.index("flush") < names.index("commit")
    assert numbers.errors == ["FakeSink"] * 3


def test_a_failing_commit_is_tried_again() -> None:
    worker, journal, _ = make([Assigned("t/0", None, 0), block(0)], commit_failures=2)
    asyncio.run(worker.run())
    assert ("commit", {"t/0": 1}) in journal.entries


def test_nothing_is_committed_for_a_partition_that_was_taken_away() -> None:
    worker, journal, _ = make(
        [Assigned("t/0", None, 0), Assigned("t/1", None, 0), block(0, "t/1"), Revoked("t/1"), Idle(0)]
    )
    worker._commit_every = 1e9
    asyncio.run(worker.run())
    assert not [entry for entry in journal.entries if entry[0] == "commit"]


class Summing(FakePipeline):
    """A part of a window for every event, and for every look at the clock."""

    def process(self, partition: str, deliveries: Sequence[Delivery]) -> Outcome:
        super().process(partition, deliveries)
        return Outcome.empty()._replace(parts=[Part("m", "f", partition, d.offset, 60.0) for d in deliveries])

    def quiet(self, partitions: Sequence[str], now: float) -> Outcome:
        return Outcome.empty()._replace(parts=[Part("m", "f", p, 0, 60.0, idle=now) for p in partitions])


class Summaries:
    def __init__(self, journal: Journal, failures: int = 0) -> None:
        self.journal, self.failures = journal, failures

    async def publish(self, records: Sequence[Record]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        self.journal.note("summaries", [from_record(record).partition for record in records])


def summing(signals: Sequence[Signal], failures: int = 0) -> tuple[Worker, Journal, Numbers]:
    worker, journal, numbers = make(signals)
    pipeline: Any = Summing()
    summaries: Any = Summaries(journal, failures)
    worker._pipeline, worker._outflow._summaries = pipeline, summaries
    return worker, journal, numbers


def test_summaries_are_published_before_their_offset_is_committed() -> None:
    worker, journal, numbers = summing([Assigned("t/0", None, 0), block(0)], failures=2)
    asyncio.run(worker.run())
    told = [entry for entry in journal.entries if entry[0] in ("summaries", "commit")]
    assert told == [("summaries", ["t/0"]), ("commit", {"t/0": 1})]
    assert numbers.errors == ["summaries"] * 2


def test_no_summary_is_published_of_a_partition_that_was_taken_away() -> None:
    signals = [Assigned("t/0", None, 0), Assigned("t/1", None, 0), block(0, "t/1"), block(0), Revoked("t/1"), Idle(0)]
    worker, journal, _ = summing(signals)
    worker._commit_every = 1e9
    asyncio.run(worker.run())
    assert [entry for entry in journal.entries if entry[0] == "summaries"] == [("summaries", ["t/0"])]


def test_a_quiet_partition_is_told_of_while_another_is_busy() -> None:
    worker, journal, _ = summing([Assigned("t/0", None, 0), Assigned("t/1", None, 0), block(0), Quiet(("t/1",), 5.0)])
    worker._commit_every = 1e9
    asyncio.run(worker.run())
    assert ("summaries", ["t/0", "t/1"]) in journal.entries


def test_workers_that_share_sinks_write_in_turns() -> None:
    """What one writes while another flushes is not durable when that flush ends."""
    first, journal, _ = make([Assigned("t/0", None, 0), block(0), block(2)])
    second, _, _ = make([Assigned("t/1", None, 0), block(4, "t/1"), block(6, "t/1")])
    ours, theirs = first._outflow, second._outflow
    theirs._outlets, theirs._turn = ours._outlets, ours._turn
    sink: Any = ours._outlets[0].sink
    flush = sink.flush

    async def slow() -> None:
        await asyncio.sleep(0.001)
        await flush()

    sink.flush = slow

    async def both() -> None:
        await asyncio.gather(first.run(), second.run())

    asyncio.run(both())
    names = [entry[0] for entry in journal.entries if entry[0] in ("write", "flush")]
    assert names.count("write") == 4
    assert all(after == "flush" for before, after in pairwise(names) if before == "write")


def test_what_waits_is_told_before_a_block_is_judged_too() -> None:
    """A single event may take long, and whoever looks then must not see that nothing waits."""
    waiting = block(4)._replace(end_offset=10)
    worker, _, numbers = make([Assigned("t/0", None, 4), waiting])
    judge = worker._pipeline.process
    pipeline: Any = worker._pipeline

    def process(partition: str, deliveries: Any) -> Any:
        numbers.lags.append(("judging", len(deliveries)))
        return judge(partition, deliveries)

    pipeline.process = process
    asyncio.run(worker.run())
    assert numbers.lags == [("t/0", 0), ("t/0", 6), ("judging", 1), ("t/0", 5)]


def test_stop_ends_after_the_block_and_commits() -> None:
    worker, journal, _ = make([Assigned("t/0", None, 0), block(0), block(2)])
    worker._commit_every = 1e9
    worker.stop()
    asyncio.run(worker.run())
    assert [entry for entry in journal.entries if entry[0] == "write"] == []


def test_stop_while_a_sink_is_away_ends_without_commit() -> None:
    worker, journal, _ = make([Assigned("t/0", None, 0), block(0)], sink_failures=10**9)

    async def run() -> None:
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.02)
        worker.stop()
        with pytest.raises(Unavailable):
            await task

    asyncio.run(run())
    assert not [entry for entry in journal.entries if entry[0] == "commit"]


def test_dead_letters_keep_the_original_and_say_why() -> None:
    original = Record("k", {"ce_id": "1"}, b"\xff", 5.0)
    record = dead_letter_record(DeadLetter(Delivery("t/0", 7, original), "invalid_json", "not JSON", "m"))
    assert (record.key, record.value, record.headers["ce_id"]) == ("k", b"\xff", "1")
    assert record.headers["offpath-position"] == "t/0:7"
    assert record.headers["offpath-reason"] == "invalid_json"
