"""The whole configuration file."""

from __future__ import annotations

from pydantic import Field

from monitor.settings.capture import CaptureSettings
from monitor.settings.models import ModelSettings
from monitor.settings.monitors import MonitorSettings
from monitor.settings.section import Section
from monitor.settings.services import IngestSettings, PayloadSettings, WorkerSettings
from monitor.settings.sinks import PrometheusSink, SinkSettings, StoreSink
from monitor.settings.transports import AnyTransport, TransportSettings


class Settings(Section):
    """The whole configuration file."""

    models: tuple[ModelSettings, ...] = Field(default=(), description="What is watched.")
    monitors: tuple[MonitorSettings, ...] = Field(default=(), description="What is asked of it.")
    transport: AnyTransport = TransportSettings()
    sinks: tuple[SinkSettings, ...] = (StoreSink(type="store"), PrometheusSink(type="prometheus"))
    capture: CaptureSettings = CaptureSettings()
    payloads: PayloadSettings = PayloadSettings()
    worker: WorkerSettings = WorkerSettings()
    ingest: IngestSettings = IngestSettings()
