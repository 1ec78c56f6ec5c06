"""Windows over several partitions: findings depend on the events alone, whoever reads them, however often it dies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Array, Feature
from detectors.drift.tabular import TabularDrift
from detectors.merging import Summariser
from monitor.codecs.base import Tensor, Tensors
from monitor.event_time import ident
from monitor.events import Checkpoint, Delivery, InvalidEvent, PayloadEvent, Record
from monitor.findings import MonitorSpec
from monitor.merge_pipeline import MergePipeline
from monitor.merging import MOST_WAITING, Merger
from monitor.parts import IDLE, PASSED, SUMMARY, Part, from_record, largest_record, to_record
from monitor.pipeline import Pipeline
from monitor.routing import Feed, ModelRoute
from monitor.summary_window import SummaryWindow, boundary
from monitor.time_window import TimeWindow
from monitor.windows import Rows
from sinks.base import Finding

SECONDS = 60.0
FEATURES = (Feature("a"), Feature("b", "categorical", ("x", "y")))


def table(n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([rng.normal(size=n), rng.integers(0, 2, n).astype(float)], axis=1)


DETECTOR = TabularDrift(ert=100).fit(table(3000), FEATURES)


class PlainColumns:
    def rows(self, tensors: Tensors) -> Array:
        return np.asarray(tensors["x"].data, dtype=np.float64).reshape(-1, 2)


def decode(event: PayloadEvent, protocol: str) -> Tensors:
    return {"x": Tensor("x", np.asarray(orjson.loads(event.data), dtype=np.float64))}


def no_fetch(event: PayloadEvent) -> PayloadEvent:
    raise AssertionError(event)


def spec(lateness: float = 0.0, sample: int = 10_000, fingerprint: str = "f", **more: Any) -> MonitorSpec:
    summariser = Summariser(DETECTOR, sample)

    def make(state: Mapping[str, Any] | None) -> SummaryWindow:
        return SummaryWindow(SECONDS, lateness, summariser, state)

    return MonitorSpec("drift", "ns", "m", DETECTOR, FEATURES, make, fingerprint, summariser=summariser, **more)


def routes(*specs: MonitorSpec) -> list[ModelRoute]:
    return [
        ModelRoute("m", "ns", {"model": "m"}, "", (Feed(PlainColumns(), None, specs),)),
        ModelRoute("other", "ns", {"model": "other"}, "", ()),
    ]


def payload(partition: int, offset: int, time: float, rows: Array, model: str = "m") -> Delivery:
    headers = {
        "ce_type": "org.kubeflow.serving.inference.request", "ce_source": "s", "ce_id": f"{partition}-{offset}",
        "ce_modelid": model,
    }  # fmt: skip
    return Delivery(f"payloads/{partition}", offset, Record(None, headers, orjson.dumps(rows.tolist()), time))


Log = list[list[Delivery]]


def spread(times: Sequence[float], places: Sequence[int], partitions: int, seed: int = 0) -> Log:
    """Events of one to three rows at these times, in these partitions."""
    logs: Log = [[] for _ in range(partitions)]
    rng = np.random.default_rng(seed)
    for i, (time, place) in enumerate(zip(times, places, strict=True)):
        logs[place].append(payload(place, len(logs[place]), time, table(int(rng.integers(1, 4)), seed + i + 1)))
    return logs


class Workers:
    """Payload partitions and the topic of summaries, each read by somebody who may die at any time.

    A step reads some deliveries, publishes what came of them, and commits; death comes before, in between, or not.
    """

    def __init__(self, logs: Log, monitor: MonitorSpec, patience: float = 10.0) -> None:
        self.logs, self.monitor, self.patience = logs, monitor, patience
        self.names = [f"payloads/{i}" for i in range(len(logs))]
        self.committed: dict[str, Checkpoint] = {}
        self.summaries: list[Delivery] = []
        self.findings: dict[str, Finding] = {}
        self.readers: dict[str, tuple[Pipeline, int]] = {}
        self.merging: tuple[MergePipeline, int] | None = None
        self.now = 1000.0

    def read(self, place: int, n: int, dies: str = "") -> bool:
        """Returns whether something was there."""
        name = self.names[place]
        if name not in self.readers:
            reader, saved = Pipeline(routes(self.monitor), decode, 50, no_fetch), self.committed.get(name)
            reader.assign(name, saved)
            self.readers[name] = reader, max(0, saved.offset - 100) if saved else 0
        reader, at = self.readers[name]
        block = self.logs[place][at : at + n]
        outcome = reader.process(name, block)
        assert not outcome.findings
        assert not outcome.dead_letters
        self.readers[name] = reader, at + len(block)
        self._tell(name, outcome.parts, dies)
        return bool(block)

    def idle(self, place: int, dies: str = "") -> None:
        name = self.names[place]
        reader, _ = self.readers[name]
        self._tell(name, reader.quiet([name], self.now).parts, dies)

    def _tell(self, name: str, parts: Sequence[Part], dies: str) -> None:
        if dies != "before":
            for part in parts:
                self.summaries.append(Delivery("summaries/0", len(self.summaries), to_record(part, self.now)))
            checkpoint = self.readers[name][0].checkpoint(name)
            if dies != "between" and checkpoint is not None:
                self.committed[name] = checkpoint
        if dies:
            del self.readers[name]

    def merge(self, n: int, dies: str = "") -> bool:
        name = "summaries/0"
        if self.merging is None:
            made, saved = MergePipeline([self.monitor], self.names, self.patience), self.committed.get(name)
            made.assign(name, saved)
            self.merging = made, saved.offset if saved else 0
        made, at = self.merging
        block = self.summaries[at : at + n]
        outcome = made.process(name, block)
        assert not outcome.dead_letters
        self.merging = made, at + len(block)
        if dies != "before":
            for finding in outcome.findings:
                self.findings.setdefault(finding.id, finding)
            checkpoint = made.checkpoint(name)
            if dies != "between" and checkpoint is not None:
                self.committed[name] = checkpoint
        if dies:
            self.merging = None
        return bool(block)

    def finish(self) -> list[Finding]:
        for place in range(len(self.logs)):
            while self.read(place, 1000):
                pass
        while self.merge(1000):
            pass
        return sorted(self.findings.values(), key=lambda finding: finding.start)


def closing(logs: Log) -> Log:
    """One more event in each partition, long after all."""
    return [[*log, payload(i, len(log), 1e6, table(1))] for i, log in enumerate(logs)]


def told(finding: Finding) -> dict[str, Any]:
    return finding.to_dict()


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    partitions=st.integers(1, 4),
    times=st.lists(st.integers(0, 600), min_size=1, max_size=60),
    seed=st.integers(0, 1000),
)
def test_deaths_at_any_point_change_no_finding(
    data: st.DataObject, partitions: int, times: list[int], seed: int
) -> None:
    """The events come in any order: some late, some in time, and the windows hold what they held without deaths."""
    rng = np.random.default_rng(seed)
    logs = closing(spread(times, rng.integers(0, partitions, len(times)).tolist(), partitions, seed))
    monitor = spec(lateness=90.0, sample=20)
    wanted = Workers(logs, monitor).finish()
    workers = Workers(logs, monitor)
    for _ in range(data.draw(st.integers(0, 80))):
        who, n = int(rng.integers(0, partitions + 1)), int(rng.integers(1, 8))
        dies = str(rng.choice(["", "", "before", "between", "after"]))
        if who == partitions:
            workers.merge(n, dies)
        else:
            workers.read(who, n, dies)
    found = workers.finish()
    assert [told(f) for f in found] == [told(f) for f in wanted]
    assert len({f.id for f in found}) == len(found)


@settings(max_examples=30, deadline=None)
@given(partitions=st.integers(1, 5), seed=st.integers(0, 1000), n=st.integers(1, 200))
def test_findings_are_those_of_one_worker_on_all_data(partitions: int, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 500, n)).tolist()
    found = Workers(closing(spread(times, rng.integers(0, partitions, n).tolist(), partitions, seed)), spec()).finish()
    alone = Workers(closing(spread(times, [0] * n, 1, seed)), spec()).finish()
    assert [(f.id, f.start, f.end, f.time, f.events, f.text, f.alarm) for f in found] == [
        (f.id, f.start, f.end, f.time, f.events, f.text, f.alarm) for f in alone
    ]
    plain = TimeWindow(SECONDS)
    rows = [
        Rows(PlainColumns().rows(decode_of(d)), "p/0", d.offset, d.record.timestamp)
        for d in spread(times, [0] * n, 1, seed)[0]
    ]
    batches = [*plain.push(*rows, Rows(table(1), "p/0", n, 1e6))]
    assert len(batches) == len(found)
    for finding, batch in zip(found, batches, strict=True):
        verdict = DETECTOR.predict(batch.x)
        assert (finding.verdict.state, finding.verdict.n) == (verdict.state, verdict.n)
        assert (finding.verdict.statistic, finding.verdict.p_val) == (verdict.statistic, verdict.p_val)
        assert finding.verdict.features == verdict.features


def decode_of(delivery: Delivery) -> Tensors:
    return {"x": Tensor("x", np.asarray(orjson.loads(delivery.record.value or b""), dtype=np.float64))}


def test_a_window_waits_for_every_partition_and_no_longer() -> None:
    workers = Workers(spread([10, 70, 12, 80, 130], [0, 0, 1, 1, 0], 2), spec())
    workers.read(0, 10)
    workers.merge(10)
    assert not workers.findings
    workers.read(1, 1)
    workers.merge(10)
    assert not workers.findings
    workers.read(1, 1)
    workers.merge(10)
    (finding,) = workers.findings.values()
    assert (finding.start.timestamp(), finding.events) == (0.0, 2)
    assert finding.first.partition == "payloads/0"
    assert finding.last.partition == "payloads/1"


def test_a_partition_in_which_nothing_comes_holds_no_window_for_ever() -> None:
    workers = Workers(spread([10, 70], [0, 0], 2), spec())
    workers.read(0, 10)
    workers.read(1, 10)
    workers.idle(1)  # at the time of the part: more may be on its way
    workers.merge(10)
    assert not workers.findings
    workers.now += 9.9
    workers.idle(1)
    workers.merge(10)
    assert not workers.findings
    workers.now += 10.1
    workers.idle(1)
    workers.merge(10)
    (finding,) = workers.findings.values()
    assert finding.events == 1
    assert "partitions" not in finding.text


def test_what_was_said_before_a_window_came_does_not_count_for_it() -> None:
    """A partition that was idle for an hour may be the next to get what the sidecar kept for that hour."""
    workers = Workers(spread([10, 70, 20, 80], [0, 0, 1, 1], 2), spec())
    late = workers.logs[1]
    workers.logs[1] = []
    workers.read(1, 1)
    workers.now += 3600.0
    workers.idle(1)
    workers.logs[1] = late
    workers.read(0, 10)
    workers.merge(10)
    assert not workers.findings
    workers.read(1, 10)
    workers.merge(10)
    assert [finding.events for finding in workers.findings.values()] == [2]


def test_a_partition_with_an_open_window_is_not_idle() -> None:
    workers = Workers(spread([10, 70, 20], [0, 0, 1], 2), spec())
    workers.read(0, 10)
    workers.read(1, 10)
    workers.idle(1)
    workers.now += 35.0
    workers.idle(1)
    workers.merge(10)
    assert not workers.findings
    workers.now += 10.0  # its watermark, 20, and 45 seconds of our clock: its part of the window is over
    workers.idle(1)
    workers.merge(10)
    assert [finding.events for finding in workers.findings.values()] == [2]


def test_idle_partitions_say_so_now_and_then() -> None:
    workers = Workers([[]], spec())
    workers.read(0, 1)
    for _ in range(100):
        workers.idle(0)
        workers.now += 1.0
    assert [d.record.headers["ce_type"] for d in workers.summaries] == [IDLE] * 10
    assert len({d.record.headers["ce_id"] for d in workers.summaries}) == 10


def test_other_models_events_tell_the_time() -> None:
    logs = spread([10, 70, 20], [0, 0, 1], 2)
    logs[1].append(payload(1, 1, 65.0, table(1), model="other"))
    workers = Workers(logs, spec())
    assert [finding.events for finding in workers.finish()] == [2]
    logs[1][1] = payload(1, 1, 55.0, table(1), model="other")
    assert not Workers(logs, spec()).finish()
    logs[1][1] = payload(1, 1, 65.0, table(1), model="other")
    assert not Workers(logs, spec(lateness=10.0)).finish()


def test_the_end_of_a_window_without_rows_is_told_once() -> None:
    workers = Workers(spread([10, 200, 210, 230, 250], [0] * 5, 1), spec())
    while workers.read(0, 1):
        pass
    kinds = [(d.record.headers["ce_type"], from_record(d.record).number) for d in workers.summaries]
    assert kinds == [(PASSED, -1), (SUMMARY, 0), (PASSED, 2), (SUMMARY, 3)]


def test_rows_that_come_after_the_window_was_judged_are_counted() -> None:
    merging = MergePipeline([spec()], ["payloads/0", "payloads/1"])
    merging.assign("summaries/0", None)
    parts = [part(0, 5), part(0, 6, rows=False), part(1, 9, rows=False), part(1, 5, n=3), part(0, 5)]
    deliveries = [Delivery("summaries/0", i, to_record(made, 0.0)) for i, made in enumerate(parts)]
    outcome = merging.process("summaries/0", deliveries)
    assert len(outcome.findings) == 1
    assert outcome.tally.late["drift"] == 3
    assert dict(outcome.tally.summaries) == {("drift", "merged"): 1, ("drift", "late"): 1, ("drift", "duplicate"): 1}


def part(partition: int, number: int, *, rows: bool = True, n: int = 2, fingerprint: str = "f") -> Part:
    """Of a window, made as a worker makes it."""
    window = SummaryWindow(SECONDS, 0.0, Summariser(DETECTOR, 50))
    name, start = f"payloads/{partition}", number * SECONDS
    batches = [*window.push(Rows(table(n), name, number, start + 1)), *window.reach(start + SECONDS)]
    return Part("drift", fingerprint, name, number, SECONDS, batches[0] if rows else None)


def test_a_partition_that_stays_behind_costs_bounded_memory() -> None:
    merging = MergePipeline([spec()], ["payloads/0", "payloads/1"])
    merging.assign("summaries/0", None)
    parts = [to_record(part(0, number), 0.0) for number in range(MOST_WAITING + 2)]
    outcome = merging.process("summaries/0", [Delivery("summaries/0", i, record) for i, record in enumerate(parts)])
    assert [finding.start.timestamp() for finding in outcome.findings] == [0.0, 60.0]
    assert "(1 of 2 partitions had not come so far)" in outcome.findings[0].text
    assert outcome.tally.waiting == {"drift": MOST_WAITING}
    checkpoint = merging.checkpoint("summaries/0")
    assert checkpoint is not None
    assert checkpoint.offset == 2


def test_a_new_partition_is_waited_for_once_it_has_spoken() -> None:
    merging = MergePipeline([spec()], ["payloads/0"])
    merging.assign("summaries/0", None)
    said = [part(0, 0), part(7, 0, rows=False), part(0, 1), part(7, 1)]
    numbers = []
    for i, made in enumerate(said):
        outcome = merging.process("summaries/0", [Delivery("summaries/0", i, to_record(made, 0.0))])
        numbers += [(i, finding.events) for finding in outcome.findings]
    assert numbers == [(0, 1), (3, 2)]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (part(0, 1, fingerprint="before the change"), "its settings changed"),
        (part(0, 1)._replace(monitor="gone"), "it is not configured"),
        (part(0, 1)._replace(partition="elsewhere/0"), "another topic"),
    ],
)
def test_summaries_of_before_a_change_are_left_out(made: Part, why: str) -> None:
    merging = MergePipeline([spec()], ["payloads/0"])
    merging.assign("summaries/0", None)
    outcome = merging.process("summaries/0", [Delivery("summaries/0", 0, to_record(made, 0.0))])
    assert (outcome.findings, outcome.dead_letters) == ([], [])
    assert outcome.tally.skipped["foreign_summary"] == 1, why


def test_an_internal_error_costs_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    merging = MergePipeline([spec()], ["payloads/0"])
    merging.assign("summaries/0", None)
    take = Merger.take

    def broken(self: Merger, made: Part, offset: int, time: float) -> str:
        if offset == 0:
            raise ZeroDivisionError("boom")
        return take(self, made, offset, time)

    monkeypatch.setattr(Merger, "take", broken)
    records = [to_record(part(0, number), 0.0) for number in (5, 6)]
    outcome = merging.process("summaries/0", [Delivery("summaries/0", i, record) for i, record in enumerate(records)])
    assert [letter.reason for letter in outcome.dead_letters] == ["internal_error"]
    assert len(outcome.findings) == 1


def test_alarms_wait_for_consecutive_windows_also_after_a_restart() -> None:
    logs: Log = [[], []]
    for i in range(8):
        rows = table(60, i) + np.array([5.0 if 2 <= i < 6 else 0.0, 0.0])
        logs[i % 2].append(payload(i % 2, len(logs[i % 2]), 60.0 * i + 1, rows))
    logs = closing(logs)
    for deaths in (False, True):
        workers = Workers(logs, spec(consecutive=2))
        while any([workers.read(0, 1), workers.read(1, 1), workers.merge(1, "after" if deaths else "")]):
            pass
        found = workers.finish()
        assert [finding.verdict.state == "alert" for finding in found] == [False] * 2 + [True] * 4 + [False] * 2
        assert [finding.alarm for finding in found] == [False] * 3 + [True] * 3 + [False] * 2


def test_a_log_read_to_its_end_waits_for_nobody() -> None:
    logs = spread([10, 70, 130, 20], [0, 0, 0, 1], 3)
    pipeline = Pipeline(routes(spec()), decode, 50, no_fetch)
    merging = MergePipeline([spec()], [f"payloads/{i}" for i in range(3)])
    merging.assign("here", None)
    findings = []
    for i, log in enumerate(logs):
        pipeline.assign(f"payloads/{i}", None)
        findings += merging.merge("here", pipeline.process(f"payloads/{i}", log).parts).findings
    assert not findings
    findings += merging.merge("here", pipeline.settle().parts).findings
    assert [finding.events for finding in findings] == [2, 1]


def test_windows_are_named_as_those_of_one_partition() -> None:
    assert part(0, 3).batch is not None
    plain = TimeWindow(SECONDS)
    (batch,) = plain.push(Rows(table(1), "p/0", 0, 181.0), Rows(table(1), "p/0", 1, 999.0))
    made = part(0, 3).batch
    assert made is not None
    assert batch.ident == made.ident == ident(3, SECONDS)


@given(st.floats(1e-3, 1e5), st.integers(0, 10**6), st.floats(0, 1))
def test_the_boundary_is_where_windows_close(seconds: float, number: int, beyond: float) -> None:
    time = (number + beyond) * seconds
    found = boundary(time, seconds)
    assert found * seconds <= time < (found + 1) * seconds


class TestRecords:
    def test_there_and_back(self) -> None:
        for made in (part(0, 5), part(3, 7, rows=False), part(0, 5)._replace(batch=None, idle=12.5)):
            found = from_record(to_record(made, 99.0))
            assert found[:5] == made[:5]
            assert found.idle == made.idle
            if made.batch is not None:
                assert found.batch is not None
                assert found.batch[1:-1] == made.batch[1:-1]
                assert found.summary.n == made.summary.n
                assert np.array_equal(found.summary.counts, made.summary.counts)
                assert np.array_equal(found.summary.sample.keys, made.summary.sample.keys)
                assert np.array_equal(found.summary.sample.rows, made.summary.sample.rows)

    def test_said_again_it_has_the_same_id(self) -> None:
        records = [to_record(part(0, 5), now) for now in (1.0, 2.0)]
        assert len({record.headers["ce_id"] for record in records}) == 1
        others = [part(0, 6), part(1, 5), part(0, 5, rows=False), part(0, 5, fingerprint="g")]
        assert len({to_record(other, 1.0).headers["ce_id"] for other in others} | {records[0].headers["ce_id"]}) == 5

    def test_it_is_no_larger_than_stated(self) -> None:
        rng = np.random.default_rng(0)
        features = tuple(Feature(f"x{i}") for i in range(20))
        detector = TabularDrift().fit(rng.normal(size=(3000, 20)), features)
        summariser = Summariser(detector, 500)
        window = SummaryWindow(SECONDS, 0.0, summariser)
        rows = [Rows(rng.normal(size=(1, 20)), "payloads/0", i, 1.0) for i in range(5000)]
        (batch,) = [*window.push(*rows), *window.reach(60.0)]
        record = to_record(Part("drift", "f", "payloads/0", 0, SECONDS, batch), 0.0)
        size = len(record.value or b"")
        assert 20 * 500 * 8 * 0.8 < size < largest_record(20, 500, summariser.cells)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_an_error_in_words(self, value: bytes) -> None:
        with pytest.raises(InvalidEvent):
            from_record(Record("drift", {}, value, 0.0))

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_a_damaged_record_is_an_error_or_another_part(self, data: st.DataObject) -> None:
        value = bytearray(to_record(part(0, 5), 0.0).value or b"")
        for _ in range(data.draw(st.integers(1, 4))):
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
        merging = MergePipeline([spec()], ["payloads/0", "payloads/1"])
        merging.assign("summaries/0", None)
        outcome = merging.process("summaries/0", [Delivery("summaries/0", 0, Record("drift", {}, bytes(value), 0.0))])
        assert len(outcome.dead_letters) <= 1

    @pytest.mark.parametrize(
        "change",
        [
            {"sample": 0}, {"sample": 10**12}, {"cells": 2**40}, {"columns": -1}, {"width": 3}, {"n": 1}, {"n": "2"},
            {"number": 1e3}, {"number": 10**30}, {"seconds": 0.0}, {"seconds": None}, {"partition": 7}, {"time": "x"},
            {"first": [1]}, {"events": -1}, {"columns": 1}, {"idle": 1e300},
        ],
    )  # fmt: skip
    def test_sizes_are_not_believed(self, change: dict[str, Any]) -> None:
        line, _, packed = (to_record(part(0, 5), 0.0).value or b"").partition(b"\n")
        value = json.dumps({**json.loads(line), **change}).encode() + b"\n" + packed
        with pytest.raises(InvalidEvent) as caught:
            from_record(Record("drift", {}, value, 0.0))
        assert caught.value.reason == "invalid_summary"

    def test_of_other_columns_it_is_a_dead_letter(self) -> None:
        other = dataclasses.replace(spec(), features=FEATURES[:1])
        merging = MergePipeline([other], ["payloads/0"])
        merging.assign("summaries/0", None)
        outcome = merging.process("summaries/0", [Delivery("summaries/0", 0, to_record(part(0, 5), 0.0))])
        (letter,) = outcome.dead_letters
        assert "2 columns, the monitor's are 1" in letter.message
