"""What is wrong with a configuration, told so that it can be mended at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Mistake(NamedTuple):
    """One mistake: where it is, what stands there, what was expected, and the nearest valid word.

    ``origin`` is the file, or the environment variable, that it came from; ``line`` and ``column`` count from 1, and
    are 0 where there is no text to point at. ``path`` is the place in the configuration: ``monitors[0].window``.

    >>> print(Mistake("offpath.yaml", 14, 5, "monitors[0].windw", None, "unknown key", "window"))
    offpath.yaml:14:5: monitors[0].windw: unknown key; did you mean "window"?
    """

    origin: str
    line: int
    column: int
    path: str
    value: Any
    expected: str
    nearest: str = ""

    def __str__(self) -> str:
        place = f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin
        hint = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        shown = "" if self.value is None else f" (got {_shown(self.value)})"
        at = f"{self.path}: " if self.path else "" if self.origin.startswith("OFFPATH_") else "the file: "
        return f"{place}: {at}{self.expected}{shown}{hint}"


class Found(NamedTuple):
    """A mistake without its place in the text: the steps to the value, the value, what was expected."""

    path: tuple[str | int, ...]
    value: Any
    expected: str
    nearest: str = ""


class ConfigurationError(ValueError):
    """The configuration cannot be used; ``mistakes`` holds all that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def nearest(word: Any, known: Iterable[str]) -> str:
    """The known word that is most like it, whatever the case, or ``""``.

    >>> nearest("windw", ["window", "detector"]), nearest("ksdrift", ["KSDrift", "KNN"])
    ('window', 'KSDrift')
    """
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word).lower()[:100], folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def unknown_name(origin: str, name: str, known: Sequence[str]) -> Mistake:
    """A name that is none of the known ones."""
    return Mistake(origin, 0, 0, name, None, f"unknown; there are {', '.join(known) or 'none'}", nearest(name, known))


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
