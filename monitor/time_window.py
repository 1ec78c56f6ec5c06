"""Windows of so much event time, with allowed lateness. No clock and no I/O in here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.event_time import EventTime, ident
from monitor.windows import Batch, Rows
from sinks.base import Position


class _Members:
    """The first ``room`` rows of a window, and the events they came with."""

    def __init__(self, first: int, room: int) -> None:
        self.first, self._room = first, room
        self.events: list[tuple[Rows, int]] = []

    def add(self, rows: Rows) -> int:
        taken = min(len(rows.x), self._room)
        if taken:
            self.events.append((rows, taken))
            self._room -= taken
        return len(rows.x) - taken


class TimeWindow(EventTime[_Members]):
    """Tumbling windows of ``seconds`` of event time, closed when the newest event is ``lateness`` past their end.

    Windows begin at multiples of ``seconds`` since the epoch. A window keeps its first ``max_rows`` rows; what is
    beyond is counted in ``overflow``. A window without rows is not answered.

    >>> window = TimeWindow(60.0)
    >>> [b.ident for t in (0.0, 59.0, 61.0) for b in window.push(Rows(np.zeros((1, 2)), "t/0", int(t), t))]
    ['0+60']
    """

    def __init__(
        self, seconds: float, lateness: float = 0.0, max_rows: int = 100_000, state: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(seconds, lateness, state)
        self.max_rows = max_rows

    def _begin(self, rows: Rows) -> _Members:
        return _Members(rows.offset, self.max_rows)

    def _batch(self, index: int, kept: _Members) -> Batch:
        members = kept.events
        head, (tail, tail_rows) = members[0][0], members[-1]
        return Batch(
            np.concatenate([rows.x[:room] for rows, room in members]),
            Position(head.partition, head.offset, 0),
            Position(tail.partition, tail.offset, tail_rows - 1),
            index * self.seconds,
            (index + 1) * self.seconds,
            max(rows.time for rows, _ in members),
            len(members),
            ident(index, self.seconds),
        )
