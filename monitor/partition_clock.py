"""Event time in a partition, for monitors whose windows are merged with those of other partitions. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from monitor.event_time import boundary
from monitor.events import Delivery, PayloadEvent
from monitor.findings import EventRows, MonitorSpec
from monitor.judge import SummingJudge
from monitor.partition import Gathered, PartitionState
from monitor.routing import Feed
from monitor.windows import Rows

_NO_ROWS = np.empty((0, 0))


class PartitionClock:
    """Tells such monitors that event time goes on where no rows of theirs come.

    Other models' events tell it, too: all partitions wait for each other, and a model may be rare in one of them.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = [feed for feed in feeds if feed.summed]
        self._specs = [spec for feed in self._feeds for spec in feed.monitors]

    def start(self, state: PartitionState) -> None:
        """Begin with a partition: its monitors have something to say even if nothing comes."""
        for spec in self._specs:
            state.judge(spec)
        state.due = -math.inf if self._specs else math.inf

    def strike(self, state: PartitionState, delivery: Delivery, event: PayloadEvent, gathered: Gathered) -> None:
        """It is ``event.time``: some window may be over."""
        rows = Rows(_NO_ROWS, delivery.partition, delivery.offset, event.time)
        for feed in self._feeds:
            gathered.add(feed, EventRows(rows, event))
        state.due = min(_next_end(_judge(state, spec), event.time) for spec in self._specs)

    def settle(self, states: Collection[PartitionState]) -> None:
        """Nothing more will come: what is over in any of the partitions is over in all."""
        for spec in self._specs:
            newest = max((_judge(state, spec).window.watermark for state in states), default=-math.inf)
            for state in states:
                _judge(state, spec).reach(newest)


def _judge(state: PartitionState, spec: MonitorSpec) -> SummingJudge:
    judge = state.judge(spec)
    assert isinstance(judge, SummingJudge)
    return judge


def _next_end(judge: SummingJudge, time: float) -> float:
    """The event time that closes the monitor's next window, seen from ``time``."""
    window = judge.window
    return (boundary(time - window.lateness, window.seconds) + 1) * window.seconds + window.lateness
