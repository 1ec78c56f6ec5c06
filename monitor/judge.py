"""One monitor on one partition: rows in, findings out. Pure: the event times are the only times in here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array, Verdict
from monitor.alarms import Alarms, verdict_of
from monitor.findings import EventRows, MonitorSpec, in_words, instance_finding, window_finding
from monitor.flagged import share_verdict
from monitor.parts import Part, idle_seconds
from monitor.summary_window import SummaryWindow
from monitor.windows import Batch, Window
from sinks.base import Finding


class Failure(NamedTuple):
    """An event that the detector could not judge."""

    event: EventRows
    message: str


class Judge:
    """Windows, verdicts and the alarm rule of one monitor on one partition.

    ``state`` is what :meth:`state` answered before a restart, ``resume`` the offset at which to begin without one.
    """

    def __init__(self, spec: MonitorSpec, partition: str, state: Mapping[str, Any] | None, resume: int) -> None:
        self.spec = spec
        self.partition = partition
        self.failures: list[Failure] = []
        self.seconds: list[float] = []
        saved = state if state is not None and state.get("fingerprint") == spec.fingerprint else None
        self._alarms = Alarms(spec, int(saved["streak"]) if saved else 0)
        begin: Mapping[str, Any] = saved["window"] if saved else {**_NOTHING, "offset": resume, "next": resume}
        self.begin = int(begin["offset"])
        """Events before it belong to no window that is open."""
        self.window: Window = spec.make_window(begin)

    def state(self) -> Mapping[str, Any]:
        """JSON values: the window's place, and how many alerting windows came in a row."""
        return {"fingerprint": self.spec.fingerprint, "streak": self._alarms.streak, "window": self.window.state()}

    def take(self, events: Sequence[EventRows]) -> Iterator[Finding]:
        """Judge what a block brought."""
        for batch in self.window.push(*[event.rows for event in events]):
            yield self._judge_window(batch)

    def expire(self, now: float) -> Iterator[Finding]:
        """Judge the windows that are over at ``now``."""
        for batch in self.window.expire(now):
            yield self._judge_window(batch)

    def _judge_window(self, batch: Batch) -> Finding:
        verdict, text = self._predict(batch.x)
        text = text or in_words(self.spec, verdict)
        return window_finding(self.spec, batch, verdict, self._alarms.raised(verdict), text)

    def _predict(self, x: Array) -> tuple[Verdict, str]:
        return verdict_of(lambda: self.spec.detector.predict(x), len(x), self.seconds)


_NOTHING: Mapping[str, Any] = {"row": 0, "watermark": None}


