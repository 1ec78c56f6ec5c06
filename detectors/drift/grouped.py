"""Columns tested together, and those that are counted in cells. Results come column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Histogram
from detectors.drift.cells import CellCounter, Ints, Layout, fits_cells
from detectors.drift.columns import ColumnReference, categorical_histogram, numeric_histogram

Bools = npt.NDArray[np.bool_]


class Measured(NamedTuple):
    """One entry per column: test statistic, p-value, effect size, and the number of present values."""

    statistic: Array
    p_val: Array
    effect_size: Array
    n: Array


class ColumnTest(Protocol):
    """Tests the columns at ``positions``, in that order."""

    positions: Ints

    def measure(self, x: Array, missing: Bools | None) -> tuple[Measured, Any]:
        """The measurements for the rows ``x`` of shape ``(n, d)``, and what histograms are made of.

        ``missing`` has the shape of ``x``, and is ``None`` if nothing is missing.
        """
        ...

    def unseen(self, evidence: Any) -> Array | None: ...

    def histogram(self, evidence: Any, k: int) -> Histogram | None:
        """Of the ``k``-th of its columns."""
        ...

    def category_counts(self, evidence: Any, k: int) -> Array | None:
        """Of the ``k``-th of its columns, the last one being unseen values; ``None`` if it is numeric."""
        ...


T = TypeVar("T", bound=np.generic)


def order_of(positions: Ints, d: int) -> Ints | None:
    """``None`` if all columns are taken as they stand."""
    return None if positions.tolist() == list(range(d)) else positions


def by_column(x: npt.NDArray[T], order: Ints | None) -> npt.NDArray[T]:
    """The columns of ``x`` of shape ``(n, d)`` as contiguous rows."""
    return np.ascontiguousarray(x.T) if order is None else x.T.take(order, axis=0)


def _first_cells(column: ColumnReference) -> Ints:
    """The first cell of each bin of a numeric column's histogram."""
    return np.append(0, 2 * column.cuts + 1)


OnCells = Callable[[Array], Measured]


class CellTest:
    """Numeric columns with few distinct values, and categorical ones: all counted in one pass.

    With ``every`` it takes all numeric columns: those with many values must have been made coarse before.
    """

    def __init__(
        self,
        columns: Sequence[ColumnReference],
        on_numeric: Callable[[Layout], OnCells] | None = None,
        on_categorical: Callable[[Layout], OnCells] | None = None,
        *,
        every: bool = False,
    ) -> None:
        numeric = [i for i, c in enumerate(columns) if c.feature.kind == "numeric" and (every or fits_cells(c))]
        categorical = [i for i, column in enumerate(columns) if column.feature.kind == "categorical"]
        self._split = len(numeric)
        self.positions = np.array(numeric + categorical, dtype=np.intp)
        self._columns = own = [columns[i] for i in self.positions]
        self._taken = order_of(np.sort(self.positions), len(columns))
        self._cells = Layout(own)
        self._counter = CellCounter(self._cells, np.argsort(np.argsort(self.positions)))
        self._others = self._cells.ends[self._split :] - 1
        self._bins = [_first_cells(column) for column in own[: self._split]]
        self._boundary = int(self._cells.starts[self._split]) if categorical else self._cells.total
        self._on_numeric = on_numeric(Layout(own[: self._split])) if numeric and on_numeric else None
        self._on_categorical = on_categorical(Layout(own[self._split :])) if categorical and on_categorical else None

    def measure(self, x: Array, missing: Bools | None) -> tuple[Measured, Array]:
        counts = self.count(x, missing)
        return self.measured(counts), counts

    def count(self, x: Array, missing: Bools | None) -> Array:
        """``(total,)``: how many values lie in each cell; counts of parts of a window add up to those of the whole."""
        if self._taken is not None:
            x = x.take(self._taken, axis=1)
            missing = None if missing is None else missing.take(self._taken, axis=1)
        return self._counter.count(x, missing)

    def measured(self, counts: Array) -> Measured:
        """What :meth:`measure` finds, from the counts."""
        if self._on_numeric is None or self._on_categorical is None:
            only = self._on_numeric or self._on_categorical
            assert only is not None
            return only(counts)
        table = np.empty((4, len(self._columns)))
        split = self._split
        numeric, categorical = (
            self._on_numeric(counts[: self._boundary]),
            self._on_categorical(counts[self._boundary :]),
        )
        for row, first, second in zip(table, numeric, categorical, strict=True):
            row[:split], row[split:] = first, second
        return Measured(*table)

    @property
    def layout(self) -> Layout:
        """The cells, of the columns at ``positions``."""
        return self._cells

    def unseen(self, evidence: Array) -> Array | None:
        if not evidence[self._others].any():
            return None
        unseen = evidence[self._cells.ends - 1]
        unseen[: self._split] = 0.0
        return unseen

    def histogram(self, evidence: Array, k: int) -> Histogram | None:
        column = self._columns[k]
        if not column.n:
            return None
        counts = evidence[self._cells.starts[k] : self._cells.ends[k]]
        if k >= self._split:
            return categorical_histogram(column, counts)
        return numeric_histogram(column, np.add.reduceat(counts, self._bins[k]))

    def category_counts(self, evidence: Array, k: int) -> Array | None:
        return evidence[self._cells.starts[k] : self._cells.ends[k]] if k >= self._split else None
