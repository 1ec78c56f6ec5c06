"""The one typed configuration. Read once, by :mod:`monitor.configuration`; frozen from then on."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$",
        description="Letters, digits, '.', '_', '-'.",
    ),
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}


def parse_duration(text: str | float) -> float:
    """``"5m"`` and the like to seconds; a bare number is seconds.

    >>> parse_duration("1.5h"), parse_duration(2)
    (5400.0, 2.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", str(text).strip())
    if not found:
        raise ValueError("a duration is a number with ms, s, m, h or d, for example 30s or 5m")
    return float(found[1]) * _UNITS[found[2] or "s"]


def parse_size(text: str | int) -> int:
    """``"256KiB"`` and the like to bytes; a bare number is bytes.

    >>> parse_size("256KiB"), parse_size(10)
    (262144, 10)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B|B)?", str(text).strip())
    if not found:
        raise ValueError("a size is a number with B, KB, MB, GB, KiB, MiB or GiB, for example 256KiB")
    return int(float(found[1]) * _SIZES[found[2] or ""])


def _duration(text: str | float) -> str | float:
    parse_duration(text)
    return text


def _size(text: str | int) -> str | int:
    parse_size(text)
    return text


def _path_pattern(text: str) -> str:
    if text != "inference" and not text.startswith(("/", "*")):
        raise ValueError(
            "expected a pattern of the whole path that begins with / or *, for example /v1/models/income:*, "
            "or the word inference"
        )
    return text


PathPattern = Annotated[str, AfterValidator(_path_pattern)]
Duration = Annotated[str | float, AfterValidator(_duration), Field(examples=["30s", "5m", "1h"])]
Size = Annotated[str | int, AfterValidator(_size), Field(examples=["256KiB", "10MiB"])]


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureSettings(Section):
    """One column of a model's input or output."""

    name: str = Field(description="As payloads that name their columns call it.")
    type: Literal["numeric", "categorical"] = Field(default="numeric", description="What its values are.")
    categories: tuple[str, ...] = Field(
        default=(), description="Labels of the codes 0, 1, ... of a categorical column."
    )


class MatchSettings(Section):
    """Which events belong to the model. Every given field must match; ``*`` and ``?`` are wildcards."""

    model: str | None = Field(default=None, description="Model name in the event; default: the model's own name.")
    namespace: str | None = Field(default=None, description="Namespace in the event.")
    endpoint: str | None = Field(default=None, description="Endpoint or predictor: default, canary.")
    source: str | None = Field(default=None, description="CloudEvents source: which sidecar or logger.")


class ModelSettings(Section):
    """One model whose traffic is watched."""

    name: Name
    namespace: Name = Field(default="default", description="Label of its metrics and findings.")
    match: MatchSettings = Field(default=MatchSettings(), description="Which events are the model's.")
    protocol: Literal["auto", "v1", "v2", "seldon"] = Field(
        default="auto", description="auto: what the event, its path or else its body says."
    )
    features: tuple[FeatureSettings, ...] = Field(default=(), description="Columns of the request, in order.")
    outputs: tuple[FeatureSettings, ...] = Field(default=(), description="Columns of the response, in order.")


class WindowSettings(Section):
    """How rows become windows: exactly one of ``count``, ``time`` or ``sliding``."""

    count: int | None = Field(default=None, ge=1, description="Tumbling windows of so many rows.")
    time: Duration | None = Field(default=None, description="Tumbling windows of so much event time.")
    lateness: Duration = Field(default="0s", description="With time: how late an event may come and still count.")
    max_rows: int = Field(default=100_000, ge=1, description="With time: a window keeps at most so many rows.")
    sliding: int | None = Field(default=None, ge=1, description="The last so many rows, judged every `step` rows.")
    step: int | None = Field(default=None, ge=1, description="With sliding; default: a tenth of it.")

    @model_validator(mode="after")
    def _one_kind(self) -> WindowSettings:
        given = [name for name in ("count", "time", "sliding") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of count, time or sliding (given: {', '.join(given) or 'none'})")
        if self.time is not None and parse_duration(self.time) <= 0:
            raise ValueError("time must be longer than 0")
        return self


class DetectorSettings(Section):
    """A fitted detector: an artefact of ``offpath fit``, or a reference to fit on at start."""

    type: str = Field(description="A detector_type, for example TabularDrift or IForest.")
    artifact: str | None = Field(default=None, description="Directory written by `offpath fit`.")
    reference: str | None = Field(default=None, description="CSV, Parquet or npz file to fit on at start.")
    params: dict[str, Any] = Field(default_factory=dict, description="The detector's own parameters.")

    @model_validator(mode="after")
    def _one_origin(self) -> DetectorSettings:
        if (self.artifact is None) == (self.reference is None):
            raise ValueError("give either artifact or reference")
        return self


class AlarmSettings(Section):
    """When alerts of a windowed monitor become an alarm."""

    consecutive: int = Field(default=1, ge=1, description="So many alerting windows in a row.")
    min_effect_size: float = Field(default=0.0, ge=0.0, description="Smaller effects are no alarm, however certain.")


class MonitorSettings(Section):
    """One question asked of one model's traffic."""

    name: Name
    model: Name = Field(description="Name of a model above.")
    side: Literal["request", "response", "joined"] = Field(
        default="request", description="joined: request and response side by side, paired by request id."
    )
    tensor: str | None = Field(default=None, description="Which tensor of several; default: all, side by side.")
    columns: tuple[str, ...] | None = Field(default=None, description="Which columns; default: all.")
    window: WindowSettings = Field(
        default=WindowSettings(count=1000), description="How rows become windows; default: count: 1000."
    )
    detector: DetectorSettings = Field(description="What judges.")
    alarm: AlarmSettings = Field(default=AlarmSettings(), description="When alerts become an alarm.")
    sinks: tuple[Name, ...] | None = Field(default=None, description="Names of sinks; default: all.")


class TransportSettings(Section):
    """Where copied payloads travel. ``embedded``: a log in one SQLite file, for one machine."""

    type: Literal["embedded"] = Field(default="embedded", description="A log in one SQLite file.")
    path: str = Field(default=".offpath/log.db", description="The log's file.")
    topic: Name = Field(default="payloads", description="Topic of the copied payloads.")
    dead_letters: Name = Field(default="dead-letters", description="Topic of what could not be used.")
    partitions: int = Field(default=1, ge=1, le=64, description="Of a new topic; the events of a model share one.")
    retain: Size = Field(default="1GiB", description="What slow consumers may hold back before old records go.")


class SecuritySettings(Section):
    """How Kafka's brokers are spoken to. Passwords come from a variable or a file, never from here."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="As Kafka names them; SSL is TLS."
    )
    ca: str | None = Field(default=None, description="PEM file of the CA; default: the system's CAs.")
    cert: str | None = Field(default=None, description="PEM file of the client's certificate, for mutual TLS.")
    key: str | None = Field(default=None, description="PEM file of its key; default: it is in `cert`.")
    check_hostname: bool = Field(default=True, description="The certificate must be of the broker's name.")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="Of SASL."
    )
    username: str | None = Field(default=None, description="Of SASL.")
    password_env: str = Field(default="OFFPATH_KAFKA_PASSWORD", description="Variable that holds the password.")
    password_file: str | None = Field(default=None, description="File that holds it, instead of the variable.")

    @model_validator(mode="after")
    def _fits(self) -> SecuritySettings:
        tls, sasl = self.protocol.endswith("SSL"), self.protocol.startswith("SASL_")
        if sasl and not self.username:
            raise ValueError(f"protocol {self.protocol} needs a username")
        if not sasl and self.username:
            raise ValueError(f"protocol {self.protocol} shows no username: say SASL_SSL or SASL_PLAINTEXT")
        for name in ("ca", "cert", "key"):
            if not tls and getattr(self, name) is not None:
                raise ValueError(f"protocol {self.protocol} uses no {name}: say SSL or SASL_SSL")
        if self.key is not None and self.cert is None:
            raise ValueError("a key is of no use without cert")
        return self


class KafkaTransportSettings(Section):
    """Where copied payloads travel. ``kafka``: topics on Kafka's brokers, for any number of machines."""

    type: Literal["kafka"] = Field(description="Topics on Kafka's brokers.")
    bootstrap: str = Field(description="host:port of one or more brokers, separated by commas.")
    client: Literal["auto", "kafka-python", "confluent-kafka"] = Field(
        default="auto", description="auto: confluent-kafka where it is installed, as it needs less CPU."
    )
    security: SecuritySettings = Field(default=SecuritySettings(), description="TLS and SASL.")
    topic: Name = Field(default="payloads", description="Topic of the copied payloads.")
    dead_letters: Name = Field(default="dead-letters", description="Topic of what could not be used.")
    state: Name = Field(default="offpath-state", description="Topic of checkpoints too large for a commit.")
    create_topics: bool = Field(default=True, description="Make topics that are not there, as below.")
    partitions: int = Field(default=6, ge=1, le=10_000, description="Of a new `topic`; the others get one.")
    replication: int | None = Field(default=None, ge=1, description="Of new topics; default: the brokers'.")
    retention: Duration = Field(default="7d", description="Of new topics.")
    max_record: Size = Field(default="1000000", description="Larger records are refused; of new topics, the limit.")
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = Field(
        default="none", description="Of what is sent. kafka-python needs a package for each but gzip."
    )
    timeout: Duration = Field(default="10s", description="Of one call; then the brokers count as away.")
    instance_id: str | None = Field(
        default=None, description="Static membership: a name of this worker alone, the same after a restart."
    )
    session_timeout: Duration = Field(default="45s", description="After it a worker that is gone loses its partitions.")

    @model_validator(mode="after")
    def _fits(self) -> KafkaTransportSettings:
        for address in self.bootstrap.split(","):
            if not re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/]+):\d{1,5}", address.strip()):
                raise ValueError("bootstrap: expected host:port, for example kafka:9092, or several with commas")
        if self.state in (self.topic, self.dead_letters):
            raise ValueError("state must be another topic than topic and dead_letters")
        if not parse_duration(self.timeout) >= 1:
            raise ValueError("timeout must be 1s at least")
        return self


