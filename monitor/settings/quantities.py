"""Durations and sizes: a number with its unit, or a bare number of seconds or bytes."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NamedTuple

from pydantic import PlainValidator, WithJsonSchema


class _Kind(NamedTuple):
    """What is written how: a pattern of number and unit, units in the base unit, the one meant without any."""

    pattern: str
    units: dict[str, float]
    unit: str
    expected: str
    largest: float
    most: str


_DURATION = _Kind(
    r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?",
    {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0},
    "s",
    "a duration is a number with ms, s, m, h or d, for example 30s or 5m",
    36_500 * 86_400.0,
    "expected a duration of at most 36500d",
)
_SIZE = _Kind(
    r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]i?B|B)?",
    {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3},
    "B",
    "a size is a number with B, KB, MB, GB, KiB, MiB or GiB, for example 256KiB",
    2**50,
    "expected a size of at most 1048576GiB",
)


def parse_duration(text: str | float) -> float:
    """``"5m"`` and the like to seconds; a bare number is seconds. At most a hundred years.

    >>> parse_duration("1.5h"), parse_duration(2)
    (5400.0, 2.0)
    """
    return _quantity(text, _DURATION)


def parse_size(text: str | float) -> int:
    """``"256KiB"`` and the like to bytes; a bare number is bytes. At most a pebibyte.

    >>> parse_size("256KiB"), parse_size(10)
    (262144, 10)
    """
    return int(_quantity(text, _SIZE))


def in_words(duration: str | float) -> str:
    """A duration with its unit.

    >>> in_words("5m"), in_words(300)
    ('5m', '300s')
    """
    text = str(duration).strip()
    return text if text[-1:].isalpha() else f"{text}s"


def _quantity(text: str | float, kind: _Kind) -> float:
    """In the base unit. Raises :class:`ValueError` if it is no such quantity, or too large."""
    found: float | None = None
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        found = float(min(text, kind.largest * 2)) if 0 <= text < math.inf else None  # no float holds every int
    elif isinstance(text, str) and (read := re.fullmatch(kind.pattern, text.strip())):
        found = float(read[1]) * kind.units[read[2] or kind.unit]
    if found is None:
        raise ValueError(kind.expected)
    if found > kind.largest:
        raise ValueError(kind.most)
    return found


def _duration(text: Any) -> Any:
    parse_duration(text)
    return text


def _size(text: Any) -> Any:
    parse_size(text)
    return text


def _quantity_schema(kind: _Kind, *examples: str) -> WithJsonSchema:
    members = [{"type": "string", "pattern": rf"^\s*{kind.pattern}\s*$"}, {"type": "number", "minimum": 0}]
    return WithJsonSchema({"anyOf": members, "examples": list(examples)})


Duration = Annotated[str | float, PlainValidator(_duration), _quantity_schema(_DURATION, "30s", "5m", "1h")]
Size = Annotated[str | int, PlainValidator(_size), _quantity_schema(_SIZE, "256KiB", "10MiB")]
