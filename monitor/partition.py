"""What is remembered of one partition, and the rows on their way to its monitors. Pure."""

from __future__ import annotations

import math

import numpy as np

from detectors.base import Array
from monitor.events import Checkpoint, DeadLetter, Delivery, InvalidEvent, Partition, PayloadEvent, Record
from monitor.findings import EventRows, MonitorSpec
from monitor.joining import Joiner, Seen
from monitor.judge import InstanceJudge, Judge, SummingJudge
from monitor.judging import make_judge
from monitor.outcome import Outcome, Tally
from monitor.progress import Progress
from monitor.routing import Feed


class PartitionState(Progress):
    """Everything that is remembered of one partition."""

    def __init__(self, partition: Partition, lookback: int, checkpoint: Checkpoint | None) -> None:
        super().__init__(checkpoint)
        self.partition = partition
        self.seen = Seen(lookback)
        self.lookback = lookback
        self.judges: dict[str, Judge] = {}
        self.joiners: dict[int, Joiner[tuple[EventRows, Array]]] = {}
        self.widths: dict[int, int] = {}
        self.due = math.inf
        """Event time at which windows that are to be merged must be told that it has come."""

    def judge(self, spec: MonitorSpec) -> Judge:
        judge = self.judges.get(spec.name)
        if judge is None:
            judge = make_judge(spec, self.partition, self.saved.get(spec.name), self.resumed)
            self.judges[spec.name] = judge
        return judge

    def joiner(self, feed: Feed) -> Joiner[tuple[EventRows, Array]]:
        return self.joiners.setdefault(id(feed), Joiner(self.lookback))


class Gathered:
    """Rows on their way to the monitors, some at a time: calls are few, and the rows are still in the cache."""

    def __init__(self) -> None:
        self.rows = 0
        self._feeds: dict[int, tuple[Feed, list[EventRows]]] = {}

    def add(self, feed: Feed, taken: EventRows) -> None:
        self.rows += len(taken.rows.x)
        try:
            self._feeds[id(feed)][1].append(taken)
        except KeyError:
            self._feeds[id(feed)] = (feed, [taken])

    def judge(self, state: PartitionState, outcome: Outcome) -> None:
        """Hand everything to the monitors."""
        for feed, events in self._feeds.values():
            fresh = [x for event in events if len(x := event.rows.x) and event.rows.offset >= state.resumed]
            rows = sum(map(len, fresh))
            if rows:
                count_values(feed, np.concatenate(fresh), outcome.tally)
            for spec in feed.monitors:
                judge = state.judge(spec)
                outcome.findings.extend(judge.take(events))
                outcome.tally.rows[spec.name] += rows
                drain(spec, judge, state.resumed, outcome)
        self.rows = 0
        self._feeds.clear()


def count_values(feed: Feed, x: Array, tally: Tally) -> None:
    """Count what is no ordinary value in the rows ``(n, d)``: as a rule there is nothing, which is seen at a glance."""
    finite = np.isfinite(x)
    if not finite.all():
        missing = int(np.isnan(x).sum())
        for spec in feed.monitors:
            tally.missing[spec.name] += missing
            tally.infinite[spec.name] += x.size - int(finite.sum()) - missing
    if feed.coded:
        codes = x[:, feed.coded]
        known = ~np.isfinite(codes) | ((codes >= 0.0) & (codes < feed.levels) & (codes == np.rint(codes)))
        if not known.all():
            unseen = int(known.size - known.sum())
            for spec in feed.monitors:
                tally.unseen[spec.name] += unseen


def check_width(state: PartitionState, feed: Feed, width: int) -> None:
    """Without configured columns any payload becomes rows: they must have the columns of the detector."""
    wanted = feed.width or state.widths.setdefault(id(feed), width)
    if width != wanted:
        raise InvalidEvent("wrong_columns", f"the rows have {width} columns, the detector was fitted on {wanted}")


def drain(spec: MonitorSpec, judge: Judge, resumed: int, outcome: Outcome) -> None:
    """Move a judge's counts into the outcome."""
    tally = outcome.tally
    tally.seconds.extend((spec.name, seconds) for seconds in judge.seconds)
    judge.seconds.clear()
    if judge.window.late:
        tally.late[spec.name] += judge.window.late
        judge.window.late = 0
    if judge.window.overflow:
        tally.overflow[spec.name] += judge.window.overflow
        judge.window.overflow = 0
    if isinstance(judge, SummingJudge):
        outcome.parts.extend(judge.take_parts())
    if isinstance(judge, InstanceJudge):
        tally.scores.extend((spec.name, *scored) for scored in judge.scores)
        judge.scores.clear()
    for failure in judge.failures:
        rows, event = failure.event
        if rows.offset < resumed:  # told before the restart
            continue
        tally.invalid["detector_failed"] += 1
        letter = Delivery(rows.partition, rows.offset, _record(event))
        outcome.dead_letters.append(DeadLetter(letter, "detector_failed", failure.message, spec.name))
    judge.failures.clear()


def _record(event: PayloadEvent) -> Record:
    return Record(event.headers.get("ce_partitionkey"), event.headers, event.data, event.time)