def _transport_type(value: Any) -> Any:
    return value.get("type", "embedded") if isinstance(value, dict) else getattr(value, "type", "embedded")


AnyTransport = Annotated[
    Annotated[TransportSettings, Tag("embedded")] | Annotated[KafkaTransportSettings, Tag("kafka")],
    Discriminator(_transport_type),
]


class StoreSink(Section):
    """Findings in an SQLite file, which the status page reads."""

    type: Literal["store"]
    name: Name = Field(default="store", description="What monitors call it.")
    path: str = Field(default=".offpath/findings.db", description="The file.")
    keep: int = Field(default=100_000, ge=1, description="Findings kept; the oldest go first.")


class PrometheusSink(Section):
    """Findings as metrics, at /metrics of the worker."""

    type: Literal["prometheus"]
    name: Name = Field(default="prometheus", description="What monitors call it.")


class JsonLinesSink(Section):
    """Findings as JSON, one a line."""

    type: Literal["jsonlines"]
    name: Name = Field(default="jsonlines", description="What monitors call it.")
    path: str = Field(description="File to append to, or '-' for standard output.")


class CloudEventsSink(Section):
    """Findings as CloudEvents: to an HTTP receiver (``url``) or to a topic of the transport (``topic``)."""

    type: Literal["cloudevents"]
    name: Name = Field(default="cloudevents", description="What monitors call it.")
    url: str | None = Field(default=None, description="Receiver, http:// or https://.")
    topic: Name | None = Field(default=None, description="Topic of the transport, other than its own.")
    source: str = Field(default="offpath", description="The events' source attribute.")
    timeout: Duration = Field(default="10s", description="Of one call to the receiver.")
    only_alarms: bool = Field(default=False, description="Leave out findings that are no alarm.")

    @model_validator(mode="after")
    def _one_destination(self) -> CloudEventsSink:
        if (self.url is None) == (self.topic is None):
            raise ValueError("give either url or topic")
        return self


