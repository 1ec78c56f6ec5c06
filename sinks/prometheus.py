"""Findings as Prometheus metrics. Labels are bounded: namespace, model, monitor, and the monitor's own columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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
        self._statistic = gauge("statistic", "Statistic of the last window judged.")
        self._p_value = gauge("p_value", "p-value of the last window judged; NaN for detectors without one.")
        self._threshold = gauge("threshold", "What the statistic, or the p-value, was compared with.")
        self._effect_size = gauge("effect_size", "Effect size of the last window judged.")
        self._last = gauge("last_evaluation_timestamp_seconds", "Event time of the last window judged; 0 before any.")
        self._alarm = gauge("alarm", "1 while the last window judged raised an alarm.")
        self._feature_statistic = gauge("feature_statistic", "Statistic of a column in the last window.", "feature")
        self._feature_p_value = gauge("feature_p_value", "p-value of a column in the last window.", "feature")
        self._scores = ScoreHistogram([m for m in monitors if m.kind != "drift"])
        registry.register(self._scores)
        self._labels = {monitor.monitor: monitor[:3] for monitor in monitors}
        self._features = {monitor.monitor: frozenset(monitor.features[:MAX_FEATURES]) for monitor in monitors}
        self._seen: OrderedDict[str, None] = OrderedDict()
        for monitor in monitors:
            self._create(monitor)

    def _create(self, monitor: MonitorLabels) -> None:
        labels = monitor[:3]
        for state in STATES:
            self._evaluations.labels(*labels, state)
        self._detections.labels(*labels)
        self._last.labels(*labels).set(0)
        self._alarm.labels(*labels).set(0)
        for value in (self._statistic, self._p_value, self._threshold, self._effect_size):
            value.labels(*labels).set(np.nan)
        if monitor.kind == "drift":
            for feature in sorted(self._features[monitor.monitor]):
                self._feature_statistic.labels(*labels, feature).set(np.nan)
                self._feature_p_value.labels(*labels, feature).set(np.nan)

    async def write(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.id in self._seen or finding.monitor not in self._labels:
                continue
            self._seen[finding.id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            labels = self._labels[finding.monitor]
            if finding.scope == "instance":
                self._detections.labels(*labels).inc(round((finding.verdict.effect_size or 0.0) * finding.verdict.n))
            else:
                self._window(finding, labels)

    def _window(self, finding: Finding, labels: tuple[str, str, str]) -> None:
        verdict = finding.verdict
        self._evaluations.labels(*labels, verdict.state).inc()
        self._detections.labels(*labels).inc(int(finding.alarm))
        self._last.labels(*labels).set(finding.time.timestamp())
        self._alarm.labels(*labels).set(int(finding.alarm))
        for gauge, value in (
            (self._statistic, verdict.statistic),
            (self._p_value, verdict.p_val),
            (self._threshold, verdict.threshold),
            (self._effect_size, verdict.effect_size),
        ):
            gauge.labels(*labels).set(np.nan if value is None else value)
        known = self._features[finding.monitor]
        for feature in verdict.features:
            if feature.name in known:
                statistic, p_val = feature.statistic, feature.p_val
                self._feature_statistic.labels(*labels, feature.name).set(np.nan if statistic is None else statistic)
                self._feature_p_value.labels(*labels, feature.name).set(np.nan if p_val is None else p_val)

    def observe_scores(self, monitor: str, scores: Array, threshold: float | None) -> None:
        """Take the scores ``(n,)`` of all judged rows into the histogram."""
        self._scores.observe(monitor, scores, threshold)

    async def flush(self) -> None:
        """Nothing to do: a scrape reads memory."""

    async def close(self) -> None:
        """Nothing to do."""


class ScoreHistogram(Collector):
    """``offpath_instance_score``: scores as multiples of the threshold, so that one set of buckets suits all."""

    def __init__(self, monitors: Iterable[MonitorLabels]) -> None:
        self._labels = {monitor.monitor: monitor[:3] for monitor in monitors}
        self._counts = {name: np.zeros(len(RATIOS) + 1, dtype=np.int64) for name in self._labels}
        self._sums = dict.fromkeys(self._labels, 0.0)

    def observe(self, monitor: str, scores: Array, threshold: float | None) -> None:
        if not threshold or monitor not in self._counts:
            return
        ratios = scores[np.isfinite(scores)] / threshold
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
