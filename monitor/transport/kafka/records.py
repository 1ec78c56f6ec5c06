"""Records to Kafka's messages and back, and how large they are there."""

from __future__ import annotations

from collections.abc import Iterable

from sinks.records import Record

RECORD_BYTES = 70
"""Upper bound of what Kafka adds to a record, its lengths and its share of the batch header included."""


def size(record: Record) -> int:
    """Bytes of the record on the broker, not compressed; an upper bound.

    >>> size(Record("k", {"a": "b"}, b"12345", 0.0)) - RECORD_BYTES
    18
    """
    total = RECORD_BYTES + len(record.value or b"") + len((record.key or "").encode("utf-8", "surrogatepass"))
    for name, value in record.headers.items():
        total += 10 + (len(name) + len(value) if value.isascii() else len(name.encode()) + len(encoded(value)))
    return total


def encoded(text: str) -> bytes:
    """UTF-8; what is no text stays recognisable rather than stopping everything behind it."""
    return text.encode("utf-8", "replace")


def headers_out(record: Record) -> list[tuple[str, bytes]]:
    return [(name, encoded(value)) for name, value in record.headers.items()]


def milliseconds(record: Record) -> int | None:
    """Kafka's timestamp; ``None`` leaves it to the client."""
    return int(record.timestamp * 1000) if 0 < record.timestamp < 1e11 else None


def headers_in(headers: Iterable[tuple[str, bytes | str | None]] | None) -> dict[str, str]:
    """A message's headers; one without a value is an empty text, of several of one name the last counts.

    >>> headers_in([("ce_id", b"1"), ("odd", b"\\xff"), ("none", None)])
    {'ce_id': '1', 'odd': '\\ufffd', 'none': ''}
    """
    if not headers:
        return {}
    try:
        return {name: value.decode() for name, value in headers}  # type: ignore[union-attr]  # the common case is quick
    except (UnicodeDecodeError, AttributeError):
        return {name: _text(value) for name, value in headers}


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