SinkSettings = Annotated[StoreSink | PrometheusSink | JsonLinesSink | CloudEventsSink, Field(discriminator="type")]


class SampleRuleSettings(Section):
    """The sampling rate of some models, or of one side of them."""

    model: str = Field(default="*", description="Model name in the path; `*` and `?` are wildcards.")
    side: Literal["request", "response"] | None = Field(default=None, description="Default: both.")
    rate: float = Field(ge=0.0, le=1.0, description="Share that is captured, 0 to 1.")


class RedactRuleSettings(Section):
    """What must not leave: exactly one of ``header``, ``pointer``, ``tensor`` or ``column``."""

    header: str | None = Field(default=None, description="Name of a header that events take over.")
    pointer: str | None = Field(default=None, description="JSON pointer into the body; `*` is any member or element.")
    tensor: str | None = Field(default=None, description="Name of a tensor: an input, an output, `instances`.")
    column: str | None = Field(default=None, description="Name of a column, of the payload or of the model.")
    action: Literal["drop", "mask", "hash"] = Field(description="Take it out, make it `***` or null, or a keyed hash.")
    model: str = Field(default="*", description="Model name in the path; `*` and `?` are wildcards.")
    side: Literal["request", "response"] | None = Field(default=None, description="Default: both.")

    @property
    def target(self) -> tuple[str, str]:
        """What kind of thing is meant, and its name."""
        for kind in _TARGETS:
            if (name := getattr(self, kind)) is not None:
                return kind, name
        return "", ""

    @model_validator(mode="after")
    def _one_target(self) -> RedactRuleSettings:
        given = [kind for kind in _TARGETS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_TARGETS)} (given: {', '.join(given) or 'none'})")
        if not self.target[1]:
            raise ValueError(f"{given[0]} is empty")
        if self.pointer is not None and not re.fullmatch(r"(/([^~]|~[01])*)+", self.pointer):
            raise ValueError(
                "a JSON pointer begins with /, for example /instances/*/name; ~ is written ~0, and / within a name ~1"
            )
        return self


