"""Distances between rows that are coordinates, and the bandwidth of a Gaussian kernel that follows from them."""

from __future__ import annotations

import math

import numpy as np

from detectors.base import Array


def squared_distances(a: Array, b: Array) -> Array:
    """``(n, m)`` squared distances between the rows of ``a`` ``(n, e)`` and ``b`` ``(m, e)``, by one matrix product.

    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[25.0, 0.0]]
    """
    squared: Array = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :] - 2.0 * (a @ b.T)
    return np.maximum(squared, 0.0, out=squared)


def median_distance(squared: Array) -> float:
    """From ``(n, n)`` squared distances: between different rows; if most are equal, the mean of those that differ."""
    above = squared[np.triu_indices(len(squared), 1)]
    median = float(np.median(above)) if above.size else 0.0
    if median <= 1e-12:
        differing = above[above > 1e-12]
        median = float(differing.mean()) if differing.size else 1.0
    return math.sqrt(median)
