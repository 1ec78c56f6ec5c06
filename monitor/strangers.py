"""Values of a reference's categorical columns that are none of the categories: spelt otherwise, or codes of nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array, Feature

MAX_EXAMPLES = 10
MAX_SHOWN = 40
"""Characters of an example: a stray quote makes one of half a file."""


class Strangers(NamedTuple):
    """``n`` of the ``present`` values of a column are none of its categories; ``examples``, the most frequent first."""

    feature: Feature
    n: int
    present: int
    examples: tuple[str, ...]

    @property
    def everybody(self) -> bool:
        """Whether no value at all is one of the categories."""
        return self.n == self.present


def strangers(feature: Feature, codes: Array, cells: Sequence[Any] | None = None) -> Strangers | None:
    """What of a column's codes ``(n,)`` means no category, ``None`` if nothing; ``cells`` are the values as given.

    Where no categories are named, every code means one, and no label does.

    >>> sex = Feature("sex", "categorical", ("F", "M"))
    >>> found = strangers(sex, np.array([0.0, -1.0, 2.0, np.nan]), ["F", "f", 2, None])
    >>> found.n, found.present, found.examples
    (2, 3, ('f', '2'))
    """
    if feature.kind != "categorical":
        return None
    present = ~np.isnan(codes)
    known = (codes >= 0) & (codes == np.rint(codes)) & (codes < (len(feature.categories) or np.inf))
    where = np.flatnonzero(present & ~known)
    if not where.size:
        return None
    values = (codes[i] if cells is None else cells[i] for i in where.tolist())
    frequent = Counter(map(_shown, values)).most_common(MAX_EXAMPLES)
    return Strangers(feature, len(where), int(present.sum()), tuple(text for text, _ in frequent))


def _shown(value: Any) -> str:
    return (f"{value:g}" if isinstance(value, (float, np.floating)) else str(value))[:MAX_SHOWN]
