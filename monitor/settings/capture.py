"""The sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field, SecretStr

from monitor.settings.choosing import RedactRuleSettings, SampleRuleSettings
from monitor.settings.quantities import Duration, Size, parse_duration, parse_size
from monitor.settings.section import Conflict, Section
from monitor.settings.values import (
    Address,
    AddressOrPath,
    Flag,
    HeaderName,
    Name,
    Number,
    PathPattern,
    Text,
    Url,
    Whole,
    same_place,
)

LEAST_QUEUE = 128 * 1024
"""Bytes: two chunks of what the relay reads at once."""

_CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key")


class ReceiverTlsSettings(Section):
    """TLS towards an https `url`. The files are read again when they change."""

    ca: str | None = Field(default=None, description="PEM file of the CA of its certificate; default: the system's.")
    cert: str | None = Field(default=None, description="PEM file of the sidecar's own certificate, for mutual TLS.")
    key: str | None = Field(default=None, description="PEM file of its key; default: it is in `cert`.")

    def conflicts(self) -> Iterator[Conflict]:
        """A key by itself."""
        if self.key is not None and self.cert is None:
            yield Conflict("key: is of no use without cert", ("key", "cert"))


class CaptureSettings(Section):
    """The sidecar. [capture.md](capture.md) explains what it captures."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["combined"], "properties": {"combined": {"const": True}}},
            "then": {
                "properties": {
                    "mode": {"const": "all"},
                    "sample_rules": {"items": {"properties": {"side": {"type": "null"}}}},
                }
            },
        }
    )

    listen: AddressOrPath = Field(default="127.0.0.1:9081", description="host:port that clients call, or unix:path.")
    upstream: AddressOrPath = Field(
        default="127.0.0.1:8080", description="host:port of the model server, or unix:path."
    )
    admin: Address = Field(default="127.0.0.1:9082", description="host:port of /metrics, /healthz and /readyz.")
    workers: Whole = Field(
        default=1, ge=1, le=64, description="Relay processes that share the port, each with a shipper and spool."
    )
    mode: Literal["all", "request", "response", "none"] = Field(
        default="all", description="Which side is copied; none relays only."
    )
    combined: Flag = Field(default=False, description="One event for a request and its response together.")
    include: tuple[PathPattern, ...] = Field(
        default=("inference",),
        json_schema_extra={"minItems": 1},
        description="Paths that are captured, `*` and `?` are wildcards; `inference`: the protocols' own.",
    )
    exclude: tuple[PathPattern, ...] = Field(
        default=(),
        description="Paths that are not, whatever `include` says.",
        json_schema_extra={"items": {"type": "string", "pattern": "^[/*]"}},
    )
    sample: Number = Field(default=1.0, ge=0.0, le=1.0, description="Share of the requests that is captured.")
    sample_rules: tuple[SampleRuleSettings, ...] = Field(
        default=(), description="Rates of single models or sides; the first rule that fits goes before `sample`."
    )
    source: str = Field(default="", description="CloudEvents source; default: http://HOST:PORT of the listener.")
    namespace: Name = Field(default="default", description="The events' namespace attribute.")
    model: str = Field(default="", description="Model name for paths that hold none.")
    endpoint: str = Field(default="", description="The events' endpoint attribute.")
    types: Literal["kserve", "seldon"] = Field(default="kserve", description="Whose CloudEvents types to send.")
    key: Literal["model", "request"] = Field(
        default="model",
        description="What the events of a partition share. request: those of a model spread over all partitions, for "
        "monitors whose windows say `merge`.",
    )
    url: Url | None = Field(default=None, description="Post events here instead of to the transport.")
    max_body: Size = Field(default="1MiB", description="Larger bodies are cut, and marked as truncated.")
    queue: Size = Field(
        default="32MiB", description="Copies waiting for the shipper; beyond it they are dropped and counted."
    )
    spool: Text = Field(default=".offpath/spool.db", description="Where events wait while their receiver is away.")
    spool_limit: Size = Field(default="256MiB", description="Beyond it the oldest go, and are counted.")
    headers: tuple[HeaderName, ...] = Field(default=(), description="Headers that events carry, as `metadata`.")
    redact: tuple[RedactRuleSettings, ...] = Field(default=(), description="What must not leave the sidecar.")
    redact_key_env: str = Field(default="OFFPATH_REDACT_KEY", description="Environment variable with the hash's key.")
    redact_key_file: str | None = Field(default=None, description="File with the hash's key, instead of a variable.")
    inflate: Flag = Field(default=False, description="Send compressed bodies inflated, up to `max_body`.")
    inflate_limit: Size = Field(default="16MiB", description="What redaction inflates a body to at most.")
    spool_age: Duration = Field(default="1d", description="Events that waited for so long go, and are counted.")
    buffer: Size = Field(default="8MiB", description="Events in memory; beyond it they go to the spool.")
    timeout: Duration = Field(default="10s", description="Of connecting to `url`, and of each wait for an answer.")
    connections: Whole = Field(default=4, ge=1, le=256, description="To `url`; events of one key share one.")
    pipeline: Whole = Field(
        default=32, ge=1, le=1024, description="Requests under way on a connection; 1: each waits for the last answer."
    )
    token: SecretStr = Field(
        default=SecretStr(""), description="Sent to `url` as bearer token; better OFFPATH_CAPTURE__TOKEN or a file."
    )
    token_file: str = Field(default="", description="File with the bearer token, read again when it changes.")
    tls: ReceiverTlsSettings = Field(default=ReceiverTlsSettings(), description="TLS towards an https `url`.")
    grace: Duration = Field(default="10s", description="Time to drain after SIGTERM.")

    def conflicts(self) -> Iterator[Conflict]:
        """Too little room, addresses that are one, what combined events and credentials need."""
        if parse_size(self.queue) < LEAST_QUEUE:
            words = f"queue: must be {LEAST_QUEUE // 1024}KiB at least: a smaller one has no room for a chunk"
            yield Conflict(words, ("queue",))
        if not parse_duration(self.timeout) > 0:
            yield Conflict("timeout: must be longer than 0", ("timeout",))
        if same_place(self.admin, self.listen):
            yield Conflict("admin: must be another address than listen", ("admin", "listen"))
        if same_place(self.upstream, self.listen):
            words = "upstream: is the sidecar's own listen; give the model server's address"
            yield Conflict(words, ("upstream", "listen"))
        if self.tls != ReceiverTlsSettings() and not str(self.url or "").startswith("https:"):
            yield Conflict("tls: is for an https url", ("tls", "url"))
        yield from self._choice()

    def _choice(self) -> Iterator[Conflict]:
        """Of what is captured, and what of it."""
        if self.combined and self.mode != "all":
            yield Conflict(f"combined: needs mode: all, not mode: {self.mode}", ("combined", "mode"))
        if self.combined and any(rule.side is not None for rule in self.sample_rules):
            words = "sample_rules: a combined event has no side: leave side out"
            yield Conflict(words, ("combined", "sample_rules"))
        if not self.include:
            yield Conflict("include: is empty: nothing would be captured", ("include",))
        if "inference" in self.exclude:
            words = "exclude: to leave out the inference paths, leave the word inference out of include"
            yield Conflict(words, ("exclude",))
        hidden = {rule.header.lower() for rule in self.redact if rule.header is not None}
        if open_ := [name for name in self.headers if name in _CREDENTIALS and name not in hidden]:
            words = (
                f"headers: {', '.join(open_)} holds credentials: events carry it only with a rule for it under redact"
            )
            yield Conflict(words, ("headers", "redact"))
