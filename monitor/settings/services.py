"""What runs beside the sidecar: the worker, the CloudEvents endpoint, the directory of large bodies."""

from __future__ import annotations

from pydantic import Field

from monitor.settings.section import Section
from monitor.settings.values import Duration, Name, Size


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


class PayloadSettings(Section):
    """Bodies too large for an event, stored once in a directory that sidecar and worker share (claim check)."""

    directory: str | None = Field(default=None, description="The directory; default: all bodies stay in their events.")
    above: Size = Field(default="256KiB", description="Larger bodies are stored.")
    limit: Size = Field(default="1GiB", description="Of all stored bodies; beyond it the oldest go.")
    keep: Duration = Field(default="1d", description="Age at which stored bodies go.")
