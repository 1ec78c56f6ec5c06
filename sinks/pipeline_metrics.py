"""The worker's own numbers: events, what could not be used, lag, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sinks.prometheus import MonitorLabels, PrometheusSink

SKIPPED = (
    "duplicate", "unknown_model", "empty", "error_status", "probe", "unpaired",
    "missing_id", "missing_time", "future_time", "foreign_summary",
)  # fmt: skip
"""Why an event led to nothing, or what it lacked, without anything being lost."""

OF_MONITOR = ("namespace", "model", "monitor")
"""Labels of a monitor's series."""

SUMMARIES = ("published", "merged", "duplicate", "late")
"""What became of the summary of a window in one partition."""

SIDES = ("request", "response", "feedback")


class PipelineMetrics:
    """Counts what a worker does; called once a block, not once an event.

    ``reasons`` are those of dead letters and ``stages`` those of errors, so that their series exist from the start;
    ``scores`` takes the instance scores, if Prometheus is among the sinks; ``merged`` names the monitors whose windows
    are merged.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        monitors: Sequence[MonitorLabels],
        reasons: Iterable[str] = (),
        scores: PrometheusSink | None = None,
        stages: Iterable[str] = (),
        merged: Iterable[str] = (),
    ) -> None:
        self._labels = {monitor.monitor: monitor[:3] for monitor in monitors}
        self._scores = scores
        self._totals = {"events": 0, "dead letters": 0}
        self._lags: dict[str, int] = {}
        self._count(registry)
        self._measure(registry)
        self._create(monitors, reasons)
        for stage in stages:
            self._errors.labels(stage)
        for monitor in merged:
            self._waiting.labels(*self._labels[monitor])
            for outcome in SUMMARIES:
                self._summaries.labels(*self._labels[monitor], outcome)

    def _count(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"offpath_{name}", text, labels, registry=registry)

        self._events = counter("events", "Payload events of configured models.", "namespace", "model", "side")
        self._skipped = counter("skipped", "Events that led to nothing, or lacked something; nothing lost.", "reason")
        self._dead = counter("dead_letters", "Events that could not be used, kept as dead letters.", "reason")
        self._rows = counter("rows", "Rows that reached a monitor.", *OF_MONITOR)
        self._missing = counter("missing_values", "NaN and null among a monitor's values.", *OF_MONITOR)
        self._infinite = counter("infinite_values", "Infinities among a monitor's values.", *OF_MONITOR)
        self._unseen = counter("unseen_values", "Labels that are none of their column's categories.", *OF_MONITOR)
        self._late = counter("late_rows", "Rows that came after their window was closed.", *OF_MONITOR)
        self._overflow = counter("overflow_rows", "Rows beyond what a time window keeps (max_rows).", *OF_MONITOR)
        self._of_rows = (self._rows, self._missing, self._infinite, self._unseen, self._late, self._overflow)
        told = "Summaries of windows in one partition, for monitors that merge those of all."
        self._summaries = counter("summaries", told, *OF_MONITOR, "outcome")
        self._errors = counter("errors", "Failed attempts of a stage: tried again, or refused for good.", "stage")

    def _measure(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"offpath_{name}", text, labels, registry=registry)

        self._lag = gauge("lag_events", "Records not read yet.", "partition")
        waiting = "Age of the record read last while others wait behind it, else 0."
        self._age = gauge("lag_seconds", waiting, "partition")
        self._fill = gauge("window_fill_ratio", "How full the open window is.", *OF_MONITOR)
        told = "Windows of which some partitions have told, and others have not come so far."
        self._waiting = gauge("windows_waiting", told, *OF_MONITOR)
        self._commit = gauge("last_commit_timestamp_seconds", "When the worker last committed; 0 before.")
        buckets = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
        self._seconds = Histogram(
            "offpath_detect_seconds", "Time a detector took a call.", OF_MONITOR, registry=registry, buckets=buckets
        )

    def _create(self, monitors: Sequence[MonitorLabels], reasons: Iterable[str]) -> None:
        for monitor in monitors:
            for series in (*self._of_rows, self._fill, self._seconds):
                series.labels(*monitor[:3])
            for side in SIDES:
                self._events.labels(monitor.namespace, monitor.model, side)
        for reason in SKIPPED:
            self._skipped.labels(reason)
        for reason in reasons:
            self._dead.labels(reason)

    def observe(self, tally: Any) -> None:
        """Take a :class:`monitor.outcome.Tally`."""
        for (namespace, model, side), n in tally.events.items():
            self._events.labels(namespace, model, side).inc(n)
            self._totals["events"] += n
        for reason, n in tally.skipped.items():
            if n:
                self._skipped.labels(reason).inc(n)
        counted = (tally.rows, tally.missing, tally.infinite, tally.unseen, tally.late, tally.overflow)
        for series, counts in zip(self._of_rows, counted, strict=True):
            for monitor, n in counts.items():
                series.labels(*self._labels[monitor]).inc(n)
        self._observe_summaries(tally)
        for monitor, seconds in tally.seconds:
            self._seconds.labels(*self._labels[monitor]).observe(seconds)
        if self._scores is not None:
            for monitor, scores, threshold in tally.scores:
                self._scores.observe_scores(monitor, scores, threshold)

    def _observe_summaries(self, tally: Any) -> None:
        for (monitor, outcome), n in tally.summaries.items():
            self._summaries.labels(*self._labels[monitor], outcome).inc(n)
        for monitor, n in tally.waiting.items():
            self._waiting.labels(*self._labels[monitor]).set(n)

    def fill(self, fill: Mapping[str, float]) -> None:
        for monitor, value in fill.items():
            self._fill.labels(*self._labels[monitor]).set(value)

    def lag(self, partition: str, events: int, seconds: float) -> None:
        self._lag.labels(partition).set(events)
        self._age.labels(partition).set(seconds)
        self._lags[partition] = events

    def dead_letters(self, reasons: Sequence[str]) -> None:
        self._totals["dead letters"] += len(reasons)
        for reason in reasons:
            self._dead.labels(reason).inc()

    def summary(self) -> dict[str, int]:
        """What the status page says of the pipeline itself."""
        return {**self._totals, "behind": sum(self._lags.values())}

    def error(self, stage: str) -> None:
        self._errors.labels(stage).inc()

    def committed(self, now: float) -> None:
        """``now`` is epoch seconds."""
        self._commit.set(now)
