"""Isolation trees as flat arrays: all trees are grown, and all rows dropped through all of them, level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array

_TREES_AT_ONCE = 2**22  # cells of samples grown together

Index = npt.NDArray[np.intp]


def average_path(n: npt.ArrayLike) -> Any:
    """``c(n)``: the mean path of an unsuccessful search in a binary search tree of ``n`` rows (Liu et al., eq. 1).

    >>> round(float(average_path(256)), 3), float(average_path(1)), float(average_path(2))
    (10.245, 0.0, 1.0)
    """
    rows = np.asarray(n, dtype=np.float64)
    many = np.maximum(rows, 3.0)
    usual = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(rows > 2.0, usual, np.where(rows == 2.0, 1.0, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Complete binary trees of equal depth, each a heap: the children of node ``i`` are ``2i + 1`` and ``2i + 2``.

    A node that is not cut has the cut ``inf``: everything goes left from there, to one slot of the last level.

    column, cut : ``(trees, 2 ** depth - 1)``; rows with ``x[column] >= cut`` go right.
    size : ``(trees, 2 ** (depth + 1) - 1)`` sampled rows in the node.
    path : ``(trees, 2 ** depth)`` path length of each slot of the last level.
    """

    column: npt.NDArray[np.int32]
    cut: Array
    size: npt.NDArray[np.int32]
    path_length: Array

    @property
    def sampled(self) -> int:
        return int(self.size[0, 0])

    @property
    def depth(self) -> int:
        return int(self.path_length.shape[1]).bit_length() - 1

    @classmethod
    def grow(cls, samples: Sequence[Array], rng: np.random.Generator) -> Self:
        """One tree for every sample; all samples have the same shape ``(m, d)``."""
        m, d = samples[0].shape
        depth = max(1, (m - 1).bit_length())
        at_once = max(1, _TREES_AT_ONCE // (m * d))
        grown = [_grow(np.stack(samples[i : i + at_once]), depth, rng) for i in range(0, len(samples), at_once)]
        return cls(*(np.concatenate(arrays) for arrays in zip(*grown, strict=True)))

    def path(self, x: Array, trees: npt.NDArray[np.bool_] | None = None) -> Array:
        """``(n,)`` mean path lengths of ``(n, d)`` rows; over the ``(n, trees)`` that are true; NaN if none is."""
        at = self._drop(x)[-1] - self.cut.shape[1]
        at += np.arange(len(self.path_length)) * self.path_length.shape[1]
        lengths = self.path_length.take(at)
        if trees is None:
            return np.asarray(lengths.mean(axis=1))
        with np.errstate(invalid="ignore"):
            return np.asarray((lengths * trees).sum(axis=1) / trees.sum(axis=1))

    def credit(self, x: Array) -> Array:
        """``(n, d)``: by how many halvings more than one the cuts in each column shrank the row's company."""
        nodes = self._drop(x)
        trees = np.arange(len(self.cut))
        credit = np.zeros(x.shape)
        rows = np.broadcast_to(np.arange(len(x))[:, None], nodes[0].shape)
        for parent, child in pairwise(nodes):
            before = np.maximum(self.size[trees, parent], 1)
            after = np.maximum(self.size[trees, child], 0.5)
            np.add.at(credit, (rows, self.column[trees, parent]), np.maximum(np.log2(before / after) - 1.0, 0.0))
        return credit

    def _drop(self, x: Array) -> list[Index]:
        """The nodes, each ``(n, trees)``, that rows pass on every level."""
        flat, column, cut = np.ascontiguousarray(x).ravel(), self.column.ravel(), self.cut.ravel()
        start = (np.arange(len(x)) * x.shape[1])[:, None]
        tree = np.arange(len(self.cut)) * self.cut.shape[1]
        node = np.zeros((len(x), len(self.cut)), dtype=np.intp)
        passed = [node]
        for _ in range(self.depth):
            at = node + tree
            right = flat.take(column.take(at) + start) >= cut.take(at)
            node = 2 * node + 1
            node += right
            passed.append(node)
        return passed

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "forest.column": self.column,
            "forest.cut": self.cut,
            "forest.size": self.size,
            "forest.path_length": self.path_length,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(arrays["forest.column"], arrays["forest.cut"], arrays["forest.size"], arrays["forest.path_length"])


def _grow(x: Array, depth: int, rng: np.random.Generator) -> tuple[npt.NDArray[Any], ...]:
    """Trees on samples ``(trees, m, d)``, one level after the other."""
    trees, m, d = x.shape
    rows = x.reshape(-1, d)
    column = np.zeros((trees, 2**depth - 1), dtype=np.int32)
    cut = np.full(column.shape, np.inf)
    size = np.zeros((trees, 2 ** (depth + 1) - 1), dtype=np.int32)
    size[:, 0] = m
    length = np.zeros((trees, 1))  # cuts made on the way to each node of the level
    tree, node = np.repeat(np.arange(trees), m), np.zeros(trees * m, dtype=np.intp)
    for _ in range(depth):
        first = length.shape[1] - 1
        _cut_level(rows, tree, node, column, cut, rng)
        made = np.isfinite(cut[:, first : 2 * first + 1])
        node = 2 * node + 1 + (rows[np.arange(len(rows)), column[tree, node]] >= cut[tree, node])
        np.add.at(size, (tree, node), 1)
        length = np.repeat(length + made, 2, axis=1)
    last = size[:, -(2**depth) :]
    return column, cut, size, length + average_path(last)


def _cut_level(
    rows: Array,
    tree: Index,
    node: Index,
    column: npt.NDArray[np.int32],
    cut: Array,
    rng: np.random.Generator,
) -> None:
    """Choose a varying column of every node of the level, and a uniform cut between its least and largest value."""
    place = tree * cut.shape[1] + node
    order = np.argsort(place, kind="stable")
    places, starts = np.unique(place[order], return_index=True)
    low = np.minimum.reduceat(rows[order], starts, axis=0)
    high = np.maximum.reduceat(rows[order], starts, axis=0)
    varies = high > low
    which = (rng.random(len(places)) * varies.sum(axis=1)).astype(np.intp)
    chosen = (varies.cumsum(axis=1) > which[:, None]).argmax(axis=1)
    index = np.arange(len(places))
    low, high = low[index, chosen], high[index, chosen]
    at = high - rng.random(len(places)) * (high - low)
    at = np.where(at > low, at, high)
    able = varies.any(axis=1)
    column.ravel()[places[able]] = chosen[able]
    cut.ravel()[places[able]] = at[able]
