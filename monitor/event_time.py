"""What windows of event time have in common: which are open, when they are over, what came too late. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from monitor.windows import Batch, Rows


class Kept(Protocol):
    """What an open window keeps; ``first`` is the offset of its first event."""

    first: int

    def add(self, rows: Rows) -> int:
        """Take rows; answers how many were left out."""
        ...


K = TypeVar("K", bound=Kept)


class EventTime(ABC, Generic[K]):
    """Tumbling windows of ``seconds`` of event time, closed when the newest event is ``lateness`` past their end.

    Windows begin at multiples of ``seconds`` since the epoch; window ``index`` is the one that begins at
    ``index * seconds``. A window without rows is not answered.
    """

    def __init__(self, seconds: float, lateness: float, state: Mapping[str, Any] | None) -> None:
        self.seconds = seconds
        self.lateness = lateness
        self.late = 0
        self.overflow = 0
        state = state or {"watermark": None, "next": 0, "offset": 0}
        watermark = state["watermark"]
        self._watermark = -np.inf if watermark is None else float(watermark)
        self._next = int(state["next"])  # offsets before it were seen before the restart
        self._from = int(state["offset"])
        self._idle_since: float | None = None
        self._open: dict[int, K] = {}

    @abstractmethod
    def _begin(self, rows: Rows) -> K:
        """An open window, whose first rows these will be."""

    @abstractmethod
    def _batch(self, index: int, kept: K) -> Batch:
        """The window, which is over."""

    def push(self, *events: Rows) -> Iterator[Batch]:
        for rows in events:
            if rows.offset >= self._from:
                yield from self._take(rows)

    def _take(self, rows: Rows) -> Iterator[Batch]:
        index = boundary(rows.time, self.seconds)
        if (index + 1) * self.seconds <= self._watermark:
            if rows.offset >= self._next:
                self.late += len(rows.x)
        elif len(rows.x):
            self._add(index, rows)
        self._next = max(self._next, rows.offset + 1)
        self._watermark = max(self._watermark, rows.time - self.lateness)
        self._idle_since = None
        yield from self._close()

    def _add(self, index: int, rows: Rows) -> None:
        kept = self._open.get(index)
        if kept is None:
            kept = self._open[index] = self._begin(rows)
        left_out = kept.add(rows)
        if left_out and rows.offset >= self._next:
            self.overflow += left_out

    def _close(self) -> Iterator[Batch]:
        for index in sorted(self._open):
            if (index + 1) * self.seconds > self._watermark:
                break
            yield self._batch(index, self._open.pop(index))

    def expire(self, now: float) -> Iterator[Batch]:
        reached = self._idle(now)
        for index in sorted(self._open):
            if (index + 1) * self.seconds <= reached:
                self._watermark = (index + 1) * self.seconds
        yield from self._close()

    def _idle(self, now: float) -> float:
        """Producers' clocks may be behind ours: event time goes on from the watermark at the speed of our clock."""
        if self._idle_since is None:
            self._idle_since = now
        return self._watermark + (now - self._idle_since)

    def low(self) -> int | None:
        return min((kept.first for kept in self._open.values()), default=None)

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


def ident(index: int, seconds: float) -> str:
    """The name of a window within its monitor: where it begins, and how long it is.

    >>> ident(2, 60.0)
    '120+60'
    """
    return f"{index * seconds:.12g}+{seconds:.12g}"


def boundary(time: float, seconds: float) -> int:
    """The last multiple of ``seconds`` that is not after ``time``, as windows see it: in rounded numbers.

    >>> boundary(119.9, 60.0), boundary(120.0, 60.0), boundary(0.3, 0.1)
    (1, 2, 2)
    """
    found = int(time // seconds) + 1
    while found * seconds > time:
        found -= 1
    return found
