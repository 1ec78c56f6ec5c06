"""Sinks of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.findings import MonitorSpec
from monitor.settings import CloudEventsSink, JsonLinesSink, PrometheusSink, Settings, StoreSink, parse_duration
from monitor.wiring.transport import OpenTransport
from sinks.base import Finding, Sink
from sinks.records import Publisher

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from sinks.prometheus import MonitorLabels


@dataclass(frozen=True, slots=True, eq=False)
class SinkOutlet:
    """A sink, and the monitors whose findings it takes."""

    sink: Sink
    monitors: frozenset[str]

    def takes(self, finding: Finding) -> bool:
        return finding.monitor in self.monitors


def build_outlets(
    settings: Settings, specs: Sequence[MonitorSpec], transport: OpenTransport, metrics: CollectorRegistry
) -> list[SinkOutlet]:
    """Every configured sink, and whose findings it takes."""
    return [
        SinkOutlet(
            build_sink(sink, specs, transport, metrics),
            frozenset(m.name for m in settings.monitors if m.sinks is None or sink.name in m.sinks),
        )
        for sink in settings.sinks
    ]


def build_sink(
    settings: Any, specs: Sequence[MonitorSpec], transport: OpenTransport, metrics: CollectorRegistry
) -> Sink:
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

    return CloudEvents(_destination(settings, transport), settings.source, only_alarms=settings.only_alarms)


def monitor_labels(specs: Sequence[MonitorSpec]) -> list[MonitorLabels]:
    """What the metrics of each monitor are called."""
    from sinks.prometheus import MonitorLabels

    return [MonitorLabels(s.namespace, s.model, s.name, s.kind, tuple(f.name for f in s.features)) for s in specs]


def _destination(settings: CloudEventsSink, transport: OpenTransport) -> Publisher:
    if settings.topic is not None:
        return transport.publisher(settings.topic)
    from monitor.transport.http import HttpPublisher

    assert settings.url is not None
    return HttpPublisher(settings.url, timeout=parse_duration(settings.timeout))
