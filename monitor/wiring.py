"""Settings to objects: the only composition root."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from detectors import artifact, registry
from detectors.base import Array, Detector, DetectorError, Feature, Meta, Verdict, as_rows, default_features
from monitor import tables
from monitor.codecs.detect import REASONS, decode
from monitor.columns import Columns
from monitor.events import Finding
from monitor.findings import MonitorSpec
from monitor.pipeline import Pipeline
from monitor.routing import Feed, ModelRoute
from monitor.settings import (
    CloudEventsSink,
    FeatureSettings,
    JsonLinesSink,
    ModelSettings,
    MonitorSettings,
    PrometheusSink,
    Settings,
    StoreSink,
    WindowSettings,
    parse_duration,
)
from monitor.transport import embedded
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.log import EmbeddedLog
from monitor.windows import CountWindow, TimeWindow, Window
from monitor.worker import Worker
from sinks.base import Publisher, Sink

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from monitor.web.server import PageServer
    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import MonitorLabels


@dataclass(frozen=True, slots=True, eq=False)
class SinkOutlet:
    """A sink, and the monitors whose findings it takes."""

    sink: Sink
    monitors: frozenset[str]

    def takes(self, finding: Finding) -> bool:
        return finding.monitor in self.monitors


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A worker and what has to be closed after it."""

    worker: Worker
    registry: CollectorRegistry
    log: EmbeddedLog
    source: EmbeddedSource
    outlets: Sequence[SinkOutlet]
    specs: Sequence[MonitorSpec]
    metrics: PipelineMetrics

    async def close(self) -> None:
        await self.source.close()
        for outlet in self.outlets:
            await outlet.sink.close()
        self.log.close()


def open_log(settings: Settings) -> EmbeddedLog:
    """The embedded log of the configuration, made if there is none.

    It keeps twice the look-back before the commit: an event there is known as a duplicate only by an earlier one.
    """
    return embedded.open_log(settings.transport, warmup=2 * settings.worker.lookback)


def features_of(settings: Sequence[FeatureSettings]) -> tuple[Feature, ...]:
    return tuple(Feature(feature.name, feature.type, feature.categories) for feature in settings)


def selection(model: ModelSettings, monitor: MonitorSettings) -> tuple[Columns | None, Columns | None]:
    """What the monitor takes of the request and of the response; ``None`` for a side that it does not look at."""
    request, response = features_of(model.features), features_of(model.outputs)
    picks = monitor.columns
    if monitor.side == "request":
        return Columns(request, monitor.tensor, picks), None
    if monitor.side == "response":
        return None, Columns(response, monitor.tensor, picks)
    of = [None if picks is None else [n for n in picks if n in {f.name for f in side}] for side in (request, response)]
    return Columns(request, None, of[0]), Columns(response, None, of[1])


def selected_features(model: ModelSettings, monitor: MonitorSettings) -> tuple[Feature, ...]:
    """The columns that reach the monitor's detector, as far as the configuration names them."""
    return tuple(feature for side in selection(model, monitor) if side is not None for feature in side.features)


