"""Can the windows of a monitor be merged, and do their summaries fit into records?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detectors.registry import KINDS
from monitor.configuration.document import Path
from monitor.configuration.mistakes import Found
from monitor.parts import largest_record, most_rows
from monitor.settings import KafkaTransportSettings, WindowSettings, parse_size


def check_merging(monitor: Mapping[str, Any], columns: int, transport: Any, at: Path) -> Iterator[Found]:
    """Mistakes of the monitor at ``at``, whose detector sees so many columns (0: not known), if its windows merge."""
    window, detector = monitor.get("window"), monitor.get("detector")
    if not isinstance(window, dict) or window.get("merge") is not True:
        return
    kind = detector.get("type") if isinstance(detector, dict) else None
    if KINDS.get(str(kind), "drift") != "drift":
        yield Found((*at, "window", "merge"), True, f"is of no use to {kind}, which judges each row by itself")
        return
    size, limit = window.get("sample", WindowSettings.model_fields["sample"].default), _most_bytes(transport)
    if not isinstance(size, int) or limit is None or not columns:
        return
    most = largest_record(columns, size, 0)
    if most > limit:
        expected = (
            f"a summary of so many rows of {columns} columns may have {most:,} bytes, and a record "
            f"{limit:,} (transport.max_record): say at most {most_rows(columns, 0, limit):,}"
        )
        yield Found((*at, "window", "sample"), size, expected)


def _most_bytes(transport: Any) -> int | None:
    """What a record of Kafka may hold; the embedded log takes far more than the largest sample of usual tables."""
    if not isinstance(transport, dict) or transport.get("type") != "kafka":
        return None
    try:
        return parse_size(transport.get("max_record", KafkaTransportSettings.model_fields["max_record"].default))
    except (TypeError, ValueError):
        return None
