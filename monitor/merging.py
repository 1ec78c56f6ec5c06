"""Parts of windows from several partitions become whole windows and findings. Pure: what comes of it depends on the
topic of summaries alone, times included: there is no clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from detectors.base import Verdict
from monitor.alarms import Alarms, verdict_of
from monitor.event_time import ident
from monitor.events import InvalidEvent, Partition
from monitor.findings import MonitorSpec, in_words, window_finding
from monitor.parts import Part
from monitor.windows import Batch
from sinks.base import Finding, Position

MOST_WAITING = 256
"""Windows of a monitor that wait for a partition; beyond it the oldest is judged without: memory is bounded."""


class Merger:
    """The windows of one monitor.

    A window is over when every partition of the payload topic has said of it, or of a later one, that it is, or that
    it was idle after the window's first part had come, and ``patience`` more seconds: then it has nothing for the
    window, or has it very late. What a partition says again is known by window and partition.

    Parameters
    ----------
    spec : the monitor.
    partitions : of the payload topic. Others of the same topic count once they have spoken.
    state : what :meth:`state` answered before a restart.
    patience : seconds that the events of a window may be on their way longer in one partition than in another.
    """

    def __init__(
        self,
        spec: MonitorSpec,
        partitions: Collection[Partition],
        state: Mapping[str, Any] | None,
        patience: float = 10.0,
    ) -> None:
        self.spec = spec
        self.seconds: list[float] = []
        saved = state if state is not None and state.get("fingerprint") == spec.fingerprint else {}
        self._alarms = Alarms(spec, int(saved.get("streak", 0)))
        self._topic = next(iter(partitions)).rpartition("/")[0]
        self._reached: dict[Partition, int | None] = dict.fromkeys(partitions)
        self._reached.update({p: number for p, number in saved.get("reached", {}).items() if p in self._reached})
        self._idle: dict[Partition, float] = dict(saved.get("idle", {}))
        self._patience = patience
        self._said: dict[Partition, int] = dict(saved.get("said", {}))
        self._done: int | None = saved.get("done")
        self._open: dict[int, _Merged] = {}

    def concerns(self, part: Part) -> bool:
        """Whether the part is of the monitor as it is configured now."""
        return part.fingerprint == self.spec.fingerprint and part.partition.rpartition("/")[0] == self._topic

    def take(self, part: Part, offset: int, time: float) -> str:
        """Take in a part that stands at ``offset`` and came at ``time``, in epoch seconds.

        Answers ``merged``, ``duplicate`` or ``late`` of a summary, else nothing.

        Raises
        ------
        InvalidEvent : its summary is not of the monitor's columns.
        """
        if part.idle is not None:
            self._idle[part.partition] = max(part.idle, self._idle.get(part.partition, part.idle))
            self._reached.setdefault(part.partition)
            return ""
        taken = self._add(part, offset, time) if part.batch is not None else ""
        reached = self._reached.get(part.partition)
        self._reached[part.partition] = part.number if reached is None else max(reached, part.number)
        return taken

    def _add(self, part: Part, offset: int, time: float) -> str:
        self._check(part)
        if self._done is not None and part.number <= self._done:
            return "duplicate" if self._said.get(part.partition, part.number - 1) >= part.number else "late"
        waiting = self._open.setdefault(part.number, _Merged(offset, time))
        if part.partition in waiting.parts:
            return "duplicate"
        assert self.spec.summariser is not None
        waiting.add(part, self.spec.summariser.size)
        self._said[part.partition] = max(part.number, self._said.get(part.partition, part.number))
        return "merged"

    def _check(self, part: Part) -> None:
        summary, wanted = part.summary, self.spec.summariser
        assert wanted is not None
        columns, width = summary.sample.rows.shape[1], len(self.spec.features)
        if columns != width:
            raise InvalidEvent("invalid_summary", f"the summary is of {columns} columns, the monitor's are {width}")
        if summary.mark == wanted.mark and len(summary.counts) != wanted.cells:
            raise InvalidEvent("invalid_summary", f"it counts {len(summary.counts)} cells instead of {wanted.cells}")

    def due(self) -> Iterator[Finding]:
        """Judge the windows that are over, oldest first."""
        for number in sorted(self._open):
            if not self._over(number, self._open[number]) and len(self._open) <= MOST_WAITING:
                return
            yield self._finding(number, self._open.pop(number))
            self._done = number if self._done is None else max(self._done, number)

    def _over(self, number: int, merged: _Merged) -> bool:
        return not any(self._awaited(partition, number, merged) for partition in self._reached)

    def _awaited(self, partition: Partition, number: int, merged: _Merged) -> bool:
        """Whether the partition may still have something to say of the window."""
        reached = self._reached[partition]
        if reached is not None and reached >= number:
            return False
        return self._idle.get(partition, -math.inf) < merged.came + self._patience

    def _finding(self, number: int, merged: _Merged) -> Finding:
        spec, batch = self.spec, merged.batch
        summary, summariser = batch.summary, spec.summariser
        assert summary is not None
        assert summariser is not None
        verdict, text = verdict_of(lambda: summariser.judge(summary), summary.n, self.seconds)
        text = text or in_words(spec, verdict) + _of_how_many(verdict, summary.n)
        silent = sum(self._awaited(partition, number, merged) for partition in self._reached)
        if silent:
            text += f" ({silent} of {len(self._reached)} partitions had not come so far)"
        return window_finding(spec, batch, verdict, self._alarms.raised(verdict), text, of=self._topic)

    def low(self) -> int | None:
        """The lowest offset that an open window needs, ``None`` if none is open."""
        return min((merged.first for merged in self._open.values()), default=None)

    @property
    def waiting(self) -> int:
        """Windows that wait for a partition."""
        return len(self._open)

    def state(self) -> Mapping[str, Any]:
        """JSON values: what is known but for the open windows."""
        reached = {partition: number for partition, number in self._reached.items() if number is not None}
        return {
            "fingerprint": self.spec.fingerprint,
            "streak": self._alarms.streak,
            "done": self._done,
            "reached": reached,
            "idle": self._idle,
            "said": self._said,
        }


class _Merged:
    """A window as far as it has come. ``first`` is the offset of its first part, and ``came`` when that came."""

    def __init__(self, first: int, came: float) -> None:
        self.first, self.came = first, came
        self.parts: set[Partition] = set()
        self.batch: Batch = _NOTHING

    def add(self, part: Part, size: int) -> None:
        new, old = part.batch, self.batch
        assert new is not None
        self.parts.add(part.partition)
        if old is _NOTHING:
            self.batch = new._replace(ident=ident(part.number, part.seconds))
            return
        assert old.summary is not None
        self.batch = old._replace(
            first=min(old.first, new.first),
            last=max(old.last, new.last),
            time=max(old.time, new.time),
            events=old.events + new.events,
            summary=old.summary.merge(part.summary, size),
        )


_NOTHING = Batch(np.empty((0, 0)), Position("", 0, 0), Position("", 0, 0), 0.0, 0.0, 0.0, 0, "")


def _of_how_many(verdict: Verdict, n: int) -> str:
    """A detector that needs rows has judged the sample of a large window.

    >>> _of_how_many(Verdict("ok", n=2000), 31234), _of_how_many(Verdict("ok", n=20), 20)
    (' (judged by 2,000 of 31,234 rows, chosen at random)', '')
    """
    return f" (judged by {verdict.n:,} of {n:,} rows, chosen at random)" if verdict.n < n else ""
