"""Rows of one partition become windows. No clock and no I/O in here.

A window object belongs to one monitor and one partition. It says which offset it still needs (:meth:`Window.low`) and
its :meth:`Window.state`, and resumes from that state exactly: the rows delivered again from there give the same
windows. That is how a restart changes no finding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from detectors.base import Array
from monitor.events import Position


class Rows(NamedTuple):
    """The rows ``(n, d)`` of one event, for one monitor. ``time`` is the event's, in epoch seconds."""

    x: Array
    partition: str
    offset: int
    time: float


class Batch(NamedTuple):
    """A full window. ``start`` and ``end`` are event times; ``ident`` names the window within its monitor."""

    x: Array
    first: Position
    last: Position
    start: float
    end: float
    time: float
    events: int
    ident: str


class Window(Protocol):
    """Collects rows in the order of the log."""

    late: int
    """Rows that came after their window was closed, and were left out."""

    overflow: int
    """Rows beyond what a window keeps, and left out."""

    def push(self, *events: Rows) -> Iterator[Batch]:
        """Take the rows of consecutive events; answer the windows that they completed."""
        ...

    def expire(self, now: float) -> Iterator[Batch]:
        """Answer windows that are over at ``now`` (seconds, any origin); only sound when nothing is left to read."""
        ...

    def low(self) -> int | None:
        """The lowest offset that an open window needs, ``None`` if none is open."""
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON values from which the same kind of window resumes."""
        ...

    def fill(self) -> float:
        """How full the open window is, 0 to 1."""
        ...


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
        batch = Batch(
            x,
            first,
            last,
            min(times),
            max(times),
            max(times),
            len({segment.offset for segment in segments}),
            f"{first.offset}.{first.row}-{last.offset}.{last.row}",
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
