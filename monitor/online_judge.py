"""An online monitor on one partition: every row is judged as it comes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from detectors.base import Array, Verdict
from detectors.online import Online, Run, together
from monitor.findings import EventRows, MonitorSpec, in_words, window_finding
from monitor.judge import Judge
from monitor.stretch import Stretch
from monitor.windows import Rows
from sinks.base import Finding


class _Flow:
    """The rows of a block one after the other, from a place on, and which event each belongs to."""

    def __init__(self, events: Sequence[Rows], begin: tuple[int, int]) -> None:
        self.events = [rows for rows in events if len(rows.x) and (rows.offset, len(rows.x)) > begin]
        self.first = [begin[1] if rows.offset == begin[0] else 0 for rows in self.events]
        parts = [rows.x[first:] for rows, first in zip(self.events, self.first, strict=True)]
        self.ends = np.cumsum([len(part) for part in parts])
        self.x: Array = np.concatenate(parts) if parts else np.empty((0, 0))

    def before(self, place: tuple[int, int]) -> int:
        """How many of the rows are before the place."""
        offset, row = place
        n = 0
        for rows, first in zip(self.events, self.first, strict=True):
            if rows.offset < offset:
                n += len(rows.x) - first
            elif rows.offset == offset:
                n += max(min(row, len(rows.x)) - first, 0)
        return n

    def pieces(self, start: int, end: int) -> Iterator[tuple[Rows, int, int]]:
        """The events of rows ``start`` to ``end``: event, its first row of them, how many."""
        i = int(np.searchsorted(self.ends, start, side="right"))
        while start < end:
            stop = min(int(self.ends[i]), end)
            begins = int(self.ends[i - 1]) if i else 0
            yield self.events[i], self.first[i] + start - begins, stop - start
            start, i = stop, i + 1


class OnlineJudge(Judge):
    """A finding every so many rows, of the strangest moment among them; and one at once where the detector alarms.

    After an alarm the detector begins anew, and as long as it alarms again there is a finding every so many rows, and
    not one every few. What it remembers is delivered again after a restart, and not judged again.
    """

    window: Stretch

    def __init__(self, spec: MonitorSpec, partition: str, state: Mapping[str, Any] | None, resume: int) -> None:
        super().__init__(spec, partition, state, resume)
        assert isinstance(spec.detector, Online)
        self._detector: Online = spec.detector
        self._run: Run = self._detector.start()
        self._seen = self.window.begin
        self._verdict: Verdict | None = None

    def take(self, events: Sequence[EventRows]) -> Iterator[Finding]:
        flow = _Flow([event.rows for event in events], self._seen)
        if not len(flow.x):
            return
        last = flow.events[-1]
        self._seen = (last.offset, len(last.x))
        at = flow.before(self.window.start)
        if at:
            self._run.fill(flow.x[:at])
            for piece in flow.pieces(0, at):
                self.window.remember(*piece)
        while at < len(flow.x):
            verdict, text = self._push(flow.x[at : at + self.window.left])
            for piece in flow.pieces(at, at + verdict.n):
                self.window.add(*piece)
            at += verdict.n
            over = verdict.state == "alert" or bool(text)
            if over:
                self._run = self._detector.start()
                self.window.restart()
            if (over and self._alarms.streak == 0) or text or self.window.is_full:
                yield self._tell(text)

    def _push(self, x: Array) -> tuple[Verdict, str]:
        """The verdict on the rows up to an alarm; a detector that fails is no verdict on any of them."""
        began, text = perf_counter(), ""
        try:
            _, verdict = self._run.push(x)
            self.seconds.append(perf_counter() - began)
        except Exception as error:
            text = f"the detector failed: {type(error).__name__}: {error}"
            verdict = Verdict("insufficient_data", len(x))
        self._verdict = verdict if self._verdict is None else together(self._verdict, verdict)
        return verdict, text

    def _tell(self, text: str) -> Finding:
        verdict, self._verdict = self._verdict, None
        assert verdict is not None
        batch = self.window.end(self.partition)
        text = text or in_words(self.spec, verdict)
        return window_finding(self.spec, batch, verdict, self._alarms.raised(verdict), text)
