"""Windows of so many rows: tumbling, sliding, or with gaps. No clock and no I/O in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array
from monitor.windows import Batch, Rows
from sinks.base import Position


class _Segment(NamedTuple):
    """Consecutive rows of one event inside a window."""

    offset: int
    row: int
    n: int
    time: float


class CountWindow:
    """The last ``size`` rows, every ``step`` rows; with ``step == size`` windows tumble.

    Parameters
    ----------
    size, step : rows; ``step`` defaults to ``size``.
    state : what :meth:`state` answered, to resume; rows before that position are passed over.

    >>> window = CountWindow(3)
    >>> [len(b.x) for b in window.push(Rows(np.zeros((7, 2)), "t/0", 0, 0.0))]
    [3, 3]
    >>> window.state()
    {'offset': 0, 'row': 6}
    """

    def __init__(self, size: int, step: int | None = None, state: Mapping[str, Any] | None = None) -> None:
        self.size = size
        self.step = step or size
        self.late = self.overflow = 0
        state = state or {"offset": 0, "row": 0}
        self._start = (int(state["offset"]), int(state["row"]))
        self._skip = int(state.get("skip", 0))  # rows to pass over before the next window, when step > size
        self._buffer: Array | None = None
        self._filled = 0
        self._segments: deque[_Segment] = deque()

    def push(self, *events: Rows) -> Iterator[Batch]:
        for rows in events:
            n = len(rows.x)
            if not n:  # it belongs to no window: whether it was seen must change none
                continue
            after = self._filled + n
            if self._buffer is not None and self._filled > 0 and after < self.size and rows.offset > self._start[0]:
                self._buffer[self._filled : after] = rows.x  # the common case: all rows fit into the open window
                self._segments.append(_Segment(rows.offset, 0, n, rows.time))
                self._filled = after
            else:
                yield from self._split(rows)

    def _split(self, rows: Rows) -> Iterator[Batch]:
        """Take rows that begin or end a window, or are where the position to resume from is."""
        at, n = 0, len(rows.x)
        if (rows.offset, n) <= self._start:  # before the position to resume from
            return
        if rows.offset == self._start[0] and not self._filled:
            at = self._start[1]
        if self._buffer is None:
            self._buffer = np.empty((self.size, rows.x.shape[1]))
        while at < n:
            if self._skip:
                passed = min(self._skip, n - at)
                self._skip -= passed
                at += passed
                self._start = (rows.offset, at)
                continue
            take = min(self.size - self._filled, n - at)
            if not self._filled:
                self._start = (rows.offset, at)
            self._buffer[self._filled : self._filled + take] = rows.x[at : at + take]
            self._segments.append(_Segment(rows.offset, at, take, rows.time))
            self._filled += take
            at += take
            if self._filled == self.size:
                yield self._emit(rows.partition)

    def _emit(self, partition: str) -> Batch:
        assert self._buffer is not None
        segments, x = self._segments, self._buffer
        first = Position(partition, segments[0].offset, segments[0].row)
        end = segments[-1]
        last = Position(partition, end.offset, end.row + end.n - 1)
        times = [segment.time for segment in segments]
        place = f"{first.offset}.{first.row}-{last.offset}.{last.row}"
        batch = Batch(
            x,
            first,
            last,
            min(times),
            max(times),
            max(times),
            len({segment.offset for segment in segments}),
            f"{place}@{min(times):.6f}",  # a log that is deleted and begun anew has the same places again
        )
        self._advance(x, (last.offset, last.row + 1))
        return batch

    def _advance(self, x: Array, after: tuple[int, int]) -> None:
        """Drop the first ``step`` rows; what overlaps begins the next window."""
        kept = max(self.size - self.step, 0)
        self._buffer = np.empty_like(x)
        self._buffer[:kept] = x[self.size - kept :]
        self._filled = kept
        self._skip = max(self.step - self.size, 0)
        drop = self.size - kept
        while drop:
            head = self._segments.popleft()
            if head.n > drop:
                self._segments.appendleft(_Segment(head.offset, head.row + drop, head.n - drop, head.time))
                break
            drop -= head.n
        self._start = (self._segments[0].offset, self._segments[0].row) if self._segments else after

    def expire(self, now: float) -> Iterator[Batch]:  # noqa: ARG002  a count window waits for its rows
        return iter(())

    def low(self) -> int | None:
        return self._start[0] if self._filled or self._skip else None

    def state(self) -> Mapping[str, Any]:
        place = {"offset": self._start[0], "row": self._start[1]}
        return {**place, "skip": self._skip} if self._skip else place

    def fill(self) -> float:
        return self._filled / self.size
