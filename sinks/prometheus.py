"""Findings as Prometheus metrics. Labels are bounded: namespace, model, monitor, and the monitor's own columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from detectors.base import Array, DetectorKind
from sinks.base import Finding

STATES = ("ok", "alert", "insufficient_data")
MAX_FEATURES = 100
"""Columns of a monitor that get series of their own."""

REMEMBERED = 10_000
"""Finding ids that are known again, so that a redelivery is not counted twice."""

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 5.0, 10.0)
"""Bucket bounds of instance scores, as multiples of the detector's threshold."""


class MonitorLabels(NamedTuple):
    """What the series of a monitor are called."""

    namespace: str
    model: str
    monitor: str
    kind: DetectorKind
    features: tuple[str, ...] = ()


class _Series(NamedTuple):
    """The series of one monitor, looked up once: ``labels()`` costs more than what it finds."""

    evaluations: Mapping[str, Counter]
    detections: Counter
    last: Gauge
    alarm: Gauge
    values: tuple[Gauge, ...]
    feature_statistic: Mapping[str, Gauge]
    feature_p_value: Mapping[str, Gauge]

    def tally(self, finding: Finding) -> None:
        """Count a judged window, or the flagged rows of an event."""
        verdict = finding.verdict
        if finding.scope == "instance":
            self.detections.inc(round((verdict.effect_size or 0.0) * verdict.n))
        else:
            self.evaluations[verdict.state].inc()
            self.detections.inc(int(finding.alarm))

    def show(self, finding: Finding) -> None:
        """Set the gauges to a judged window."""
        verdict = finding.verdict
        self.last.set(finding.time.timestamp())
        self.alarm.set(int(finding.alarm))
        told = (verdict.statistic, verdict.p_val, verdict.threshold, verdict.effect_size)
        for gauge, value in zip(self.values, told, strict=True):
            gauge.set(np.nan if value is None else value)
        for feature in verdict.features:
            if feature.name in self.feature_statistic:
                statistic, p_val = feature.statistic, feature.p_val
                self.feature_statistic[feature.name].set(np.nan if statistic is None else statistic)
                self.feature_p_value[feature.name].set(np.nan if p_val is None else p_val)

    def show_again(self, told: Mapping[str, Any]) -> None:
        """Set the gauges to a judged window that was written as JSON."""
        verdict = told["verdict"]
        self.last.set(datetime.fromisoformat(told["time"]).timestamp())
        self.alarm.set(int(told["alarm"]))
        names = ("statistic", "p_val", "threshold", "effect_size")
        for gauge, name in zip(self.values, names, strict=True):
            gauge.set(np.nan if verdict[name] is None else verdict[name])


class PrometheusSink:
    """Every series exists from the start; a finding whose id was seen changes nothing."""

    def __init__(self, registry: CollectorRegistry, monitors: Sequence[MonitorLabels]) -> None:
        names = ("namespace", "model", "monitor")

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"offpath_{name}", text, (*names, *more), registry=registry)

        self._evaluations = Counter(
            "offpath_evaluations", "Windows judged, by outcome.", (*names, "state"), registry=registry
        )
        self._detections = Counter(
            "offpath_detections", "Alarms of windowed monitors, and rows flagged one by one.", names, registry=registry
        )
        self._values = (
            gauge("statistic", "Statistic of the last window judged."),
            gauge("p_value", "p-value of the last window judged; NaN for detectors without one."),
            gauge("threshold", "What the statistic was compared with."),
            gauge("effect_size", "Effect size of the last window judged."),
        )
        self._last = gauge("last_evaluation_timestamp_seconds", "Event time of the last window judged; 0 before any.")
        self._alarm = gauge("alarm", "1 while the last window judged raised an alarm.")
        self._feature_statistic = gauge("feature_statistic", "Statistic of a column in the last window.", "feature")
        self._feature_p_value = gauge("feature_p_value", "p-value of a column in the last window.", "feature")
        self._scores = ScoreHistogram([m for m in monitors if m.kind != "drift"])
        registry.register(self._scores)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._series = {monitor.monitor: self._create(monitor) for monitor in monitors}

    def _create(self, monitor: MonitorLabels) -> _Series:
        labels = monitor[:3]
        features = sorted(set(monitor.features[:MAX_FEATURES])) if monitor.kind == "drift" else ()
        series = _Series(
            {state: self._evaluations.labels(*labels, state) for state in STATES},
            self._detections.labels(*labels),
            self._last.labels(*labels),
            self._alarm.labels(*labels),
            tuple(gauge.labels(*labels) for gauge in self._values),
            {name: self._feature_statistic.labels(*labels, name) for name in features},
            {name: self._feature_p_value.labels(*labels, name) for name in features},
        )
        for gauge in (*series.values, *series.feature_statistic.values(), *series.feature_p_value.values()):
            gauge.set(np.nan)
        return series

    def resume(self, latest: Mapping[str, Any]) -> None:
        """Show again the last window judged before a restart (:meth:`~sinks.base.Finding.to_dict`); counts nothing."""
        if latest["monitor"] in self._series:
            self._series[latest["monitor"]].show_again(latest)

    async def write(self, findings: Sequence[Finding]) -> None:
        last: dict[str, Finding] = {}  # of several windows at once, only the last is seen by any scrape
        for finding in findings:
            series = self._series.get(finding.monitor)
            if finding.id in self._seen or series is None:
                continue
            self._seen[finding.id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            series.tally(finding)
            if finding.scope == "window":
                last[finding.monitor] = finding
        for monitor, finding in last.items():
            self._series[monitor].show(finding)

    def observe_scores(self, monitor: str, scores: Array, threshold: float | None) -> None:
        """Take the scores ``(n,)`` of all judged rows into the histogram."""
        self._scores.observe(monitor, scores, threshold)

    async def flush(self) -> None:
        """Nothing to do: a scrape reads memory."""

    async def close(self) -> None:
        """Nothing to do."""


class ScoreHistogram(Collector):
    """``offpath_instance_score_ratio``: scores as multiples of the threshold, so that one set of buckets suits all.

    A threshold below 0 (of log densities) is at 1, too; beyond it a score counts the more, in thresholds.
    """

    def __init__(self, monitors: Iterable[MonitorLabels]) -> None:
        self._labels = {monitor.monitor: monitor[:3] for monitor in monitors}
        self._counts = {name: np.zeros(len(RATIOS) + 1, dtype=np.int64) for name in self._labels}
        self._sums = dict.fromkeys(self._labels, 0.0)

    def observe(self, monitor: str, scores: Array, threshold: float | None) -> None:
        if not threshold or monitor not in self._counts:
            return
        ratios = 1.0 + (scores[np.isfinite(scores)] - threshold) / abs(threshold)
        self._counts[monitor] += np.bincount(np.searchsorted(RATIOS, ratios), minlength=len(RATIOS) + 1)
        self._sums[monitor] += float(ratios.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(
            "offpath_instance_score_ratio",
            "Instance scores, as multiples of the detector's threshold.",
            labels=("namespace", "model", "monitor"),
        )
        for name, labels in self._labels.items():
            totals = np.cumsum(self._counts[name]).tolist()
            buckets = [*zip(map(str, RATIOS), totals, strict=False), ("+Inf", totals[-1])]
            family.add_metric(labels, buckets, self._sums[name])
        yield family
