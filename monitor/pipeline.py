"""Select -> decode -> window -> detect -> finding. Pure: blocks of deliveries in, findings and counts out.

What a block leads to depends on the log alone, never on the clock or on where blocks begin: so a worker that is
killed and starts again from its checkpoint reaches the same findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from monitor.codecs.base import Tensors
from monitor.codecs.combined import split
from monitor.codecs.detect import is_probe
from monitor.events import (
    Checkpoint,
    Delivery,
    InvalidEvent,
    Partition,
    PayloadEvent,
)
from monitor.findings import EventRows
from monitor.outcome import Outcome, Tally
from monitor.partition import Gathered, PartitionState, check_width, drain
from monitor.partition_clock import PartitionClock
from monitor.routing import Feed, ModelRoute, Router, Target
from monitor.structured import event_of
from monitor.windows import Rows

MAX_ROWS = 200_000
"""An event with more rows is refused: what takes minutes to judge holds up all others."""

GATHERED_ROWS = 2048
"""Rows that are decoded before their monitors judge them."""

Decode = Callable[[PayloadEvent, str], Tensors]
Fetch = Callable[[PayloadEvent], PayloadEvent]


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
        self._clock = PartitionClock([feed for route in routes for feed in route.feeds])
        self._names = {spec.name for route in routes for feed in route.feeds for spec in feed.monitors}
        self._decode, self._fetch = decode, fetch
        self._lookback = lookback
        self._partitions: dict[Partition, PartitionState] = {}

    def assign(self, partition: Partition, checkpoint: Checkpoint | None) -> None:
        """Begin with the partition, where the checkpoint says or at its first record."""
        state = self._partitions[partition] = PartitionState(partition, self._lookback, checkpoint)
        self._clock.start(state)

    def revoke(self, partition: Partition) -> None:
        """Forget the partition: somebody else has it."""
        self._partitions.pop(partition, None)

    def process(self, partition: Partition, deliveries: Iterable[Delivery]) -> Outcome:
        """Judge consecutive deliveries of an assigned partition."""
        state = self._partitions[partition]
        outcome = Outcome.empty()
        gathered = Gathered()
        for delivery in deliveries:
            try:
                self._take(state, delivery, gathered, outcome)
            except Exception as error:
                state.reject(delivery, error, outcome)
            state.position = delivery.offset
            if gathered.rows >= GATHERED_ROWS:
                gathered.judge(state, outcome)
        gathered.judge(state, outcome)
        state.passed()
        return outcome

    def expire(self, now: float) -> Outcome:
        """Judge what is over at ``now``, in epoch seconds; call it only when nothing is left to read."""
        return self._expire(self._partitions.values(), now)

    def quiet(self, partitions: Iterable[Partition], now: float) -> Outcome:
        """Nothing is left to read in these partitions, while others are busy: those wait for them, where they merge.

        Windows that are judged here are left as they are: they wait for the next event or for :meth:`expire`.
        """
        states = [self._partitions[partition] for partition in partitions if partition in self._partitions]
        return self._expire(states, now, summed=True)

    def settle(self) -> Outcome:
        """Nothing more will come in any partition, as of a log that was read to its end: none waits for another."""
        self._clock.settle(self._partitions.values())
        outcome = Outcome.empty()
        for state in self._partitions.values():
            for judge in state.judges.values():
                drain(judge.spec, judge, state.resumed, outcome)
        return outcome

    @staticmethod
    def _expire(states: Iterable[PartitionState], now: float, summed: bool = False) -> Outcome:
        outcome = Outcome.empty()
        for state in states:
            for judge in state.judges.values():
                if summed and judge.spec.summariser is None:
                    continue
                outcome.findings.extend(judge.expire(now))
                drain(judge.spec, judge, state.resumed, outcome)
        return outcome

    def checkpoint(self, partition: Partition) -> Checkpoint | None:
        """Where to resume, or ``None`` while the state of the last checkpoint is still being rebuilt."""
        state = self._partitions[partition]
        judges = state.judges
        lows = [judge.window.low() for judge in judges.values()]
        return state.checkpoint(lows, {name: judge.state() for name, judge in judges.items()}, self._names)

    def fill(self) -> Mapping[str, float]:
        """How full each monitor's open window is, the fullest of its partitions."""
        filled: dict[str, float] = {}
        for state in self._partitions.values():
            for name, judge in state.judges.items():
                filled[name] = max(filled.get(name, 0.0), judge.window.fill())
        return filled

    def _take(
        self,
        state: PartitionState,
        delivery: Delivery,
        gathered: Gathered,
        outcome: Outcome,
    ) -> None:
        event = event_of(delivery)
        fresh = delivery.offset >= state.resumed
        tally = outcome.tally
        if state.seen.add(event[:3], delivery.offset):
            if fresh:
                tally.skipped["duplicate"] += 1
            return
        for what in event.derived:
            tally.skipped[what] += fresh
        if event.time >= state.due:
            self._clock.strike(state, delivery, event, gathered)
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
        state: PartitionState,
        targets: Sequence[Target],
        event: PayloadEvent,
        delivery: Delivery,
        gathered: Gathered,
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
                    state.reject(delivery, error, outcome, route.name)

    def _feeds(
        self,
        state: PartitionState,
        target: Target,
        event: PayloadEvent,
        delivery: Delivery,
        gathered: Gathered,
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
                if len(rows.x) > MAX_ROWS:
                    raise InvalidEvent("too_large", f"{len(rows.x):,} rows, at most {MAX_ROWS:,} an event are judged")
                taken: EventRows | None = EventRows(rows, event)
                if feed.joined:
                    taken = self._join(state, feed, EventRows(rows, event), outcome.tally)
                if taken is not None:
                    check_width(state, feed, taken.rows.x.shape[1])
                    gathered.add(feed, taken)
            except InvalidEvent as error:
                refused.setdefault((error.reason, str(error)), []).append(feed.names)
        if empty:
            outcome.tally.skipped["empty"] += delivery.offset >= state.resumed
        for why, names in refused.items():
            whose = target.route.name if len(names) == len(target.feeds) else ", ".join(names)
            state.reject(delivery, InvalidEvent(*why), outcome, whose)

    @staticmethod
    def _join(state: PartitionState, feed: Feed, taken: EventRows, tally: Tally) -> EventRows | None:
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
