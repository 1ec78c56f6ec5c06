"""The pipeline over the models of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.codecs.detect import decode
from monitor.codecs.inflate import MAX_BYTES
from monitor.events import InvalidEvent, Partition, PayloadEvent
from monitor.findings import MonitorSpec
from monitor.merge_pipeline import MergePipeline
from monitor.pipeline import Pipeline
from monitor.routing import Feed, ModelRoute
from monitor.settings import ModelSettings, MonitorSettings, Settings
from monitor.transport.payloads import read_payload
from monitor.wiring.monitors import selection


def build_pipeline(settings: Settings, specs: Sequence[MonitorSpec]) -> Pipeline:
    """The pipeline over all models; monitors that select the same rows share one feed."""
    by_name = {spec.name: spec for spec in specs}
    routes = [route(model, feeds_of(model, settings.monitors, by_name)) for model in settings.models]
    return Pipeline(routes, decode, settings.worker.lookback, fetcher(settings))


def build_merging(specs: Sequence[MonitorSpec], partitions: Sequence[Partition]) -> MergePipeline | None:
    """What merges the windows of these partitions of the payload topic; ``None`` if no monitor asks for it."""
    return MergePipeline(specs, partitions) if any(spec.summariser is not None for spec in specs) else None


def fetcher(settings: Settings) -> Callable[[PayloadEvent], PayloadEvent]:
    """Reads the bodies of events that say where theirs is, from the configured directory."""
    directory = settings.payloads.directory

    def fetch(event: PayloadEvent) -> PayloadEvent:
        reference = event.headers["ce_dataref"]
        if directory is None:
            raise InvalidEvent("payload_missing", f"the body is at {reference[:100]}; configure payloads.directory")
        return event._replace(data=read_payload(Path(directory), reference, MAX_BYTES))

    return fetch


def feeds_of(
    model: ModelSettings, monitors: Sequence[MonitorSettings], specs: Mapping[str, MonitorSpec]
) -> tuple[Feed, ...]:
    """What the monitors take of the model's traffic; those that select the same rows share a feed."""
    groups: dict[tuple[Any, ...], list[MonitorSettings]] = {}
    for monitor in monitors:
        if monitor.model == model.name:
            columns = monitor.columns or specs[monitor.name].features
            key = monitor.side, monitor.tensor, columns, monitor.window.merge
            groups.setdefault(key, []).append(monitor)
    return tuple(
        Feed(
            *selection(model, members[0], specs[members[0].name].features),
            tuple(specs[member.name] for member in members),
        )
        for members in groups.values()
    )


def route(model: ModelSettings, feeds: tuple[Feed, ...]) -> ModelRoute:
    """Which events are the model's, and what becomes of them."""
    match = {name: pattern for name, pattern in model.match.model_dump().items() if pattern is not None}
    return ModelRoute(model.name, model.namespace, {"model": model.name, **match}, model.protocol, feeds)
