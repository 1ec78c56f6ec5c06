"""What runs beside the sidecar: the worker, the CloudEvents endpoint, the directory of large bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from monitor.settings.quantities import Duration, Size, parse_duration, parse_size
from monitor.settings.section import Conflict, Section
from monitor.settings.values import Address, Name, Whole


class WorkerSettings(Section):
    """The loop that judges."""

    group: Name = Field(default="offpath", description="Consumer group: whose place in the log is remembered.")
    listen: Address = Field(default="127.0.0.1:9090", description="host:port of the status page, /api and /metrics.")
    commit_every: Duration = Field(default="1s", description="Time between flushes of the sinks and commits.")
    lookback: Whole = Field(default=10_000, ge=0, description="Events within which duplicates and pairs are found.")
    torch_threads: Whole = Field(default=1, ge=1, description="More are slower on a busy core.")


class TlsSettings(Section):
    """TLS of a listener. The files are read again when they change."""

    cert: str | None = Field(default=None, description="PEM file of the certificate and its chain; default: no TLS.")
    key: str | None = Field(default=None, description="PEM file of its key; default: it is in `cert`.")
    client_ca: str | None = Field(
        default=None, description="PEM file of the CA that clients' certificates must be of (mutual TLS)."
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Files by themselves."""
        for name in ("key", "client_ca"):
            if getattr(self, name) is not None and self.cert is None:
                yield Conflict(f"{name}: is of no use without cert", (name, "cert"))


class IngestSettings(Section):
    """The CloudEvents HTTP endpoint. [ingest.md](ingest.md) explains what it takes and answers."""

    listen: Address = Field(default="127.0.0.1:9091", description="host:port that loggers and triggers call.")
    admin: Address | None = Field(
        default=None,
        description="host:port of /healthz, /readyz and /metrics without TLS; default: only `listen` has them.",
    )
    max_body: Size = Field(default="1MiB", description="Larger events are refused with 413.")
    waiting: Size = Field(default="64MiB", description="Of requests under way; what does not fit is answered 429.")
    timeout: Duration = Field(default="30s", description="Within which a request's body must have come.")
    remember: Whole = Field(
        default=100_000, ge=0, description="Events within which the same one again is known, and not stored."
    )
    key: Literal["model", "request"] = Field(
        default="model",
        description="What the events of a partition share, if no `partitionkey` says. request: those of a model spread "
        "over all partitions, whatever a `partitionkey` says.",
    )
    tls: TlsSettings = Field(default=TlsSettings(), description="TLS of `listen`.")
    token_env: str = Field(
        default="OFFPATH_INGEST_TOKEN", description="Variable with the bearer token that senders must show, if set."
    )
    token_file: str | None = Field(
        default=None, description="File with such tokens, one a line; read again when it changes."
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Too little room, or time."""
        if parse_size(self.waiting) < max(2 * parse_size(self.max_body), 64 * 1024):
            yield Conflict("waiting: must be twice max_body and 64KiB at least", ("waiting", "max_body"))
        if not parse_duration(self.timeout) > 0:
            yield Conflict("timeout: must be longer than 0", ("timeout",))


class PayloadSettings(Section):
    """Bodies too large for an event, stored once in a directory that sidecar and worker share (claim check)."""

    directory: str | None = Field(default=None, description="The directory; default: all bodies stay in their events.")
    above: Size = Field(default="256KiB", description="Larger bodies are stored.")
    limit: Size = Field(default="1GiB", description="Of all stored bodies; beyond it the oldest go.")
    keep: Duration = Field(default="1d", description="Age at which stored bodies go.")
