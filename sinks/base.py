"""What leaves the process: findings, the records that carry them, and the protocols of those who take them.

:class:`Record` and :class:`Publisher` stand here, below ``monitor``, because imports run one way
(monitor -> sinks -> detectors) and a sink may publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

import orjson

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
    """The destination cannot take records now; the same call may succeed later.

    ``left`` are the records of a batch that it has not taken, in their order (``None``: perhaps none was taken),
    ``refused`` those that it never will; it has taken the others. It asks to be left alone for ``retry_after`` seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        left: Sequence[Record] | None = None,
        refused: Sequence[Record] = (),
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.left, self.refused, self.retry_after = left, refused, retry_after


class Rejected(ValueError):
    """The destination will never take this record; the message says why.

    ``refused`` are the records of a batch that it is about (``None``: some); all the others were taken.
    """

    def __init__(self, message: str, *, refused: Sequence[Record] | None = None) -> None:
        super().__init__(message)
        self.refused = refused


class Publisher(Protocol):
    """Takes records to one destination."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once all are durable; raise :class:`Unavailable` (publish again what is left) or :class:`Rejected`."""
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
        """Plain JSON values: what :meth:`to_json` writes, read again."""
        plain: dict[str, Any] = orjson.loads(self.to_json())
        return plain

    def to_json(self) -> bytes:
        """JSON; times as ISO 8601 in UTC, not finite numbers as ``null``, the verdict without its per-row arrays."""
        told = {name: getattr(self, name) for name in _TOLD}
        told["verdict"] = {name: getattr(self.verdict, name) for name in _VERDICT}
        return orjson.dumps(told, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


_TOLD = tuple(field.name for field in fields(Finding) if field.name != "verdict")
_VERDICT = tuple(field.name for field in fields(Verdict) if field.name not in ("instance_score", "feature_score"))


def _plain(value: Any) -> Any:
    """What orjson leaves to us: positions, numpy's booleans, other mappings and sets."""
    if isinstance(value, Position):
        return value._asdict()
    return to_json(value)


class Sink(Protocol):
    """A destination of findings. Redelivery happens: a finding whose ``id`` was taken before changes nothing."""

    async def write(self, findings: Sequence[Finding]) -> None: ...

    async def flush(self) -> None:
        """Return once everything written is durable; raise :class:`Unavailable` if it cannot be now."""
        ...

    async def close(self) -> None: ...
