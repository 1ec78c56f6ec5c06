"""A worker with everything around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detectors.registry import requires
from monitor.findings import MonitorSpec
from monitor.outcome import REASONS
from monitor.outflow import Outflow
from monitor.settings import Settings, StoreSink, parse_duration
from monitor.transport.base import Source
from monitor.wiring.monitors import build_specs
from monitor.wiring.outlets import SinkOutlet, build_outlets, monitor_labels
from monitor.wiring.routes import build_merging, build_pipeline
from monitor.wiring.transport import OpenTransport, open_transport
from monitor.worker import Judging, Worker
from sinks.records import Publisher

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import PrometheusSink as Prometheus


class Merging(NamedTuple):
    """The worker that reads summaries, and its source."""

    worker: Worker
    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A worker and what has to be closed after it; ``merging`` is the one that merges windows, if any monitor asks."""

    worker: Worker
    registry: CollectorRegistry
    transport: OpenTransport
    source: Source
    outlets: Sequence[SinkOutlet]
    specs: Sequence[MonitorSpec]
    metrics: PipelineMetrics
    merging: Merging | None = None

    async def run(self) -> None:
        """Until :meth:`stop`, or until one of the workers fails: then the other ends, too."""
        if self.merging is None:
            await self.worker.run()
        else:
            await together(self.worker, self.merging.worker)

    def stop(self) -> None:
        """Ask the workers to end after the block at hand."""
        self.worker.stop()
        if self.merging is not None:
            self.merging.worker.stop()

    async def close(self) -> None:
        await self.source.close()
        if self.merging is not None:
            await self.merging.source.close()
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

    specs = build_specs(settings)
    _bound_threads(settings, specs)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which tells nothing here
    metrics = CollectorRegistry()
    transport = open_transport(settings)
    try:
        source = transport.source(settings.worker)
        merging = build_merging(specs, transport.partitions())
        summaries = transport.summaries(settings.worker) if merging is not None else None
        outlets = build_outlets(settings, specs, transport, metrics)
        dead_letters = transport.publisher(settings.transport.dead_letters)
        parts = transport.publisher(settings.transport.summaries) if merging is not None else None
    except BaseException:
        transport.abandon()
        raise
    for collector in transport.collectors():
        metrics.register(collector)
    numbers = _numbers(settings, metrics, specs, outlets)
    turn = asyncio.Lock()

    def work(source: Source, pipeline: Judging, parts: Publisher | None = None) -> Worker:
        outflow = Outflow(outlets, dead_letters, parts, numbers, turn, source.pause)
        return Worker(source, pipeline, outflow, numbers, clock, parse_duration(settings.worker.commit_every))

    worker = work(source, build_pipeline(settings, specs), parts)
    second = Merging(work(summaries, merging), summaries) if merging is not None and summaries is not None else None
    return Assembly(worker, metrics, transport, source, outlets, specs, numbers, second)


def _numbers(
    settings: Settings, metrics: CollectorRegistry, specs: Sequence[MonitorSpec], outlets: Sequence[SinkOutlet]
) -> PipelineMetrics:
    """What the worker counts, in the registry."""
    from sinks.pipeline_metrics import PipelineMetrics
    from sinks.prometheus import PrometheusSink as Prometheus

    scores = next((outlet.sink for outlet in outlets if isinstance(outlet.sink, Prometheus)), None)
    _show_again(settings, scores, specs)
    merged = [spec.name for spec in specs if spec.summariser is not None]
    published = ("summaries",) if merged else ()
    stages = ("commit", "dead_letters", *published, *(type(outlet.sink).__name__ for outlet in outlets))
    return PipelineMetrics(metrics, monitor_labels(specs), REASONS, scores, stages, merged)


async def together(*workers: Worker) -> None:
    """Run workers until one ends, then stop the others; raises what one of them raised."""
    tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.stop()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    for error in ended:
        if error is not None:
            raise error


def _bound_threads(settings: Settings, specs: Sequence[MonitorSpec]) -> None:
    """torch takes every core otherwise; it is loaded only where a detector needs it."""
    metas = [spec.detector.meta for spec in specs]
    needed = {package for meta in metas for package in requires(meta.detector_type, meta.params)}
    if "torch" in needed or ("alibi_detect" in needed and find_spec("torch")):
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
