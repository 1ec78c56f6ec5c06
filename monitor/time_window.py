"""Windows of so much event time, with allowed lateness. No clock and no I/O in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from monitor.windows import Batch, Rows
from sinks.base import Position


class TimeWindow:
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
        self.seconds = seconds
        self.lateness = lateness
        self.max_rows = max_rows
        self.late = 0
        self.overflow = 0
        state = state or {"watermark": None, "next": 0, "offset": 0}
        watermark = state["watermark"]
        self._watermark = -np.inf if watermark is None else float(watermark)
        self._next = int(state["next"])  # offsets before it were seen before the restart
        self._from = int(state["offset"])
        self._idle_since: float | None = None
        self._open: dict[int, list[tuple[Rows, int]]] = {}
        self._counts: dict[int, int] = {}

    def push(self, *events: Rows) -> Iterator[Batch]:
        for rows in events:
            if rows.offset >= self._from:
                yield from self._take(rows)

    def _take(self, rows: Rows) -> Iterator[Batch]:
        index = int(rows.time // self.seconds)
        if (index + 1) * self.seconds <= self._watermark:
            if rows.offset >= self._next:
                self.late += len(rows.x)
        else:
            self._add(index, rows)
        self._next = max(self._next, rows.offset + 1)
        self._watermark = max(self._watermark, rows.time - self.lateness)
        self._idle_since = None
        yield from self._close()

    def _add(self, index: int, rows: Rows) -> None:
        count = self._counts.get(index, 0)
        room = min(len(rows.x), self.max_rows - count)
        if rows.offset >= self._next:
            self.overflow += len(rows.x) - room
        if room:
            self._open.setdefault(index, []).append((rows, room))
            self._counts[index] = count + room

    def _close(self) -> Iterator[Batch]:
        for index in sorted(self._open):
            if (index + 1) * self.seconds > self._watermark:
                break
            del self._counts[index]
            yield self._batch(index, self._open.pop(index))

    def _batch(self, index: int, members: list[tuple[Rows, int]]) -> Batch:
        head, (tail, tail_rows) = members[0][0], members[-1]
        return Batch(
            np.concatenate([rows.x[:room] for rows, room in members]),
            Position(head.partition, head.offset, 0),
            Position(tail.partition, tail.offset, tail_rows - 1),
            index * self.seconds,
            (index + 1) * self.seconds,
            max(rows.time for rows, _ in members),
            len(members),
            f"{index * self.seconds:.12g}+{self.seconds:.12g}",
        )

    def expire(self, now: float) -> Iterator[Batch]:
        # Producers' clocks may be behind ours: event time goes on from the watermark at the speed of our clock.
        if self._idle_since is None:
            self._idle_since = now
        reached = self._watermark + (now - self._idle_since)
        for index in sorted(self._open):
            if (index + 1) * self.seconds <= reached:
                self._watermark = (index + 1) * self.seconds
        yield from self._close()

    def low(self) -> int | None:
        return min((rows.offset for members in self._open.values() for rows, _ in members[:1]), default=None)

    def state(self) -> Mapping[str, Any]:
        low = self.low()
        return {
            "watermark": None if self._watermark == -np.inf else self._watermark,
            "next": self._next,
            "offset": self._next if low is None else low,
        }

    def fill(self) -> float:
        """Event time that has passed in the newest open window."""
        if not self._open:
            return 0.0
        return float(np.clip((self._watermark + self.lateness) / self.seconds - max(self._open), 0.0, 1.0))