class InstanceJudge(Judge):
    """Outlier and adversarial monitors: every row is judged at once; a window sums up.

    Ordinary rows are flagged too, a promised share of them. A window is an alert if more rows are flagged than the
    reference explains (see :mod:`monitor.flagged`), and an alarm by the monitor's rule, like one of a drift monitor.

    The rows of all events of a block are scored in one call: scores do not depend on batching. ``scores`` holds the
    arrays of scores since it was last emptied, for the histogram of instance scores. Events before ``resume`` only
    fill the window again: what else is to be said of them was said before the restart.
    """

    def __init__(self, spec: MonitorSpec, partition: str, state: Mapping[str, Any] | None, resume: int) -> None:
        super().__init__(spec, partition, state, resume)
        self.scores: list[tuple[Array, float | None]] = []
        self._fresh = resume
        self._threshold: float | None = None

    def take(self, events: Sequence[EventRows]) -> Iterator[Finding]:
        wanted = [event for event in events if event.rows.offset >= self.begin and len(event.rows.x)]
        if not wanted:
            return
        for group, verdict in self._scored(wanted):
            scores = verdict.instance_score
            assert scores is not None
            ends = np.cumsum([len(event.rows.x) for event in group])
            starts = ends - [len(event.rows.x) for event in group]
            for i in np.unique(np.searchsorted(ends, np.flatnonzero(verdict.is_outlier), side="right")).tolist():
                if group[i].rows.offset >= self._fresh:  # else it was told before the restart
                    yield from self._told(group[i], scores[starts[i] : ends[i]], verdict.threshold)
            places = zip(group, starts.tolist(), ends.tolist(), strict=True)
            scored = [event.rows._replace(x=scores[start:end, None]) for event, start, end in places]
            for batch in self.window.push(*scored):
                yield self._sum_up(batch)

    def _told(self, event: EventRows, scores: Array, threshold: float | None) -> Iterator[Finding]:
        try:
            yield instance_finding(self.spec, event, scores, threshold)
        except Exception as error:  # a defect of ours: no row may stop the worker
            self.failures.append(Failure(event, f"please report this: {type(error).__name__}: {error}"))

    def _scored(self, events: Sequence[EventRows]) -> list[tuple[Sequence[EventRows], Verdict]]:
        x = np.concatenate([event.rows.x for event in events]) if len(events) > 1 else events[0].rows.x
        verdict, failure = self._predict(x)
        if failure and len(events) > 1:  # one event may be at fault: the others must not suffer
            return [pair for event in events for pair in self._scored([event])]
        if failure:
            self.failures.append(Failure(events[0], failure))
            return []
        assert verdict.instance_score is not None
        self._threshold = verdict.threshold
        before = sum(len(event.rows.x) for event in events if event.rows.offset < self._fresh)
        self.scores.append((verdict.instance_score[before:], verdict.threshold))
        return [(events, verdict)]

    def _sum_up(self, batch: Batch) -> Finding:
        above, scored = self.spec.beyond
        threshold = math.inf if self._threshold is None else self._threshold
        verdict = share_verdict(batch.x[:, 0], threshold, above, scored)
        if verdict.statistic is None:
            return window_finding(self.spec, batch, verdict, False, "")
        usual = above / max(scored, 1)
        text = f"{verdict.statistic:.2%} of {verdict.n:,} rows flagged, {usual:.2%} of the reference"
        return window_finding(self.spec, batch, verdict, self._alarms.raised(verdict), text)

    def expire(self, now: float) -> Iterator[Finding]:
        for batch in self.window.expire(now):
            yield self._sum_up(batch)


class SummingJudge(Judge):
    """A monitor whose windows lie in several partitions: its part of each becomes a summary, judged elsewhere.

    ``parts`` holds what there is to say since it was last emptied. That windows without rows are over is said, too, and
    that nothing comes: others need not wait for this partition.
    """

    window: SummaryWindow

    def __init__(self, spec: MonitorSpec, partition: str, state: Mapping[str, Any] | None, resume: int) -> None:
        super().__init__(spec, partition, state, resume)
        self.parts: list[Part] = []
        self._told = self.window.passed
        self._idle = -math.inf

    def take(self, events: Sequence[EventRows]) -> Iterator[Finding]:
        self._tell(self.window.push(*[event.rows for event in events]))
        return iter(())

    def expire(self, now: float) -> Iterator[Finding]:
        self._tell(self.window.expire(now))
        if self.window.low() is None and now - self._idle >= idle_seconds(self.window.seconds):
            self._idle = now
            self.parts.append(self._part(self._told or 0)._replace(idle=now))
        return iter(())

    def take_parts(self) -> list[Part]:
        """What there is to say, once."""
        parts, self.parts = self.parts, []
        return parts

    def reach(self, time: float) -> None:
        """Event time has reached ``time``: nothing older will come."""
        self._tell(self.window.reach(time))

    def _tell(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._told = round(batch.start / self.window.seconds)
            self.parts.append(self._part(self._told)._replace(batch=batch))
        passed = self.window.passed
        if passed is not None and (self._told is None or passed > self._told):
            self._told = passed
            self.parts.append(self._part(passed))

    def _part(self, number: int) -> Part:
        return Part(self.spec.name, self.spec.fingerprint, self.partition, number, self.window.seconds)