def make_window(window: WindowSettings) -> Callable[[Mapping[str, Any] | None], Window]:
    """A constructor of the configured window, given the state to resume from."""
    if window.time is not None:
        seconds, lateness = parse_duration(window.time), parse_duration(window.lateness)
        return lambda state: TimeWindow(seconds, lateness, window.max_rows, state)
    if window.sliding is not None:
        size, step = window.sliding, window.step or max(1, window.sliding // 10)
        return lambda state: CountWindow(size, step, state)
    assert window.count is not None
    return partial(_tumbling, window.count)


def _tumbling(size: int, state: Mapping[str, Any] | None) -> Window:
    return CountWindow(size, None, state)


def load_detector(monitor: MonitorSettings, features: Sequence[Feature]) -> Detector:
    """The monitor's detector, from its artefact or fitted on its reference.

    Raises
    ------
    DetectorError : the artefact is of another type, or fitted on other columns than the monitor selects.
    """
    wanted = monitor.detector
    if wanted.artifact is not None:
        detector = artifact.load(Path(wanted.artifact))
    else:
        assert wanted.reference is not None
        table = tables.read(Path(wanted.reference), features)
        fittable: Any = registry.create(wanted.type, **wanted.params)
        detector = fittable.fit(table.rows, table.features)
    meta = detector.meta
    if meta.detector_type != wanted.type:
        raise DetectorError(f"monitor {monitor.name}: the artefact holds a {meta.detector_type}, not a {wanted.type}")
    names, fitted = [f.name for f in features], [f.name for f in meta.features]
    if names and names != fitted:
        raise DetectorError(
            f"monitor {monitor.name}: its columns are {', '.join(names)}, "
            f"but the detector was fitted on {', '.join(fitted)}; fit it again with this configuration"
        )
    return detector


def captured_rows(settings: Settings, model: ModelSettings, monitor: MonitorSettings, path: Path) -> tables.Table:
    """The rows that the monitor would have judged of a captured log; events that cannot be used are passed over.

    Raises
    ------
    tables.TableError : the log holds no rows for the monitor.
    """
    log = EmbeddedLog(path, create=False)
    collector = RowCollector()
    spec = MonitorSpec(
        monitor.name, model.namespace, model.name, collector, selected_features(model, monitor),
        lambda state: CountWindow(32, None, state), "",
    )  # fmt: skip
    pipeline = Pipeline([_route(model, [monitor], {monitor.name: spec})], decode, settings.worker.lookback)
    for block in log.scan(settings.transport.topic):
        if block.deliveries[0].offset == log.start_offset(block.partition):
            pipeline.assign(block.partition, None)
        pipeline.process(block.partition, block.deliveries)
    log.close()
    if not collector.rows:
        raise tables.TableError(f"{path}: holds no rows for monitor {monitor.name}, or fewer than 32")
    rows = np.concatenate(collector.rows)
    return tables.Table(rows, spec.features or default_features(rows.shape[1]))


class RowCollector:
    """Looks like a drift detector; keeps the rows that it is shown."""

    meta = Meta("RowCollector", "drift", {})

    def __init__(self) -> None:
        self.rows: list[Array] = []

    def predict(self, x: npt.ArrayLike) -> Verdict:
        self.rows.append(as_rows(x))
        return Verdict("ok", n=len(self.rows[-1]))


def build_specs(settings: Settings) -> tuple[MonitorSpec, ...]:
    """All monitors, their detectors loaded."""
    models = {model.name: model for model in settings.models}
    return tuple(_spec(models[monitor.model], monitor) for monitor in settings.monitors)


def _spec(model: ModelSettings, monitor: MonitorSettings) -> MonitorSpec:
    features = selected_features(model, monitor)
    detector = load_detector(monitor, features)
    told = {
        "window": monitor.window.model_dump(),
        "side": monitor.side,
        "tensor": monitor.tensor,
        "columns": monitor.columns,
    }
    fingerprint = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return MonitorSpec(
        monitor.name,
        model.namespace,
        model.name,
        detector,
        detector.meta.features,
        make_window(monitor.window),
        fingerprint,
        monitor.alarm.consecutive,
        monitor.alarm.min_effect_size,
    )


def build_pipeline(settings: Settings, specs: Sequence[MonitorSpec]) -> Pipeline:
    """The pipeline over all models; monitors that select the same rows share one feed."""
    routes = [_route(model, settings.monitors, {spec.name: spec for spec in specs}) for model in settings.models]
    return Pipeline(routes, decode, settings.worker.lookback)


def _route(model: ModelSettings, monitors: Sequence[MonitorSettings], specs: Mapping[str, MonitorSpec]) -> ModelRoute:
    groups: dict[tuple[Any, ...], list[MonitorSettings]] = {}
    for monitor in monitors:
        if monitor.model == model.name:
            groups.setdefault((monitor.side, monitor.tensor, monitor.columns), []).append(monitor)
    feeds = tuple(
        Feed(*selection(model, members[0]), tuple(specs[member.name] for member in members))
        for members in groups.values()
    )
    match = {name: pattern for name, pattern in model.match.model_dump().items() if pattern is not None}
    return ModelRoute(model.name, model.namespace, {"model": model.name, **match}, model.protocol, feeds)


def build_sink(settings: Any, specs: Sequence[MonitorSpec], log: EmbeddedLog, metrics: CollectorRegistry) -> Sink:
    """One configured sink."""
    if isinstance(settings, StoreSink):
        from sinks.store import StoreSink as Store

        return Store(Path(settings.path), keep=settings.keep)
    if isinstance(settings, PrometheusSink):
        from sinks.prometheus import PrometheusSink as Prometheus

        return Prometheus(metrics, monitor_labels(specs))
    if isinstance(settings, JsonLinesSink):
        from sinks.jsonlines import JsonLinesSink as JsonLines

        return JsonLines(settings.path)
    assert isinstance(settings, CloudEventsSink)
    from sinks.cloudevents import CloudEventsSink as CloudEvents

    return CloudEvents(_destination(settings, log), settings.source, only_alarms=settings.only_alarms)


def monitor_labels(specs: Sequence[MonitorSpec]) -> list[MonitorLabels]:
    """What the metrics of each monitor are called."""
    from sinks.prometheus import MonitorLabels

    return [MonitorLabels(s.namespace, s.model, s.name, s.kind, tuple(f.name for f in s.features)) for s in specs]


def _destination(settings: CloudEventsSink, log: EmbeddedLog) -> Publisher:
    if settings.topic is not None:
        return EmbeddedPublisher(log, settings.topic)
    from monitor.transport.http import HttpPublisher

    assert settings.url is not None
    return HttpPublisher(settings.url, timeout=parse_duration(settings.timeout))


def build(settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> Assembly:
    """Everything a worker needs.

    Raises
    ------
    DetectorError : a detector cannot be loaded or does not fit its monitor.
    monitor.transport.base.Unavailable : the log or a sink cannot be opened.
    """
    from prometheus_client import CollectorRegistry

    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import PrometheusSink as Prometheus

    specs = build_specs(settings)
    if any(_needs_torch(spec.detector) for spec in specs):
        import torch

        torch.set_num_threads(settings.worker.torch_threads)
    log = open_log(settings)
    metrics = CollectorRegistry()
    everything = frozenset(monitor.name for monitor in settings.monitors)
    outlets = [
        SinkOutlet(
            build_sink(sink, specs, log, metrics),
            frozenset(m.name for m in settings.monitors if m.sinks is None or sink.name in m.sinks) & everything,
        )
        for sink in settings.sinks
    ]
    scores = next((outlet.sink for outlet in outlets if isinstance(outlet.sink, Prometheus)), None)
    numbers = PipelineMetrics(metrics, monitor_labels(specs), REASONS, scores)
    transport = settings.transport
    source = EmbeddedSource(log, transport.topic, settings.worker.group)
    worker = Worker(
        source,
        build_pipeline(settings, specs),
        outlets,
        EmbeddedPublisher(log, transport.dead_letters),
        numbers,
        clock,
        parse_duration(settings.worker.commit_every),
    )
    return Assembly(worker, metrics, log, source, outlets, specs, numbers)


def _needs_torch(detector: Detector) -> bool:
    return "torch" in getattr(type(detector), "requires", ())


def serve_page(settings: Settings, assembly: Assembly, listen: str) -> PageServer:
    """The status page, /api and /metrics of a worker, in a thread.

    Raises
    ------
    DetectorError : no sink of the configuration is a store, which the page reads.
    OSError : the address is taken.
    """
    from monitor.web.app import create_app
    from monitor.web.overview import MonitorInfo, Overview
    from monitor.web.server import PageServer
    from sinks.store import FindingStore

    store = next((sink for sink in settings.sinks if isinstance(sink, StoreSink)), None)
    if store is None:
        raise DetectorError("the status page reads a sink of type store: configure one, or give --no-page")
    windows = {monitor.name: in_words(monitor.window) for monitor in settings.monitors}
    infos = tuple(
        MonitorInfo(
            s.name, s.namespace, s.model, s.kind, s.detector.meta.detector_type, windows[s.name],
            tuple(feature.name for feature in s.features),
        )
        for s in assembly.specs
    )  # fmt: skip
    metrics = assembly.metrics
    overview = Overview(infos, time.time, metrics.summary)
    return PageServer(create_app(FindingStore(Path(store.path)), assembly.registry, overview), listen)


def in_words(window: WindowSettings) -> str:
    """A window as people say it.

    >>> in_words(WindowSettings(count=1000))
    'windows of 1,000 rows'
    """
    if window.time is not None:
        return f"windows of {window.time}"
    if window.sliding is not None:
        return f"the last {window.sliding:,} rows, every {window.step or max(1, window.sliding // 10):,}"
    return f"windows of {window.count:,} rows"
