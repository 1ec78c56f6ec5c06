"""Lists of sections in values that may be anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def items(section: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The sections of a list, with their indices; what is no section is passed over."""
    for i, item in enumerate(section if isinstance(section, list) else ()):
        if isinstance(item, dict):
            yield i, item


def repeated(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """The indices of texts that were there before, and where they were first.

    >>> list(repeated(["a", "b", "a"]))
    [(2, 0)]
    """
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if isinstance(value, str) and first.setdefault(value, i) != i:
            yield i, first[value]
