"""The sidecar's counters: which there are, and their text for Prometheus.

The relay shows them, its own and the shipper's: a shipper that dies takes none along, and a liveness probe that asks
for them never restarts a sidecar whose relay is well. A key is a sample's name with its labels, as Prometheus writes
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

Counters = Counter[str]


class Metric(NamedTuple):
    """A metric and all its label sets: series exist from the start."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ("",)

    @property
    def samples(self) -> list[str]:
        return [self.name + labels for labels in self.labels]


def _each(label: str, *values: str) -> tuple[str, ...]:
    return tuple(f'{{{label}="{value}"}}' for value in values)


_SIDES = _each("side", "request", "response", "feedback", "exchange")
_PREFIX = "offpath_capture_"

METRICS = tuple(
    Metric(_PREFIX + name, kind, text, labels or ("",))
    for name, kind, text, labels in (
        ("workers", "gauge", "Relay processes that run.", ()),
        ("worker_starts_total", "counter", "Starts of relay processes.", ()),
        ("connections_total", "counter", "Client connections accepted.", ()),
        ("connections", "gauge", "Client connections open now.", ()),
        ("connections_room", "gauge", "Client connections that the limit of open files has room for.", ()),
        ("accept_pauses_total", "counter", "Times that further clients had to wait for want of file descriptors.", ()),
        ("bytes_total", "counter", "Bytes relayed, by who sent them.", _each("side", "client", "upstream")),
        ("upstream_errors_total", "counter", "Client connections closed for want of an upstream connection.",
            _each("reason", "refused", "timeout", "failed")),
        ("copied_frames_total", "counter", "Chunks of traffic handed to the shipper.", ()),
        ("dropped_frames_total", "counter", "Chunks that never became events, by reason.",
            _each("reason", "queue_full", "http2_data", "shipper_died", "shutdown", "resync")),
        ("dropped_bytes_total", "counter", "Bytes dropped because the queue to the shipper was full.", ()),
        ("gaps_total", "counter", "Times that a connection's copy was interrupted.", ()),
        ("queue_bytes", "gauge", "Bytes waiting for the shipper.", ()),
        ("shipper_up", "gauge", "1 while the shipper runs.", ()),
        ("shipper_starts_total", "counter", "Starts of the shipper.", ()),
        ("events_total", "counter", "Events made, by side.", _SIDES),
        ("published_total", "counter", "Events that their receiver has taken.", ()),
        ("spooled_total", "counter", "Events that had to wait on disk.", ()),
        ("dropped_events_total", "counter", "Events lost after they were made, by reason.",
            _each("reason", "spool_full", "expired", "rejected", "invalid", "spool_unavailable", "spool_damaged",
                "shutdown")),
        ("discarded_messages_total", "counter", "Requests and responses that could not become events, by reason.",
            _each("reason", "gap", "malformed", "incomplete", "reset", "streams", "upgrade", "unsolicited", "pipelined",
                "internal", "shipper_died", "shutdown")),
        ("skipped_total", "counter", "Requests that are not captured on purpose, by reason.",
            _each("reason", "method", "path", "probe", "header", "excluded", "sampled")),
        ("sampled_out_total", "counter", "Events that were not made because of sampling, by side.", _SIDES),
        ("truncated_total", "counter", "Bodies cut, by reason.", _each("reason", "max_body", "memory", "incomplete")),
        ("redacted_total", "counter", "Bodies that redaction rules apply to, by outcome: withheld could not be read.",
            _each("outcome", "redacted", "withheld")),
        ("inflated_total", "counter", "Compressed bodies, by outcome: left are sent as they are.",
            _each("outcome", "inflated", "left")),
        ("claims_total", "counter", "Bodies too large for an event, by outcome: failed are sent in it all the same.",
            _each("outcome", "stored", "failed")),
        ("payloads_removed_total", "counter", "Stored bodies removed for age or room.", ()),
        ("unparsed_connections_total", "counter", "Connections that cannot be followed, by reason.",
            _each("reason", "http2_gap", "malformed", "internal", "tls", "upgrade", "server_first", "unknown")),
        ("publish_failures_total", "counter", "Batches that the receiver did not take at once.", ()),
        ("spool_events", "gauge", "Events waiting on disk.", ()),
        ("spool_bytes", "gauge", "Bytes waiting on disk.", ()),
        ("payloads_bytes", "gauge", "Bytes of stored bodies.", ()),
    )
)  # fmt: skip

_GAUGES = frozenset(sample for metric in METRICS if metric.kind == "gauge" for sample in metric.samples)


def sample(name: str, **labels: str) -> str:
    """The key of a sample.

    >>> sample("skipped_total", reason="path")
    'offpath_capture_skipped_total{reason="path"}'
    """
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{_PREFIX}{name}{{{inside}}}" if inside else _PREFIX + name


class Ledger:
    """The relay's own counters, and those of every shipper there has been. ``parts`` are other ledgers to add."""

    def __init__(self) -> None:
        self.own: Counters = Counter()
        self.parts: list[Ledger] = []
        self._shipper: dict[str, float] = {}
        self._before: Counters = Counter()

    def report(self, changed: Mapping[str, float]) -> None:
        """The living shipper's values of some samples."""
        self._shipper.update(changed)

    def shipper_gone(self) -> None:
        """Keep what the dead shipper counted; the next one begins at 0."""
        for name, value in self._shipper.items():
            if name not in _GAUGES:
                self._before[name] += int(value)
        self._shipper = {name: value for name, value in self._shipper.items() if name in _GAUGES}

    def __getitem__(self, name: str) -> float:
        own = self.own[name] + self._before[name] + self._shipper.get(name, 0)
        return own + sum(part[name] for part in self.parts)

    def text(self) -> str:
        """Prometheus' text format, version 0.0.4."""
        lines: list[str] = []
        for metric in METRICS:
            lines += (f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}")
            lines += (f"{name} {self[name]:.15g}" for name in metric.samples)
        return "\n".join(lines) + "\n"
