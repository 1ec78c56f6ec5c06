"""Findings and their words: what a monitor says of a window, or of the flagged rows of an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from detectors.base import UNSEEN, Array, Detector, DetectorKind, Feature, Verdict
from detectors.merging import Summariser
from monitor.events import PayloadEvent
from monitor.windows import Batch, Rows, Window
from sinks.base import Finding, FlaggedInstance, Position

MAX_FLAGGED = 100
"""Flagged rows told one by one in a finding; the verdict's ``effect_size`` holds the share of all."""


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """A monitor, ready to judge. ``fingerprint`` changes when a saved state no longer fits its configuration."""

    name: str
    namespace: str
    model: str
    detector: Detector
    features: tuple[Feature, ...]
    make_window: Callable[[Mapping[str, Any] | None], Window]
    fingerprint: str
    consecutive: int = 1
    min_effect_size: float = 0.0
    summariser: Summariser | None = None
    """Sums up the windows of a monitor whose model has several partitions; else ``None``."""

    @property
    def kind(self) -> DetectorKind:
        return self.detector.meta.kind

    @property
    def beyond(self) -> tuple[int, int]:
        """Outliers: how many clean rows lie above the detector's threshold, of how many."""
        found: tuple[int, int] = getattr(self.detector, "beyond", (0, 0))
        return found


_WHOLE = 2.0**53
"""Larger numbers are written as they are: not every whole one is a float, and JSON writers take 64 bits at most."""


class EventRows(NamedTuple):
    """The rows of one event, and the event."""

    rows: Rows
    event: PayloadEvent


def instance_finding(spec: MonitorSpec, event: EventRows, scores: Array, threshold: float | None) -> Finding:
    """The finding of an event with flagged rows; the same event gives the same id."""
    rows = event.rows
    assert threshold is not None
    flagged = np.flatnonzero(scores > threshold)
    told = flagged[:MAX_FLAGGED]
    why = spec.detector.predict(rows.x[told]).feature_score
    instances = tuple(
        _flagged(spec.features, rows.x[row], int(row), float(scores[row]), why, i) for i, row in enumerate(told)
    )
    summary = Verdict(
        "alert",
        n=len(rows.x),
        statistic=max(instance.score for instance in instances),
        threshold=threshold,
        effect_size=flagged.size / len(rows.x),
    )
    payload = event.event
    moment = _utc(rows.time)
    return Finding(
        _id(spec.name, *payload.key),
        spec.name, spec.namespace, spec.model, spec.kind, "instance", spec.detector.meta.detector_type,
        summary,
        True,
        moment, moment, moment,
        Position(rows.partition, rows.offset, int(flagged[0])),
        Position(rows.partition, rows.offset, int(flagged[-1])),
        1,
        "; ".join(describe(instance, threshold) for instance in instances[:3]),
        payload.id, payload.request_id, instances,
    )  # fmt: skip


def window_finding(
    spec: MonitorSpec, batch: Batch, verdict: Verdict, alarm: bool, text: str, of: str | None = None
) -> Finding:
    """The finding of one evaluated window; the same window of the same partition (or ``of`` a topic) gives one id."""
    return Finding(
        _id(spec.name, batch.first.partition if of is None else of, batch.ident),
        spec.name,
        spec.namespace,
        spec.model,
        spec.kind,
        "window",
        spec.detector.meta.detector_type,
        verdict,
        alarm,
        _utc(batch.time),
        _utc(batch.start),
        _utc(batch.end),
        batch.first,
        batch.last,
        batch.events,
        text,
    )


def in_words(spec: MonitorSpec, verdict: Verdict) -> str:
    """What a person should read first."""
    if verdict.state == "insufficient_data":
        return f"too little data: {verdict.n} rows, the detector asks for {spec.detector.meta.min_rows}"
    if verdict.state == "ok":
        return "no drift"
    return "; ".join(reason.text for reason in verdict.reasons[:3]) or "the distribution changed"


def describe(instance: FlaggedInstance, threshold: float | None) -> str:
    """One flagged row: the column that contributes most, and the score.

    >>> describe(FlaggedInstance(0, 0.9, {"Age": 190}, {"Age": 0.8}), 0.5)
    'Age = 190 (score 0.9, threshold 0.5)'
    """
    scores = f"score {instance.score:.4g}, threshold {threshold:.4g}" if threshold is not None else ""
    why = instance.feature_score
    name = max(why, key=lambda column: why[column]) if why else ""
    value = instance.values.get(name)
    told = f"{value:g}" if isinstance(value, (int, float)) else str(value)
    return f"{name} = {told} ({scores})" if name else f"row {instance.row} ({scores})"


def _flagged(
    features: Sequence[Feature], x: Array, row: int, score: float, why: Array | None, i: int
) -> FlaggedInstance:
    values = {feature.name: _label(feature, value) for feature, value in zip(features, x.tolist(), strict=False)}
    known = why is not None and not np.isnan(why[i]).all()  # what no column can be blamed for
    parts = dict(zip(values, why[i].tolist(), strict=False)) if why is not None and known else None
    return FlaggedInstance(row, score, values, parts)


def _label(feature: Feature, value: float) -> Any:
    if feature.kind == "categorical" and value == value:
        if value == UNSEEN:
            return "a value never seen"
        if 0 <= value < len(feature.categories) and value.is_integer():
            return feature.categories[int(value)]
    whole = value.is_integer() and abs(value) <= _WHOLE
    return None if value != value else int(value) if whole else value


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def _id(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
