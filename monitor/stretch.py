"""Where an online monitor is in its partition: the rows it remembers, and those its next finding tells of. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from monitor.windows import Batch, Rows
from sinks.base import Position


class _Piece(NamedTuple):
    """Consecutive rows of one event."""

    offset: int
    row: int
    n: int
    time: float


class Stretch:
    """The rows between two findings of an online monitor, at most ``size``; a first alarm ends it early.

    Before it lie at most ``memory`` rows that were told of already, and that the detector still looks at: they are what
    a restart has to deliver again.

    Parameters
    ----------
    size, memory : rows.
    state : what :meth:`state` answered, to resume.

    >>> stretch = Stretch(3, 2)
    >>> stretch.add(Rows(np.zeros((3, 1)), "t/0", 7, 0.0), 0, 3)
    >>> stretch.is_full, stretch.end("t/0").ident, stretch.state()
    (True, '7.0-7.2@0.000000', {'offset': 7, 'row': 1, 'from': [7, 3]})
    """

    def __init__(self, size: int, memory: int, state: Mapping[str, Any] | None = None) -> None:
        self.size, self._memory = size, memory
        self.late = self.overflow = 0
        state = state or {"offset": 0, "row": 0}
        self.begin = (int(state["offset"]), int(state.get("row", 0)))
        """The first row that has to be remembered."""
        place = state.get("from", self.begin)
        self.start = (int(place[0]), int(place[1]))
        """The first row that was not told of."""
        self._told: deque[_Piece] = deque()
        self._pieces: list[_Piece] = []
        self._filled = self._remembered = 0
        self._restarted: int | None = None

    @property
    def left(self) -> int:
        """Rows that it still takes."""
        return self.size - self._filled

    @property
    def is_full(self) -> bool:
        return self._filled == self.size

    def remember(self, rows: Rows, row: int, n: int) -> None:
        """Note rows that were told of before, from ``row`` of the event on."""
        self._told.append(_Piece(rows.offset, row, n, rows.time))
        self._remembered += n

    def add(self, rows: Rows, row: int, n: int) -> None:
        """Note ``n`` rows that were judged, from ``row`` of the event on."""
        self._pieces.append(_Piece(rows.offset, row, n, rows.time))
        self._filled += n

    def restart(self) -> None:
        """The detector has begun anew: of what it saw so far it remembers nothing."""
        self._restarted = len(self._pieces)

    def end(self, partition: str) -> Batch:
        """It is over; the next begins."""
        pieces = self._pieces
        first = Position(partition, pieces[0].offset, pieces[0].row)
        last = Position(partition, pieces[-1].offset, pieces[-1].row + pieces[-1].n - 1)
        times = [piece.time for piece in pieces]
        events = len({piece.offset for piece in pieces})
        ident = f"{first.offset}.{first.row}-{last.offset}.{last.row}@{min(times):.6f}"
        batch = Batch(np.empty((0, 0)), first, last, min(times), max(times), max(times), events, ident)
        self.start = (last.offset, last.row + 1)
        if self._restarted is not None:
            self._told.clear()
            self._remembered = 0
        kept = pieces[self._restarted or 0 :]
        self._told.extend(kept)
        self._remembered += sum(piece.n for piece in kept)
        self._pieces, self._filled, self._restarted = [], 0, None
        self._forget()
        return batch

    def _forget(self) -> None:
        while self._remembered > self._memory:
            head = self._told.popleft()
            drop = min(head.n, self._remembered - self._memory)
            if drop < head.n:
                self._told.appendleft(head._replace(row=head.row + drop, n=head.n - drop))
            self._remembered -= drop

    def push(self, *events: Rows) -> Iterator[Batch]:  # noqa: ARG002 - its judge asks the detector where it ends
        return iter(())

    def expire(self, now: float) -> Iterator[Batch]:  # noqa: ARG002 - it waits for its rows
        return iter(())

    def low(self) -> int | None:
        held = self._told or self._pieces
        return held[0].offset if held else None

    def state(self) -> Mapping[str, Any]:
        offset, row = self._told[0][:2] if self._told else self.start
        return {"offset": offset, "row": row, "from": list(self.start)}

    def fill(self) -> float:
        return self._filled / self.size
