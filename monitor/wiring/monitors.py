"""Monitors of the configuration: what they select, their windows, their detectors."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectors import artifact, registry
from detectors.agreement import Difference, differences
from detectors.base import Detector, DetectorError, Feature, default_features
from detectors.merging import Summariser
from detectors.online import Online
from monitor import tables
from monitor.columns import Columns
from monitor.configuration.labelcheck import some_unknown
from monitor.count_window import CountWindow
from monitor.findings import MonitorSpec
from monitor.parts import largest_record, most_rows
from monitor.settings import (
    AnyTransport,
    FeatureSettings,
    KafkaTransportSettings,
    ModelSettings,
    MonitorSettings,
    Settings,
    WindowSettings,
    parse_duration,
    parse_size,
)
from monitor.stretch import Stretch
from monitor.summary_window import SummaryWindow
from monitor.time_window import TimeWindow
from monitor.transport.embedded import MAX_RECORD_BYTES
from monitor.windows import Window

_log = logging.getLogger("offpath.wiring")

SMALLEST_SAMPLE = 100
"""Rows; ``window.sample`` takes no fewer."""


def features_of(settings: Sequence[FeatureSettings]) -> tuple[Feature, ...]:
    return tuple(Feature(feature.name, feature.type, feature.categories) for feature in settings)


def selection(
    model: ModelSettings, monitor: MonitorSettings, fitted: Sequence[Feature] = ()
) -> tuple[Columns | None, Columns | None]:
    """What the monitor takes of the request and of the response; ``None`` for a side that it does not look at.

    Where the model's columns are not configured, they are those that the detector was ``fitted`` on, if it knows their
    names; of joined sides it does not know which is whose.
    """
    request, response = features_of(model.features), features_of(model.outputs)
    picks = monitor.columns
    if picks is None and monitor.side != "joined" and tuple(fitted) != default_features(len(fitted)):
        request, response = request or tuple(fitted), response or tuple(fitted)
    if monitor.side == "request":
        return Columns(request, monitor.tensor, picks), None
    if monitor.side == "response":
        return None, Columns(response, monitor.tensor, picks)
    of = [None if picks is None else [n for n in picks if n in {f.name for f in side}] for side in (request, response)]
    return Columns(request, None, of[0]), Columns(response, None, of[1])


def selected_features(model: ModelSettings, monitor: MonitorSettings) -> tuple[Feature, ...]:
    """The columns that reach the monitor's detector, as far as the configuration names them."""
    return tuple(feature for side in selection(model, monitor) if side is not None for feature in side.features)


def make_window(
    window: WindowSettings, summariser: Summariser | None = None
) -> Callable[[Mapping[str, Any] | None], Window]:
    """A constructor of the configured window, given the state to resume from."""
    if window.time is not None:
        seconds, lateness = parse_duration(window.time), parse_duration(window.lateness)
        if summariser is not None:
            return lambda state: SummaryWindow(seconds, lateness, summariser, state)
        return lambda state: TimeWindow(seconds, lateness, window.max_rows, state)
    if window.sliding is not None:
        size, step = window.sliding, window.every
        return lambda state: CountWindow(size, step, state)
    assert window.count is not None
    return partial(_tumbling, window.count)


def _tumbling(size: int, state: Mapping[str, Any] | None) -> Window:
    return CountWindow(size, None, state)


def load_detector(monitor: MonitorSettings, features: Sequence[Feature]) -> Detector:
    """The monitor's detector, from its artefact or fitted on its reference.

    Raises
    ------
    DetectorError : the artefact is of another type, or fitted on other columns, kinds or categories than
        the monitor selects.
    """
    wanted = monitor.detector
    if wanted.artifact is not None:
        detector = artifact.load(Path(wanted.artifact), allow_code=wanted.allow_code)
    else:
        assert wanted.reference is not None
        reference = Path(wanted.reference)
        table = tables.read(reference, features)
        for found in table.strangers:  # where all values are such, the check of the configuration has refused it
            _log.warning("monitor %s: %s", monitor.name, some_unknown(found, reference.name))
        fittable: Any = registry.create(wanted.type, **wanted.params)
        detector = fittable.fit(table.rows, table.features)
    meta = detector.meta
    if meta.detector_type != wanted.type:
        raise DetectorError(f"monitor {monitor.name}: the artefact is of type {meta.detector_type}, not {wanted.type}")
    told = [] if not features else [_told(features, found) for found in differences(meta.features, features)]
    if told:
        raise DetectorError(f"monitor {monitor.name}: {'; '.join(told)}; fit it again with this configuration")
    return detector


def _told(features: Sequence[Feature], found: Difference) -> str:
    if found.column is None:
        return f"its columns are {found.given}, but the detector was fitted on {found.fitted}"
    key = "type" if found.what == "kind" else found.what
    return f"{features[found.column].name}.{key}: the artefact was fitted with {found.fitted}, not {found.given}"


def build_specs(settings: Settings) -> tuple[MonitorSpec, ...]:
    """All monitors, their detectors loaded."""
    models = {model.name: model for model in settings.models}
    limit = most_bytes(settings.transport)
    return tuple(_spec(models[monitor.model], monitor, limit) for monitor in settings.monitors)


def most_bytes(transport: AnyTransport) -> int:
    """Bytes of a record that the transport takes."""
    if isinstance(transport, KafkaTransportSettings):
        return parse_size(transport.max_record)
    return min(MAX_RECORD_BYTES, parse_size(transport.retain) // 2)


def summariser_of(monitor: MonitorSettings, detector: Detector, limit: int) -> Summariser | None:
    """What sums up windows that are to be merged; ``None`` if the monitor's are not.

    Raises
    ------
    DetectorError : a summary could be larger than ``limit``, what a record may hold.
    """
    if not monitor.window.merge:
        return None
    if detector.meta.kind != "drift":
        raise DetectorError(
            f"monitor {monitor.name}: window.merge is of no use to {detector.meta.kind} detectors, which judge each row"
        )
    summariser = Summariser(detector, monitor.window.sample)
    columns = len(detector.meta.features)
    most = largest_record(columns, summariser.size, summariser.cells)
    if most > limit:
        fitting = most_rows(columns, summariser.cells, limit)
        mend = f"say sample: {fitting}" if fitting >= SMALLEST_SAMPLE else "take a larger transport.max_record"
        raise DetectorError(
            f"monitor {monitor.name}: window.sample: the summary of a window, {summariser.size:,} rows of {columns} "
            f"columns, may have {most:,} bytes, and a record {limit:,}: {mend}"
        )
    return summariser


def _spec(model: ModelSettings, monitor: MonitorSettings, limit: int) -> MonitorSpec:
    features = selected_features(model, monitor)
    detector = load_detector(monitor, features)
    summariser = summariser_of(monitor, detector, limit)
    window = make_window(monitor.window, summariser)
    told: dict[str, Any] = {
        "window": monitor.window.model_dump(),
        "side": monitor.side,
        "tensor": monitor.tensor,
        "columns": monitor.columns,
    }
    if isinstance(detector, Online):
        window, told["memory"] = partial(Stretch, monitor.window.count or 0, detector.memory), detector.memory
    fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return MonitorSpec(
        monitor.name,
        model.namespace,
        model.name,
        detector,
        detector.meta.features,
        window,
        fingerprint,
        monitor.alarm.consecutive,
        monitor.alarm.min_effect_size,
        summariser,
    )
