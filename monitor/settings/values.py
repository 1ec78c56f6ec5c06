"""Kinds of single values: names, durations, sizes, patterns of paths, names of headers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$",
        description="Letters, digits, '.', '_', '-'.",
    ),
]

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


def parse_duration(text: str | float) -> float:
    """``"5m"`` and the like to seconds; a bare number is seconds.

    >>> parse_duration("1.5h"), parse_duration(2)
    (5400.0, 2.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", str(text).strip())
    if not found:
        raise ValueError("a duration is a number with ms, s, m, h or d, for example 30s or 5m")
    return float(found[1]) * _UNITS[found[2] or "s"]


def parse_size(text: str | int) -> int:
    """``"256KiB"`` and the like to bytes; a bare number is bytes.

    >>> parse_size("256KiB"), parse_size(10)
    (262144, 10)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B|B)?", str(text).strip())
    if not found:
        raise ValueError("a size is a number with B, KB, MB, GB, KiB, MiB or GiB, for example 256KiB")
    return int(float(found[1]) * _SIZES[found[2] or ""])


def _duration(text: str | float) -> str | float:
    parse_duration(text)
    return text


def _size(text: str | int) -> str | int:
    parse_size(text)
    return text


def _path_pattern(text: str) -> str:
    if text != "inference" and not text.startswith(("/", "*")):
        raise ValueError(
            "expected a pattern of the whole path that begins with / or *, for example /v1/models/income:*, "
            "or the word inference"
        )
    return text


PathPattern = Annotated[str, AfterValidator(_path_pattern)]
Duration = Annotated[str | float, AfterValidator(_duration), Field(examples=["30s", "5m", "1h"])]
Size = Annotated[str | int, AfterValidator(_size), Field(examples=["256KiB", "10MiB"])]


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError("expected the name of an HTTP header")
    return text.lower()


HeaderName = Annotated[str, AfterValidator(_header_name)]
