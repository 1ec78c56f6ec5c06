"""A worker with everything around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.findings import MonitorSpec
from monitor.outcome import REASONS
from monitor.settings import Settings, StoreSink, parse_duration
from monitor.transport.base import Source
from monitor.wiring.monitors import build_specs
from monitor.wiring.outlets import SinkOutlet, build_outlets, monitor_labels
from monitor.wiring.routes import build_pipeline
from monitor.wiring.transport import OpenTransport, open_transport
from monitor.worker import Worker

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

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
    _bound_threads(settings, specs)
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
    _show_again(settings, scores, specs)
    stages = ("commit", "dead_letters", *(type(outlet.sink).__name__ for outlet in outlets))
    numbers = PipelineMetrics(metrics, monitor_labels(specs), REASONS, scores, stages)
    pipeline, commit_every = build_pipeline(settings, specs), parse_duration(settings.worker.commit_every)
    worker = Worker(source, pipeline, outlets, dead_letters, numbers, clock, commit_every)
    return Assembly(worker, metrics, transport, source, outlets, specs, numbers)


def _bound_threads(settings: Settings, specs: Sequence[MonitorSpec]) -> None:
    """torch takes every core otherwise; it is loaded only where a detector needs it."""
    if any("torch" in getattr(type(spec.detector), "requires", ()) for spec in specs):
        import torch

        torch.set_num_threads(settings.worker.torch_threads)


def _show_again(settings: Settings, sink: Prometheus | None, specs: Sequence[MonitorSpec]) -> None:
    """A restart must not look like the end of an alarm, or like a monitor that never judged."""
    from sinks.records import Unavailable
    from sinks.store import FindingStore

    store = next((sink for sink in settings.sinks if isinstance(sink, StoreSink)), None)
    if store is None or sink is None:
        return
    with suppress(Unavailable):
        findings = FindingStore(Path(store.path))
        for spec in specs:
            if (latest := findings.latest(spec.name)) is not None:
                sink.resume(latest)
        findings.close()
