"""The one typed configuration, a file a subject. Read once, by :mod:`monitor.configuration`; frozen from then on."""

from monitor.settings.capture import CaptureSettings
from monitor.settings.choosing import RedactRuleSettings, SampleRuleSettings
from monitor.settings.models import FeatureSettings, MatchSettings, ModelSettings
from monitor.settings.monitors import AlarmSettings, DetectorSettings, MonitorSettings, WindowSettings
from monitor.settings.quantities import parse_duration, parse_size
from monitor.settings.section import Section
from monitor.settings.services import IngestSettings, PayloadSettings, TlsSettings, WorkerSettings
from monitor.settings.sinks import CloudEventsSink, JsonLinesSink, PrometheusSink, SinkSettings, StoreSink
from monitor.settings.transports import AnyTransport, KafkaTransportSettings, SecuritySettings, TransportSettings
from monitor.settings.whole import Settings

__all__ = [
    "AlarmSettings",
    "AnyTransport",
    "CaptureSettings",
    "CloudEventsSink",
    "DetectorSettings",
    "FeatureSettings",
    "IngestSettings",
    "JsonLinesSink",
    "KafkaTransportSettings",
    "MatchSettings",
    "ModelSettings",
    "MonitorSettings",
    "PayloadSettings",
    "PrometheusSink",
    "RedactRuleSettings",
    "SampleRuleSettings",
    "Section",
    "SecuritySettings",
    "Settings",
    "SinkSettings",
    "StoreSink",
    "TlsSettings",
    "TransportSettings",
    "WindowSettings",
    "WorkerSettings",
    "parse_duration",
    "parse_size",
]
