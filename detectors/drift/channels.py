"""What online tests measure of the last rows, for windows of several sizes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detectors.base import Array
from detectors.drift.columns import ColumnReference
from detectors.drift.proportions import fisher_p

Codes = npt.NDArray[Any]
_FLOOR = 3.0


class Channel(Protocol):
    """A statistic, larger is stranger, of the last ``w`` rows, for each of several ``w``.

    ``columns`` are the places of the columns that it speaks of; ``floor`` is the least by which it is scaled.
    """

    columns: tuple[int, ...]
    floor: float

    def encode(self, x: Array) -> Codes:
        """What is remembered of rows ``(m, d)``; as many rows. It depends on each row alone, to the last bit."""
        ...

    def measure(self, codes: Codes, m: int, windows: Sequence[int]) -> Array:
        """``(m, len(windows))`` statistics at each of the last ``m`` encoded rows; NaN where there are too few rows.

        Bit by bit the same, however many rows there are before those that the windows hold.
        """
        ...

    def effect_size(self, codes: Codes) -> float:
        """Of the encoded rows of one window: 0 none."""
        ...


class Additive(ABC):
    """A channel whose statistic depends on sums of whole numbers over the window, which are exact in any order."""

    columns: tuple[int, ...]
    floor = 1e-9

    @abstractmethod
    def encode(self, x: Array) -> Codes: ...

    @abstractmethod
    def of_sums(self, sums: Array, w: int) -> Array:
        """``(m,)`` statistics of ``(m, k)`` sums over ``w`` rows."""

    def measure(self, codes: Codes, m: int, windows: Sequence[int]) -> Array:
        before = len(codes) - m
        total = np.zeros((len(codes) + 1, codes.shape[1]), dtype=np.int64)
        np.cumsum(codes, axis=0, out=total[1:])
        found = np.full((m, len(windows)), np.nan)
        for i, w in enumerate(windows):
            first = max(w - before - 1, 0)  # of the m rows, the first with a full window
            if first < m:
                ends = np.arange(before + first, len(codes)) + 1
                found[first:, i] = self.of_sums((total[ends] - total[ends - w]).astype(np.float64), w)
        return found


@lru_cache(maxsize=65_536)
def _surprise(hits: int, n: int, k: int, w: int, alternative: str) -> float:
    return -math.log10(max(fisher_p(hits, n, k, w, alternative), 1e-300))


class Share(Additive):
    """Whether one of two things happens as often as in the reference: ``-log10`` of Fisher's p-value, from a table.

    Parameters
    ----------
    column, hits, n : where the column is, and how often it happened among ``n`` rows of the reference.
    alternative : ``two-sided``, or only ``greater`` or ``less``.
    """

    floor = _FLOOR  # p-values need no scale, but that of a share which never varied would be 0

    def __init__(self, column: int, hits: int, n: int, alternative: str = "two-sided") -> None:
        self.columns = (column,)
        self._hits, self._n, self._alternative = hits, n, alternative
        self._tables: dict[int, Array] = {}

    def encode(self, x: Array) -> Codes:
        return self.happens(x[:, self.columns[0]])[:, None].astype(np.int32)

    def happens(self, values: Array) -> npt.NDArray[np.bool_]:
        """Of the column's values ``(m,)``; here: that they are missing."""
        return ~np.isfinite(values)

    def of_sums(self, sums: Array, w: int) -> Array:
        counts = sums[:, 0].astype(np.intp)
        table = self._tables.setdefault(w, np.full(w + 1, np.nan))
        for k in np.unique(counts).tolist():
            if np.isnan(table[k]):
                table[k] = _surprise(self._hits, self._n, k, w, self._alternative)
        found: Array = table[counts]
        return found

    def effect_size(self, codes: Codes) -> float:
        return abs(float(codes[:, 0].mean()) - self._hits / self._n)


def missing_shares(columns: Sequence[ColumnReference], n_ref: int) -> list[Channel]:
    """A channel for each column's missing values: that they come is a change too."""
    return [Share(j, column.missing, n_ref) for j, column in enumerate(columns)]
