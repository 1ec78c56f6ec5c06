"""Counting many columns in one pass: every value becomes a cell, and one ``bincount`` counts the cells of all columns.

A categorical column has a cell per category and one for unseen values. A numeric column with few distinct reference
values ``u_1 < ... < u_m`` has ``2 m + 1`` cells: below ``u_1``, ``u_1``, between ``u_1`` and ``u_2``, and so on, which
loses nothing a rank test needs. Every column has a last cell for missing values. Where the reference values are whole
numbers, as nearly all such columns are, a table leads from value to cell; else a binary search does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectors.base import Array
from detectors.drift.columns import ColumnReference

MAX_CELLS = 4097
_BLOCK = 65_536  # values looked up at once
_MAX_SPAN = 131_072  # a table of whole numbers is at most so long

Ints = npt.NDArray[np.intp]


def is_lattice(values: Array) -> bool:
    """Whether all values are whole numbers close enough together for a table.

    >>> is_lattice(np.array([17.0, 90.0])), is_lattice(np.array([0.5]))
    (True, False)
    """
    if not len(values):
        return True
    whole = bool((values == np.floor(values)).all())
    return whole and bool(abs(values[0]) < 2.0**30 and values[-1] - values[0] < _MAX_SPAN)


def fits_cells(column: ColumnReference) -> bool:
    """Whether a numeric column is counted in cells rather than sorted."""
    return 2 * len(column.values) + 1 <= MAX_CELLS and is_lattice(column.values)


def cell_of(column: ColumnReference, x: Array) -> Ints:
    """Cells, within the column, of finite ``x`` of shape ``(n,)``, by binary search."""
    left = np.searchsorted(column.values, x)
    hit = np.append(column.values, np.nan)[left] == x
    if column.feature.kind == "categorical":
        return np.where(hit, left, len(column.values))
    cells: Ints = 2 * left + hit
    return cells


class Layout:
    """The cells of some columns, one column after the other.

    ``starts[j]`` is the first cell of column ``j``, ``ends[j]`` the one after its last, which is its missing cell.
    """

    def __init__(self, columns: Sequence[ColumnReference]) -> None:
        self.columns = tuple(columns)
        self.widths: Ints = np.array([_width(column) + 1 for column in columns], dtype=np.intp)
        self.ends: Ints = np.cumsum(self.widths) - 1
        self.starts: Ints = self.ends + 1 - self.widths
        self.total = int(self.widths.sum())
        self.bounds: Ints = np.stack([self.starts, self.ends], axis=1).ravel()


class CellCounter:
    """Counts rows in the cells of a layout, whose column ``j`` is column ``order[j]`` of the rows."""

    def __init__(self, layout: Layout, order: Ints) -> None:
        self._layout, self._order = layout, order
        columns = layout.columns
        self._searched = [j for j, column in enumerate(columns) if not is_lattice(column.values)]
        tables = [_table(column) + start for column, start in zip(columns, layout.starts.tolist(), strict=True)]
        self._table: Ints = np.concatenate(tables) if tables else np.empty(0, dtype=np.intp)
        lengths = np.array([len(table) for table in tables], dtype=np.int32)
        first = np.cumsum(lengths, dtype=np.int32) - lengths
        below = np.array([_lowest(column) for column in columns], dtype=np.int32) - 1
        # As long as a block, as element by element is several times faster than broadcasting a short row.
        self._block = max(1, min(_BLOCK // max(len(columns), 1), 4096))
        in_rows = np.argsort(order)
        frames = [below, below + lengths - 2, first - below, first + lengths - 1]
        self._below, self._above, self._offset, self._gone = (
            np.tile(frame[in_rows], (self._block, 1)) for frame in frames
        )

    def count(self, x: Array, missing: npt.NDArray[np.bool_] | None) -> Array:
        """``(total,)`` counts of the cells for ``x`` of shape ``(n, columns)``; ``missing``: not finite."""
        if len(x) <= self._block:
            return np.bincount(self._find(x, missing).ravel(), minlength=self._layout.total).astype(np.float64)
        counts = np.zeros(self._layout.total)
        for start in range(0, len(x), self._block):
            at = slice(start, start + self._block)
            cells = self._find(x[at], None if missing is None else missing[at])
            counts += np.bincount(cells.ravel(), minlength=self._layout.total)
        return counts

    def _find(self, x: Array, missing: npt.NDArray[np.bool_] | None) -> Ints:
        n = len(x)
        if missing is not None:
            x = np.where(missing, 0.0, x)
        with np.errstate(
            invalid="ignore"
        ):  # too large for a whole number of 32 bits: not equal, and searched for below
            index = x.astype(np.int32)
        whole = index == x
        np.maximum(index, self._below[:n], out=index)
        np.minimum(index, self._above[:n], out=index)
        index += self._offset[:n]
        if missing is not None:
            np.copyto(index, self._gone[:n], where=missing)
        cells = self._table.take(index)
        if self._searched or not whole.all():
            self._search(x, missing, cells, whole)
        return cells

    def _search(
        self, x: Array, missing: npt.NDArray[np.bool_] | None, cells: Ints, whole: npt.NDArray[np.bool_]
    ) -> None:
        for j, i in enumerate(self._order.tolist()):
            if j in self._searched or not whole[:, i].all():
                present = slice(None) if missing is None else ~missing[:, i]
                column = self._layout.columns[j]
                cells[present, i] = cell_of(column, x[present, i]) + self._layout.starts[j]


def _width(column: ColumnReference) -> int:
    """Cells of the column without the missing one."""
    return len(column.values) + 1 if column.feature.kind == "categorical" else 2 * len(column.values) + 1


def _lowest(column: ColumnReference) -> float:
    return float(column.values[0]) if len(column.values) and is_lattice(column.values) else 0.0


def _table(column: ColumnReference) -> Ints:
    """Cells of: anything lower, each whole number of the span, anything higher, missing."""
    width = _width(column)
    if not len(column.values) or not is_lattice(column.values):
        return np.array([width - 1, width - 1, width - 1, width], dtype=np.intp)
    low, high = column.values[0], column.values[-1]
    return np.append(cell_of(column, np.arange(low - 1.0, high + 2.0)), width).astype(np.intp)
