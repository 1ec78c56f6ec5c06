"""What leaves the process: findings, the records that carry them, and the protocols of those who take them.

:class:`Record` and :class:`Publisher` stand here, below ``monitor``, because imports run one way
(monitor -> sinks -> detectors) and a sink may publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from detectors.base import DetectorKind, Verdict, to_json

Scope = Literal["window", "instance"]


class Record(NamedTuple):
    """One message of a transport: CloudEvents in Kafka's binary mode (``ce_`` headers), or whatever was sent.

    ``value`` of ``None`` is a tombstone; ``timestamp`` is seconds since the epoch, as the log or sender gave it.
    """

    key: str | None
    headers: Mapping[str, str]
    value: bytes | None
    timestamp: float


class Unavailable(ConnectionError):
    """The destination cannot take records now; the same call may succeed later."""


class Rejected(ValueError):
    """The destination will never take this record; the message says why."""


class Publisher(Protocol):
    """Takes records to one destination."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once all are durable; raise :class:`Unavailable` (retry all) or :class:`Rejected`."""
        ...

    async def close(self) -> None: ...


class Position(NamedTuple):
    """Where a row stands: partition of the topic, offset of its event, row inside the event."""

    partition: str
    offset: int
    row: int


@dataclass(frozen=True, slots=True)
class FlaggedInstance:
    """One outlying or adversarial row: its values by column, and each column's share of the score if known."""

    row: int
    score: float
    values: Mapping[str, Any]
    feature_score: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement of one monitor, on a window or on the rows of one event.

    ``id`` is deterministic: the same rows judged again give the same id, and sinks keep the first.
    A ``window`` finding comes for every evaluation, whatever its state; an ``instance`` finding only for an event
    with flagged rows. ``alarm`` is true when the monitor's alarm rule fired, which a single ``alert`` need not do.
    ``start``, ``end`` and ``time`` are event times; ``time`` is the newest row's.
    """

    id: str
    monitor: str
    namespace: str
    model: str
    kind: DetectorKind
    scope: Scope
    detector_type: str
    verdict: Verdict
    alarm: bool
    time: datetime
    start: datetime
    end: datetime
    first: Position
    last: Position
    events: int
    text: str = ""
    event_id: str = ""
    request_id: str = ""
    instances: tuple[FlaggedInstance, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; times as ISO 8601 in UTC; the verdict without its per-row arrays."""
        plain = {name: to_json(getattr(self, name)) for name in _PLAIN}
        verdict = self.verdict.to_dict()
        del verdict["instance_score"], verdict["feature_score"]
        times = {name: getattr(self, name).isoformat() for name in ("time", "start", "end")}
        ends = {name: getattr(self, name)._asdict() for name in ("first", "last")}
        return {**plain, **times, **ends, "verdict": verdict}


_PLAIN = (
    "id",
    "monitor",
    "namespace",
    "model",
    "kind",
    "scope",
    "detector_type",
    "alarm",
    "events",
    "text",
    "event_id",
    "request_id",
    "instances",
)


class Sink(Protocol):
    """A destination of findings. Redelivery happens: a finding whose ``id`` was taken before changes nothing."""

    async def write(self, findings: Sequence[Finding]) -> None: ...

    async def flush(self) -> None:
        """Return once everything written is durable; raise :class:`Unavailable` if it cannot be now."""
        ...

    async def close(self) -> None: ...
