"""The Kolmogorov-Smirnov distance of many columns with many distinct values, without sorting the window.

Each column has a grid fixed at fit. Counting the window in its cells gives both cumulative shares at every cell's
end: a lower bound of the distance, and for every cell an upper bound of what may lie inside. Only the few cells that
may hold more than the lower bound are looked into, so that the distance is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Array, Histogram
from detectors.drift.cells import Ints, fits_cells
from detectors.drift.columns import ColumnReference, sorted_histogram
from detectors.drift.grouped import Bools, Measured, by_column, order_of
from detectors.drift.kolmogorov import ks_p

_CELLS = 512
_WIDTH = _CELLS + 1  # the last is for missing values
_CODE = 32  # bits for the place among the reference values


class KSOnGrid:
    """Tests the numeric columns that are not counted in cells."""

    def __init__(self, columns: Sequence[ColumnReference]) -> None:
        chosen = [i for i, c in enumerate(columns) if c.feature.kind == "numeric" and not fits_cells(c)]
        self.positions: Ints = np.array(chosen, dtype=np.intp)
        self._columns = own = [columns[i] for i in chosen]
        if not own:
            return
        self._order = order_of(self.positions, len(columns))
        self._base = np.arange(len(own), dtype=np.float64)[:, None] * _WIDTH
        frames = np.array([_frame(column) for column in own])
        self._low, self._scale = frames[:, :1], frames[:, 1:]
        sizes = np.array([len(column.values) + 1 for column in own])
        self._first = np.cumsum(sizes) - sizes
        self._flat = np.concatenate([np.append(column.values, np.nan) for column in own])
        self._cumulative = np.concatenate([column.cumulative for column in own])
        self._n_ref = np.array([column.n for column in own], dtype=np.float64)
        self._share = np.stack([self._reference_share(k) for k in range(len(own))])
        self._reached = np.cumsum(self._share, axis=1)

    def _reference_share(self, k: int) -> Array:
        column = self._columns[k]
        cells = self._cells(column.values[None, :], k)
        counts = np.bincount(cells.ravel() - k * _WIDTH, weights=column.counts, minlength=_CELLS)
        return np.asarray(counts / max(column.n, 1), dtype=np.float64)

    def _cells(self, x: Array, k: int | None = None) -> Ints:
        """Cells, over all columns, of ``x`` of shape ``(columns, n)``; of column ``k`` alone, of shape ``(1, n)``."""
        rows = slice(None) if k is None else slice(k, k + 1)
        with np.errstate(over="ignore"):
            place = x - self._low[rows]
            place *= self._scale[rows]
        np.maximum(place, 0.0, out=place)
        np.minimum(place, _CELLS - 1.0, out=place)
        place += self._base[rows]
        cells: Ints = place.astype(np.intp)
        return cells

    def measure(self, x: Array, missing: Bools | None) -> tuple[Measured, tuple[Array, Bools | None]]:
        x = by_column(x, self._order)
        gone = None if missing is None else by_column(missing, self._order)
        n = np.full(len(x), float(x.shape[1]))
        if gone is None:
            cells = self._cells(x)
        else:
            n -= gone.sum(axis=1)
            cells = self._cells(np.where(gone, 0.0, x))
            np.copyto(cells, (self._base + _CELLS).astype(np.intp), where=gone)
        distance = self._distance(x, cells, n)
        return Measured(distance, ks_p(distance, n, self._n_ref), distance, n), (x, gone)

    def _distance(self, x: Array, cells: Ints, n: Array) -> Array:
        counts = np.bincount(cells.ravel(), minlength=len(x) * _WIDTH).reshape(len(x), _WIDTH)
        running = counts.cumsum(axis=1)
        scale = (1.0 / np.maximum(n, 1.0))[:, None]
        gap = running[:, :_CELLS] * scale - self._reached
        distance: Array = np.maximum(gap.max(axis=1), -gap.min(axis=1))
        # Inside a cell the window may run ahead by what the reference has there, or fall behind by what it has itself.
        worth = np.zeros(counts.shape, dtype=np.bool_)
        bound = distance[:, None]
        np.logical_or(gap + self._share > bound, counts[:, :_CELLS] * scale - gap > bound, out=worth[:, :_CELLS])
        chosen = np.flatnonzero(worth.ravel().take(cells))
        if not chosen.size:
            return distance
        inside = self._inside(x, cells, n, chosen, (running - counts).ravel())
        return np.maximum(distance, inside, out=distance)

    def _inside(self, x: Array, cells: Ints, n: Array, chosen: Ints, before: Ints) -> Array:
        """The largest distance at the ``chosen`` values, which are all of some cells; 0 for columns without any."""
        values, cell = x.ravel()[chosen], cells.ravel()[chosen]
        place = np.empty(len(chosen), dtype=np.intp)
        bounds = np.searchsorted(chosen, np.arange(len(x) + 1) * x.shape[1]).tolist()
        for k, column in enumerate(self._columns):
            at = slice(bounds[k], bounds[k + 1])
            place[at] = column.values.searchsorted(values[at]) + self._first[k]
        hit = self._flat.take(place) == values
        # Only the order of cells, and of reference values in them, matters: whole numbers, sorted at once.
        key = np.sort((cell << _CODE) + 2 * place + hit)
        cell, code = key >> _CODE, key & ((1 << _CODE) - 1)
        place = code >> 1
        left, right = self._cumulative.take(place), self._cumulative.take(place + (code & 1))
        below = before.take(cell) + np.arange(len(cell)) - np.searchsorted(cell, cell)
        home = cell // _WIDTH
        size = np.maximum(n, 1.0).take(home)
        gap = np.maximum((below + 1) / size - right, left - below / size)
        distance = np.zeros(len(x))
        starts = np.flatnonzero(np.diff(home, prepend=-1))
        distance[home[starts]] = np.maximum.reduceat(gap, starts)
        return distance

    def unseen(self, evidence: object) -> Array | None:  # noqa: ARG002 - numeric columns have no unseen values
        return None

    def category_counts(self, evidence: object, k: int) -> Array | None:  # noqa: ARG002 - the same
        return None

    def histogram(self, evidence: tuple[Array, Bools | None], k: int) -> Histogram | None:
        x, gone = evidence
        return sorted_histogram(self._columns[k], np.sort(x[k] if gone is None else x[k, ~gone[k]]))


def _frame(column: ColumnReference) -> tuple[float, float]:
    """Where the grid begins, and cells per unit: nearly all of the reference lies on it, the rest in its end cells."""
    if not column.n:
        return 0.0, 1.0
    low, high = column.values[np.searchsorted(column.cumulative[1:], [0.001, 0.999])]
    half = 0.5 * high - 0.5 * low  # the whole might overflow
    scale = 0.5 * _CELLS / half if half > 0.0 else 1.0
    return float(low), float(scale) if np.isfinite(scale) else 1.0
