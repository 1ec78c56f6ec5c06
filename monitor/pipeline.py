"""Select -> decode -> window -> detect -> finding. Pure: blocks of deliveries in, findings and counts out.

What a block leads to depends on the log alone, never on the clock or on where blocks begin: so a worker that is
killed and starts again from its checkpoint reaches the same findings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array
from monitor.codecs.base import Tensors
from monitor.codecs.combined import split
from monitor.codecs.detect import REASONS as PAYLOAD_REASONS
from monitor.codecs.detect import is_probe
from monitor.events import (
    Checkpoint,
    DeadLetter,
    Delivery,
    Finding,
    InvalidEvent,
    Partition,
    PayloadEvent,
    Record,
    payload_event,
)
from monitor.findings import EventRows, MonitorSpec
from monitor.joining import Joiner, Seen
from monitor.judge import InstanceJudge, Judge, make_judge
from monitor.routing import Feed, ModelRoute, Router, Target
from monitor.windows import Rows

REASONS = PAYLOAD_REASONS | {
    "bad_dataref", "detector_failed", "internal_error", "invalid_time", "payload_mismatch", "payload_missing",
    "row_mismatch", "tombstone", "unknown_type",
}  # fmt: skip
"""Every reason of a dead letter."""

GATHERED_ROWS = 2048
"""Rows that are decoded before their monitors judge them."""

Decode = Callable[[PayloadEvent, str], Tensors]
Fetch = Callable[[PayloadEvent], PayloadEvent]


@dataclass(slots=True)
class Tally:
    """What happened to the events of a block, in numbers. ``events`` counts by (namespace, model, side)."""

    events: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    scores: list[tuple[str, Array, float | None]] = field(default_factory=list)
    seconds: list[tuple[str, float]] = field(default_factory=list)


class Outcome(NamedTuple):
    """What came of a block, or of the passing of time."""

    findings: list[Finding]
    dead_letters: list[DeadLetter]
    tally: Tally


class _PartitionState:
    """Everything that is remembered of one partition."""

    def __init__(self, partition: Partition, lookback: int, checkpoint: Checkpoint | None) -> None:
        saved = json.loads(checkpoint.state) if checkpoint and checkpoint.state else {}
        self.partition = partition
        self.resumed = int(saved.get("next", checkpoint.offset if checkpoint else 0))
        self.next = self.resumed
        self.position = -1
        self.seen = Seen(lookback)
        self.lookback = lookback
        self.saved: Mapping[str, Any] = saved.get("monitors", {})
        self.judges: dict[str, Judge] = {}
        self.joiners: dict[int, Joiner[tuple[EventRows, Array]]] = {}
        self.widths: dict[int, int] = {}

    def judge(self, spec: MonitorSpec) -> Judge:
        judge = self.judges.get(spec.name)
        if judge is None:
            judge = make_judge(spec, self.partition, self.saved.get(spec.name), self.resumed)
            self.judges[spec.name] = judge
        return judge

    def joiner(self, feed: Feed) -> Joiner[tuple[EventRows, Array]]:
        return self.joiners.setdefault(id(feed), Joiner(self.lookback))


class _Gathered:
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

    def judge(self, state: _PartitionState, outcome: Outcome) -> None:
        """Hand everything to the monitors."""
        for feed, events in self._feeds.values():
            rows = sum([len(event.rows.x) for event in events if event.rows.offset >= state.resumed])
            for spec in feed.monitors:
                judge = state.judge(spec)
                outcome.findings.extend(judge.take(events))
                outcome.tally.rows[spec.name] += rows
                _drain(spec, judge, state.resumed, outcome)
        self.rows = 0
        self._feeds.clear()


class Pipeline:
    """All monitors over all assigned partitions.

    Parameters
    ----------
    routes : the models and their feeds; an event goes to every model that it matches.
    decode : ``(event, protocol) -> tensors``; raises :class:`InvalidEvent`.
    lookback : offsets within which duplicates and pairs are found. The source must deliver as many before the
        committed offset after a restart.
    fetch : gives an event that says where its body is (``dataref``) the body; raises :class:`InvalidEvent`.
    """

    def __init__(self, routes: Sequence[ModelRoute], decode: Decode, lookback: int, fetch: Fetch) -> None:
        self._router = Router(routes)
        self._names = {spec.name for route in routes for feed in route.feeds for spec in feed.monitors}
        self._decode, self._fetch = decode, fetch
        self._lookback = lookback
        self._partitions: dict[Partition, _PartitionState] = {}

    def assign(self, partition: Partition, checkpoint: Checkpoint | None) -> None:
        """Begin with the partition, where the checkpoint says or at its first record."""
        self._partitions[partition] = _PartitionState(partition, self._lookback, checkpoint)

    def revoke(self, partition: Partition) -> None:
        """Forget the partition: somebody else has it."""
        self._partitions.pop(partition, None)

    def process(self, partition: Partition, deliveries: Iterable[Delivery]) -> Outcome:
        """Judge consecutive deliveries of an assigned partition."""
        state = self._partitions[partition]
        outcome = Outcome([], [], Tally())
        gathered = _Gathered()
        for delivery in deliveries:
            try:
                self._take(state, delivery, gathered, outcome)
            except InvalidEvent as error:
                self._reject(state, delivery, error, "", outcome)
            except Exception as error:  # a defect of ours: one event must not stop all that come after it
                told = InvalidEvent("internal_error", f"please report this: {type(error).__name__}: {error}")
                self._reject(state, delivery, told, "", outcome)
            state.position = delivery.offset
            if gathered.rows >= GATHERED_ROWS:
                gathered.judge(state, outcome)
        gathered.judge(state, outcome)
        state.next = max(state.next, state.position + 1)
        return outcome

    def expire(self, now: float) -> Outcome:
        """Judge what is over at ``now``; call it only when nothing is left to read."""
        outcome = Outcome([], [], Tally())
        for state in self._partitions.values():
            for judge in state.judges.values():
                outcome.findings.extend(judge.expire(now))
                _drain(judge.spec, judge, state.resumed, outcome)
        return outcome

    def checkpoint(self, partition: Partition) -> Checkpoint | None:
        """Where to resume, or ``None`` while the state of the last checkpoint is still being rebuilt."""
        state = self._partitions[partition]
        if state.position + 1 < state.resumed:
            return None
        judges = state.judges
        lows = [low for judge in judges.values() if (low := judge.window.low()) is not None]
        saved = {name: known for name, known in state.saved.items() if name in self._names}
        monitors = {**saved, **{name: judge.state() for name, judge in judges.items()}}
        text = json.dumps({"next": state.next, "monitors": monitors}, separators=(",", ":"))
        return Checkpoint(min(lows, default=state.next), text)

    def fill(self) -> Mapping[str, float]:
        """How full each monitor's open window is, the fullest of its partitions."""
        filled: dict[str, float] = {}
        for state in self._partitions.values():
            for name, judge in state.judges.items():
                filled[name] = max(filled.get(name, 0.0), judge.window.fill())
        return filled

    def _take(
        self,
        state: _PartitionState,
        delivery: Delivery,
        gathered: _Gathered,
        outcome: Outcome,
    ) -> None:
        event = payload_event(delivery)
        fresh = delivery.offset >= state.resumed
        tally = outcome.tally
        if state.seen.add(event[:3], delivery.offset):
            if fresh:
                tally.skipped["duplicate"] += 1
            return
        for what in event.derived:
            tally.skipped[what] += fresh
        targets = self._router.targets(event)
        if not targets:
            tally.skipped["unknown_model"] += fresh
        elif event.side == "exchange":
            for part in split(self._fetch(event) if "ce_dataref" in event.headers else event):
                self._judge(state, self._router.targets(part), part, delivery, gathered, outcome)
        else:
            self._judge(state, targets, event, delivery, gathered, outcome)

    def _judge(
        self,
        state: _PartitionState,
        targets: Sequence[Target],
        event: PayloadEvent,
        delivery: Delivery,
        gathered: _Gathered,
        outcome: Outcome,
    ) -> None:
        fresh, tally = delivery.offset >= state.resumed, outcome.tally
        for target in targets:
            route = target.route
            tally.events[route.namespace, route.name, event.side] += fresh
            if not target.feeds:
                continue
            if event.status >= 400:
                tally.skipped["error_status"] += fresh
                continue
            try:
                self._feeds(state, target, event, delivery, gathered, outcome)
            except InvalidEvent as error:
                if error.reason in ("empty_body", "unknown_protocol") and is_probe(event):
                    tally.skipped["probe"] += fresh
                else:
                    self._reject(state, delivery, error, route.name, outcome)

    def _feeds(
        self,
        state: _PartitionState,
        target: Target,
        event: PayloadEvent,
        delivery: Delivery,
        gathered: _Gathered,
        outcome: Outcome,
    ) -> None:
        """Decode the event once, and hand it to every feed; what is wrong for one feed may be right for another."""
        if "ce_dataref" in event.headers and event.data == b"":
            event = self._fetch(event)
        tensors = self._decode(event, target.route.protocol)
        empty = False
        refused: dict[tuple[str, str], list[str]] = {}
        for feed, columns in target.feeds:
            try:
                rows = Rows(columns.rows(tensors), delivery.partition, delivery.offset, event.time)
                if not len(rows.x):
                    empty = True
                    continue
                taken: EventRows | None = EventRows(rows, event)
                if feed.joined:
                    taken = self._join(state, feed, EventRows(rows, event), outcome.tally)
                if taken is not None:
                    _check_width(state, feed, taken.rows.x.shape[1])
                    gathered.add(feed, taken)
            except InvalidEvent as error:
                refused.setdefault((error.reason, str(error)), []).append(feed.names)
        if empty:
            outcome.tally.skipped["empty"] += delivery.offset >= state.resumed
        for why, names in refused.items():
            whose = target.route.name if len(names) == len(target.feeds) else ", ".join(names)
            self._reject(state, delivery, InvalidEvent(*why), whose, outcome)

    @staticmethod
    def _join(state: _PartitionState, feed: Feed, taken: EventRows, tally: Tally) -> EventRows | None:
        rows, event = taken
        joiner = state.joiner(feed)
        given_up = joiner.unpaired
        pair = joiner.add(event.request_id, event.side, rows.offset, (taken, rows.x))
        if joiner.unpaired > given_up and rows.offset >= state.resumed:
            tally.skipped["unpaired"] += joiner.unpaired - given_up
        if pair is None:
            return None
        (request, x), (_, y) = pair
        if len(x) != len(y):
            raise InvalidEvent("row_mismatch", f"the request has {len(x)} rows, its response {len(y)}")
        return EventRows(rows._replace(x=np.hstack([x, y])), request.event)

    def _reject(
        self, state: _PartitionState, delivery: Delivery, error: InvalidEvent, model: str, outcome: Outcome
    ) -> None:
        if delivery.offset < state.resumed:  # told before the restart
            return
        outcome.tally.invalid[error.reason] += 1
        outcome.dead_letters.append(DeadLetter(delivery, error.reason, str(error), model))


def _check_width(state: _PartitionState, feed: Feed, width: int) -> None:
    """Without configured columns any payload becomes rows: they must have the columns of the detector."""
    wanted = feed.width or state.widths.setdefault(id(feed), width)
    if width != wanted:
        raise InvalidEvent("wrong_columns", f"the rows have {width} columns, the detector was fitted on {wanted}")


def _drain(spec: MonitorSpec, judge: Judge, resumed: int, outcome: Outcome) -> None:
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
