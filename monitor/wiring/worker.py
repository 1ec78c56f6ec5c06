"""A worker with everything around it, and its page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.base import Detector, DetectorError
from monitor.findings import MonitorSpec
from monitor.outcome import REASONS
from monitor.settings import Settings, StoreSink, parse_duration
from monitor.transport.base import Source
from monitor.wiring.monitors import build_specs, in_words
from monitor.wiring.outlets import SinkOutlet, build_outlets, monitor_labels
from monitor.wiring.routes import build_pipeline
from monitor.wiring.transport import OpenTransport, open_transport
from monitor.worker import Worker

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from monitor.web.server import PageServer
    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import PrometheusSink as Prometheus


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A worker and what has to be closed after it."""

    worker: Worker
    registry: CollectorRegistry
    transport: OpenTransport
    source: Source
    outlets: Sequence[SinkOutlet]
    specs: Sequence[MonitorSpec]
    metrics: PipelineMetrics

    async def close(self) -> None:
        await self.source.close()
        for outlet in self.outlets:
            await outlet.sink.close()
        await self.transport.close()


def build(settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> Assembly:
    """Everything a worker needs.

    Raises
    ------
    DetectorError : a detector cannot be loaded or does not fit its monitor.
    monitor.transport.base.Unavailable : the transport or a sink cannot be opened.
    ValueError : a secret or a file that the settings name is not there.
    """
    from prometheus_client import CollectorRegistry, disable_created_metrics

    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import PrometheusSink as Prometheus

    specs = build_specs(settings)
    if any(_needs_torch(spec.detector) for spec in specs):
        import torch

        torch.set_num_threads(settings.worker.torch_threads)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which tells nothing here
    metrics = CollectorRegistry()
    transport = open_transport(settings)
    try:
        source = transport.source(settings.worker)
        outlets = build_outlets(settings, specs, transport, metrics)
        dead_letters = transport.publisher(settings.transport.dead_letters)
    except BaseException:
        transport.abandon()
        raise
    for collector in transport.collectors():
        metrics.register(collector)
    scores = next((outlet.sink for outlet in outlets if isinstance(outlet.sink, Prometheus)), None)
    if scores is not None:
        _show_again(settings, scores, specs)
    stages = ("commit", "dead_letters", *(type(outlet.sink).__name__ for outlet in outlets))
    numbers = PipelineMetrics(metrics, monitor_labels(specs), REASONS, scores, stages)
    worker = Worker(
        source,
        build_pipeline(settings, specs),
        outlets,
        dead_letters,
        numbers,
        clock,
        parse_duration(settings.worker.commit_every),
    )
    return Assembly(worker, metrics, transport, source, outlets, specs, numbers)


def _show_again(settings: Settings, sink: Prometheus, specs: Sequence[MonitorSpec]) -> None:
    """A restart must not look like the end of an alarm, or like a monitor that never judged."""
    from sinks.records import Unavailable
    from sinks.store import FindingStore

    store = next((sink for sink in settings.sinks if isinstance(sink, StoreSink)), None)
    if store is None:
        return
    with suppress(Unavailable):
        findings = FindingStore(Path(store.path))
        for spec in specs:
            if (latest := findings.latest(spec.name)) is not None:
                sink.resume(latest)
        findings.close()


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
