"""What leaves the process: findings, the records that carry them, and the protocols of those who take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from detectors.base import DetectorKind, FeatureVerdict, Verdict, to_json
from sinks.records import Publisher, Record, Rejected, Unavailable

__all__ = [
    "Finding",
    "FlaggedInstance",
    "Position",
    "Publisher",
    "Record",
    "Rejected",
    "Scope",
    "Sink",
    "Unavailable",
]

Scope = Literal["window", "instance"]


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
        verdict: dict[str, Any] = {name: getattr(self.verdict, name) for name in _VERDICT}
        verdict["features"] = [dict(zip(FeatureVerdict._fields, column, strict=True)) for column in verdict["features"]]
        told["verdict"] = verdict
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
