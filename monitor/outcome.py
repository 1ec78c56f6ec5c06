"""What came of a block of deliveries: findings, dead letters, and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from detectors.base import Array
from monitor.codecs.detect import REASONS as PAYLOAD_REASONS
from monitor.events import DeadLetter
from monitor.parts import Part
from monitor.structured import REASONS as STRUCTURED_REASONS
from sinks.base import Finding

REASONS = (PAYLOAD_REASONS | STRUCTURED_REASONS) | {
    "bad_dataref", "detector_failed", "internal_error", "invalid_summary", "invalid_time", "payload_mismatch",
    "payload_missing", "row_mismatch", "tombstone", "unknown_type",
}  # fmt: skip
"""Every reason of a dead letter."""


@dataclass(slots=True)
class Tally:
    """What happened to the events of a block, in numbers. ``events`` counts by (namespace, model, side).

    ``missing``, ``infinite`` and ``unseen`` count values of a monitor's rows: NaN or null, infinities, labels that are
    none of the column's categories.
    ``summaries`` counts by (monitor, what became of it); ``waiting`` windows of a monitor wait for a partition.
    """

    events: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    infinite: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    scores: list[tuple[str, Array, float | None]] = field(default_factory=list)
    seconds: list[tuple[str, float]] = field(default_factory=list)
    summaries: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: dict[str, int] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What came of a block, or of the passing of time. ``parts`` are for whoever merges them."""

    findings: list[Finding]
    dead_letters: list[DeadLetter]
    tally: Tally
    parts: list[Part]

    @classmethod
    def empty(cls) -> Outcome:
        return cls([], [], Tally(), [])
