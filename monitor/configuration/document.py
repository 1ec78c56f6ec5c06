"""A YAML document as plain values, with the place of every one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from monitor.configuration.mistakes import ConfigurationError, Mistake

Path = tuple["str | int", ...]
"""Keys and indices from the top to a value."""


class Place(NamedTuple):
    """Where a value stands; ``origin`` is a file or an environment variable."""

    origin: str
    line: int
    column: int


class Document(NamedTuple):
    """Values, their places, what was wrong with the text itself, and what may be."""

    values: dict[str, Any]
    places: dict[Path, Place]
    mistakes: list[Mistake]
    warnings: list[Mistake]


def unusable(origin: str, why: str, line: int = 0) -> ConfigurationError:
    """A mistake with which nothing else can be found."""
    return ConfigurationError([Mistake(origin, line, min(line, 1), "", None, why)])


def spelled(path: Path) -> str:
    """``("monitors", 0, "window")`` as ``monitors[0].window``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def place_of(places: Mapping[Path, Place], path: Path) -> Place:
    """The place of a value, or of the innermost value around it that is there."""
    while path not in places:
        path = path[:-1]
    return places[path]
