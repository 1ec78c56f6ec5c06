"""Distances between rows of mixed columns, and each row's nearest in a bounded part of the reference.

Numeric columns are measured in standard deviations from the reference's median. From ``tail`` of them on, inside the
reference's range, they may grow by the logarithm, so that one heavy tail does not hide everything else; beyond the
range they are not shortened. Two rows in different categories of a column are ``sqrt((2 + s + s') / 2)`` apart there,
where ``s = 2 log(p_max / p)`` of either category: 1 between common ones, more the rarer they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.scale import Scale

Index = npt.NDArray[np.intp]
Single = npt.NDArray[np.float32]

_FEW = 16  # up to so many neighbours, repeated minima are quicker than a partial sort
_CELLS = 2_000_000  # of the matrix of distances
_NEVER = -2.0  # stands for every category that the reference does not have


class Place(NamedTuple):
    """Rows as points ``(n, d)`` (scaled numbers, category codes), and half the squared distance of each one's
    category to others, ``(n, d)``."""

    points: Array
    weight: Array


class Nearest(NamedTuple):
    """The nearest kept reference rows, ``(n, k)`` in no order, and squared distances by column, ``(n, k, d)``."""

    which: Index
    apart: Array


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What distances are measured with, and the kept reference rows.

    tail : see the module; infinite: nothing is shortened. ref, ref_weight : ``(m, d)``, the kept rows' place.
    """

    units: Scale
    tail: float
    ref: Array
    ref_weight: Array
    _levels: Array = field(init=False)
    _level_of: Index = field(init=False)
    _embedded: Array = field(init=False)
    _square: Array = field(init=False)

    def __post_init__(self) -> None:
        """Categories of the kept rows become columns, so that one matrix product gives all distances."""
        levels = [np.unique(self.ref[:, j]) for j in np.flatnonzero(self.units.levelled)]
        numbers = np.where(self.units.levelled, 0.0, self.ref)
        for name, value in (
            ("_levels", np.concatenate([*levels, np.empty(0)])),
            ("_level_of", np.repeat(np.flatnonzero(self.units.levelled), [len(found) for found in levels])),
            ("_square", (numbers**2).sum(axis=1) + self.ref_weight.sum(axis=1)),
        ):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_embedded", self._embed(Place(self.ref, self.ref_weight)))

    @classmethod
    def learn(cls, coordinates: Coordinates, rows: Array, kept: Index, tail: float) -> Self:
        """From reference ``rows`` ``(n_ref, d)``, of which those at ``kept`` are kept."""
        units, empty = Scale.learn(coordinates, rows), np.empty((0, rows.shape[1]))
        return cls(units, tail, *cls(units, tail, empty, empty).place(coordinates.read(rows[kept])))

    def block(self, k: int) -> int:
        """So many rows can be measured at once in bounded memory."""
        m, d = self.ref.shape
        return int(max(16, _CELLS // (m + 4 * k * d)))

    def place(self, reading: Reading) -> Place:
        code = np.rint(reading.values)
        if reading.unseen is not None:
            code[reading.unseen] = _NEVER
        points = np.where(self.units.levelled, code, self.units.measured(reading.values, self.tail))
        return Place(points, np.where(self.units.levelled, (1.0 + reading.z**2) / 2.0, 0.0))

    def nearest(self, place: Place, k: int, own: tuple[Index, Index] | None = None) -> Nearest:
        """The ``k`` nearest of the kept rows; ``own`` are pairs (row, kept row) that are no neighbours."""
        squared = self._squared(place)
        if own is not None:
            squared[own] = np.inf
        index = _smallest(squared, k)
        # Again from the differences, exact where the product cancels.
        apart = place.points[:, None, :] - self.ref[index]
        apart *= apart
        if self.units.levelled.any():
            between = place.weight[:, None, :] + self.ref_weight[index]
            apart = np.where(self.units.levelled, (apart > 0.0) * between, apart)
        return Nearest(index, apart)

    def _embed(self, place: Place) -> Array:
        alike = place.points[:, self._level_of] == self._levels
        return np.concatenate(
            [place.points[:, ~self.units.levelled], alike * np.sqrt(place.weight[:, self._level_of])], axis=1
        )

    def _squared(self, place: Place) -> Single:
        """``(n, m)`` squared distances, up to an amount common to each row.

        In single precision, so that equal distances stay equal whatever the rounding of the product, which depends on
        the size of the batch; of equals, the first is taken.
        """
        embedded = self._embed(place)
        embedded *= -2.0
        squared = np.empty((len(place.points), len(self.ref)), dtype=np.float32)
        np.add(embedded @ self._embedded.T, self._square, out=squared, casting="same_kind")
        return squared

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**self.units.to_arrays(), "ref": self.ref, "ref_weight": self.ref_weight}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], tail: float) -> Self:
        return cls(Scale.from_arrays(arrays), tail, arrays["ref"], arrays["ref_weight"])


def chosen(n_ref: int, most: int, seed: int) -> Index:
    """At most ``most`` of ``n_ref`` rows, at random, ascending.

    >>> chosen(3, 5, 0).tolist(), len(chosen(100, 5, 0))
    ([0, 1, 2], 5)
    """
    return np.sort(np.random.default_rng(seed).permutation(n_ref)[:most])


def own_pairs(index: Index, kept: Index) -> tuple[Index, Index]:
    """Which of the reference rows at ``index`` are which of the kept ones."""
    own = np.flatnonzero(np.isin(index, kept))
    return own, np.searchsorted(kept, index[own])


def split(total: Array, apart: Array) -> Array:
    """``(n,)`` scores as ``(n, d)`` parts, by each column's part of the squared distances ``(n, k, d)``."""
    part = apart.sum(axis=1)
    part *= (total / np.maximum(part.sum(axis=1), 1e-300))[:, None]
    return np.asarray(part)


def _smallest(values: Single, k: int) -> Index:
    """``(n, k)`` columns of each row's ``k`` smallest values; ``values`` is used up."""
    if k > _FEW:
        return np.argpartition(values, k - 1, axis=1)[:, :k]
    rows = np.arange(len(values))
    found = np.empty((len(values), k), dtype=np.intp)
    for i in range(k):
        found[:, i] = values.argmin(axis=1)
        values[rows, found[:, i]] = np.inf
    return found