_TARGETS = ("header", "pointer", "tensor", "column")
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key")


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError("expected the name of an HTTP header")
    return text.lower()


HeaderName = Annotated[str, AfterValidator(_header_name)]


class PayloadSettings(Section):
    """Bodies too large for an event, stored once in a directory that sidecar and worker share (claim check)."""

    directory: str | None = Field(default=None, description="The directory; default: all bodies stay in their events.")
    above: Size = Field(default="256KiB", description="Larger bodies are stored.")
    limit: Size = Field(default="1GiB", description="Of all stored bodies; beyond it the oldest go.")
    keep: Duration = Field(default="1d", description="Age at which stored bodies go.")


class CaptureSettings(Section):
    """The sidecar. [capture.md](capture.md) explains what it captures."""

    listen: str = Field(default="127.0.0.1:9081", description="host:port that clients call, or unix:path.")
    upstream: str = Field(default="127.0.0.1:8080", description="host:port of the model server, or unix:path.")
    admin: str = Field(default="127.0.0.1:9082", description="host:port of /metrics, /healthz and /readyz.")
    workers: int = Field(
        default=1, ge=1, le=64, description="Relay processes that share the port, each with a shipper and spool."
    )
    mode: Literal["all", "request", "response", "none"] = Field(
        default="all", description="Which side is copied; none relays only."
    )
    combined: bool = Field(default=False, description="One event for a request and its response together.")
    include: tuple[PathPattern, ...] = Field(
        default=("inference",),
        description="Paths that are captured, `*` and `?` are wildcards; `inference`: the protocols' own.",
    )
    exclude: tuple[PathPattern, ...] = Field(default=(), description="Paths that are not, whatever `include` says.")
    sample: float = Field(default=1.0, ge=0.0, le=1.0, description="Share of the requests that is captured.")
    sample_rules: tuple[SampleRuleSettings, ...] = Field(
        default=(), description="Rates of single models or sides; the first rule that fits goes before `sample`."
    )
    source: str = Field(default="", description="CloudEvents source; default: http://HOST:PORT of the listener.")
    namespace: Name = Field(default="default", description="The events' namespace attribute.")
    model: str = Field(default="", description="Model name for paths that hold none.")
    endpoint: str = Field(default="", description="The events' endpoint attribute.")
    types: Literal["kserve", "seldon"] = Field(default="kserve", description="Whose CloudEvents types to send.")
    url: str | None = Field(default=None, description="Post events here instead of to the transport.")
    max_body: Size = Field(default="1MiB", description="Larger bodies are cut, and marked as truncated.")
    queue: Size = Field(
        default="32MiB", description="Copies waiting for the shipper; beyond it they are dropped and counted."
    )
    spool: str = Field(default=".offpath/spool.db", description="Where events wait while their receiver is away.")
    spool_limit: Size = Field(default="256MiB", description="Beyond it the oldest go, and are counted.")
    headers: tuple[HeaderName, ...] = Field(default=(), description="Headers that events carry, as `metadata`.")
    redact: tuple[RedactRuleSettings, ...] = Field(default=(), description="What must not leave the sidecar.")
    redact_key_env: str = Field(default="OFFPATH_REDACT_KEY", description="Environment variable with the hash's key.")
    redact_key_file: str | None = Field(default=None, description="File with the hash's key, instead of a variable.")
    inflate: bool = Field(default=False, description="Send compressed bodies inflated, up to `max_body`.")
    inflate_limit: Size = Field(default="16MiB", description="What redaction inflates a body to at most.")
    spool_age: Duration = Field(default="1d", description="Events that waited for so long go, and are counted.")
    buffer: Size = Field(default="8MiB", description="Events in memory; beyond it they go to the spool.")
    timeout: Duration = Field(default="10s", description="Of connecting to `url`, and of each wait for an answer.")
    connections: int = Field(default=4, ge=1, le=256, description="To `url`; events of one key share one.")
    pipeline: int = Field(
        default=32, ge=1, le=1024, description="Requests under way on a connection; 1: each waits for the last answer."
    )
    token: SecretStr = Field(
        default=SecretStr(""), description="Sent to `url` as bearer token; better OFFPATH_CAPTURE__TOKEN or a file."
    )
    token_file: str = Field(default="", description="File with the bearer token, read again when it changes.")
    grace: Duration = Field(default="10s", description="Time to drain after SIGTERM.")

    @model_validator(mode="after")
    def _whole_exchanges(self) -> CaptureSettings:
        if self.combined and self.mode != "all":
            raise ValueError(f"combined needs mode: all, not mode: {self.mode}")
        if self.combined and any(rule.side is not None for rule in self.sample_rules):
            raise ValueError("a combined event has no side: leave side out of sample_rules")
        if not self.include:
            raise ValueError("include is empty: nothing would be captured")
        if "inference" in self.exclude:
            raise ValueError("to leave out the inference paths, leave the word inference out of include")
        hidden = {rule.header.lower() for rule in self.redact if rule.header is not None}
        for name in self.headers:
            if name in _CREDENTIALS and name not in hidden:
                raise ValueError(f"{name} holds credentials: events carry it only with a rule for it under redact")
        return self


class WorkerSettings(Section):
    """The loop that judges."""

    group: Name = Field(default="offpath", description="Consumer group: whose place in the log is remembered.")
    listen: str = Field(default="127.0.0.1:9090", description="host:port of the status page, /api and /metrics.")
    commit_every: Duration = Field(default="1s", description="Time between flushes of the sinks and commits.")
    lookback: int = Field(default=10_000, ge=0, description="Events within which duplicates and pairs are found.")
    torch_threads: int = Field(default=1, ge=1, description="More are slower on a busy core.")


class IngestSettings(Section):
    """The CloudEvents HTTP endpoint."""

    listen: str = Field(default="127.0.0.1:9091", description="host:port that loggers and triggers call.")
    max_body: Size = Field(default="1MiB", description="Larger events are refused with 413.")


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
