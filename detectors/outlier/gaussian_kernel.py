"""The Gaussian kernel between points."""

from __future__ import annotations

import math

import numpy as np

from detectors.base import Array, DetectorError

CELLS = 4_000_000
"""Of the matrix of kernels that is made at once."""


def gaussian(points: Array, others: Array, bandwidth: float) -> Array:
    """``(n, m)`` values of ``exp(-distance^2 / (2 bandwidth^2))``.

    >>> gaussian(np.array([[0.0], [2.0]]), np.array([[0.0]]), 1.0).round(3).tolist()
    [[1.0], [0.135]]
    """
    squared = points @ (-2.0 * others.T)
    squared += (points**2).sum(axis=1)[:, None]
    squared += (others**2).sum(axis=1)
    np.maximum(squared, 0.0, out=squared)
    squared *= -0.5 / bandwidth**2
    return np.asarray(np.exp(squared, out=squared))


def usual_bandwidth(points: Array) -> float:
    """Half the root mean square distance between points; 1 if they are all equal.

    ``1 / (2 bandwidth^2)`` is then one over the summed variances of the columns.
    """
    return math.sqrt(float(points.var(axis=0).sum()) / 2.0) or 1.0


def check_bandwidth(bandwidth: float | None) -> None:
    """Raise :class:`DetectorError` unless it is a positive number or ``None``."""
    if bandwidth is not None and not 0.0 < bandwidth < math.inf:
        raise DetectorError(f"bandwidth must be a positive number, got {bandwidth!r}")
