"""Windows of event time in one of several partitions: each becomes a summary, to be merged with the others'. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from detectors.merging import Summariser, Summary
from detectors.sample import row_keys
from monitor.event_time import EventTime, boundary, ident
from monitor.windows import Batch, Rows
from sinks.base import Position

FOLDED_ROWS = 4096
"""Rows that wait to be summed up together: a call costs as much as some hundred rows."""

_NO_ROWS = np.empty((0, 0))


class _Sums:
    """What an open window comes to so far."""

    def __init__(self, rows: Rows, summariser: Summariser) -> None:
        self.first = rows.offset
        self.head = self.tail = Position(rows.partition, rows.offset, 0)
        self.time, self.events = rows.time, 0
        self._summariser = summariser
        self._waiting: list[Rows] = []
        self._waiting_rows = 0
        self._summary: Summary | None = None

    def add(self, rows: Rows) -> int:
        self.tail = Position(rows.partition, rows.offset, len(rows.x) - 1)
        self.time = max(self.time, rows.time)
        self.events += 1
        self._waiting.append(rows)
        self._waiting_rows += len(rows.x)
        if self._waiting_rows >= FOLDED_ROWS:
            self._fold()
        return 0

    def summary(self) -> Summary:
        if self._waiting:
            self._fold()
        assert self._summary is not None
        return self._summary

    def _fold(self) -> None:
        rows = self._waiting
        keys = row_keys(rows[0].partition, [r.offset for r in rows], [len(r.x) for r in rows])
        made = self._summariser.summary(np.concatenate([r.x for r in rows]), keys)
        self._summary = made if self._summary is None else self._summary.merge(made, self._summariser.size)
        self._waiting, self._waiting_rows = [], 0


class SummaryWindow(EventTime[_Sums]):
    """Tumbling windows as those of :class:`~monitor.time_window.TimeWindow`, which end as summaries.

    It keeps no more than the sample and the counts of a window, however many rows it has. That a window is over is of
    interest here also where no rows come: see :attr:`passed`.

    Parameters
    ----------
    seconds, lateness : of event time.
    summariser : sums up rows.
    state : what :meth:`state` answered before a restart.
    """

    def __init__(
        self, seconds: float, lateness: float, summariser: Summariser, state: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(seconds, lateness, state)
        self._summariser = summariser

    @property
    def watermark(self) -> float:
        """Event time up to which everything is there; minus infinity at first."""
        return self._watermark

    @property
    def passed(self) -> int | None:
        """The newest window that is over, with or without rows; ``None`` as long as no time has passed."""
        if not math.isfinite(self._watermark):
            return None
        return boundary(self._watermark, self.seconds) - 1

    def reach(self, time: float) -> Iterator[Batch]:
        """Event time has reached ``time``: the windows that are over by then."""
        self._watermark = max(self._watermark, time)
        return self._close()

    def _begin(self, rows: Rows) -> _Sums:
        return _Sums(rows, self._summariser)

    def _batch(self, index: int, kept: _Sums) -> Batch:
        return Batch(
            _NO_ROWS, kept.head, kept.tail, index * self.seconds, (index + 1) * self.seconds, kept.time, kept.events,
            ident(index, self.seconds), kept.summary(),
        )  # fmt: skip
