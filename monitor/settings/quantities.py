"""Durations and sizes: a number with its unit, or a bare number of seconds or bytes."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_DURATION = r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?"
_SIZE = r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]i?B|B)?"
_LONGEST = 36_500 * 86_400.0
_LARGEST = 2**50


def parse_duration(text: str | float) -> float:
    """``"5m"`` and the like to seconds; a bare number is seconds. At most a hundred years.

    >>> parse_duration("1.5h"), parse_duration(2)
    (5400.0, 2.0)
    """
    seconds = _quantity(text, _DURATION, _UNITS, "s")
    if seconds is None:
        raise ValueError("a duration is a number with ms, s, m, h or d, for example 30s or 5m")
    if seconds > _LONGEST:
        raise ValueError("expected a duration of at most 36500d")
    return seconds


def parse_size(text: str | float) -> int:
    """``"256KiB"`` and the like to bytes; a bare number is bytes. At most a pebibyte.

    >>> parse_size("256KiB"), parse_size(10)
    (262144, 10)
    """
    size = _quantity(text, _SIZE, _SIZES, "")
    if size is None:
        raise ValueError("a size is a number with B, KB, MB, GB, KiB, MiB or GiB, for example 256KiB")
    if size > _LARGEST:
        raise ValueError("expected a size of at most 1048576GiB")
    return int(size)


def in_words(duration: str | float) -> str:
    """A duration with its unit.

    >>> in_words("5m"), in_words(300)
    ('5m', '300s')
    """
    text = str(duration).strip()
    return text if text[-1:].isalpha() else f"{text}s"


def _quantity(text: str | float, pattern: str, units: dict[str, Any], unit: str) -> float | None:
    """In the base unit; ``None`` if it is no such quantity."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(min(text, _LARGEST * 2)) if 0 <= text < math.inf else None
    found = re.fullmatch(pattern, text.strip()) if isinstance(text, str) else None
    return float(found[1]) * units[found[2] or unit] if found else None


def _duration(text: Any) -> Any:
    parse_duration(text)
    return text


def _size(text: Any) -> Any:
    parse_size(text)
    return text


def _quantity_schema(pattern: str, *examples: str) -> WithJsonSchema:
    members = [{"type": "string", "pattern": rf"^\s*{pattern}\s*$"}, {"type": "number", "minimum": 0}]
    return WithJsonSchema({"anyOf": members, "examples": list(examples)})


Duration = Annotated[str | float, PlainValidator(_duration), _quantity_schema(_DURATION, "30s", "5m", "1h")]
Size = Annotated[str | int, PlainValidator(_size), _quantity_schema(_SIZE, "256KiB", "10MiB")]
