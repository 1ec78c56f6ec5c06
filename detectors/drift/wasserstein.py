"""The Wasserstein-1 distance between a column's reference and a window, and how much of it sampling explains."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaincinv

from detectors.base import Array
from detectors.drift.columns import ColumnReference

_POINTS = 16  # of each sample, at which the noise is computed


def distance(column: ColumnReference, x: Array) -> float:
    """Area between the two distribution functions, exactly; ``x`` ``(m,)`` ascending, ``m >= 1``.

    Between two neighbours in ``x`` their function is constant, and the reference's crosses it at most once, so that
    the integral of the latter up to any point is all that is needed.

    >>> from detectors.base import Feature
    >>> column = ColumnReference(Feature("x"), np.array([0.0, 1.0]), np.array([1, 1]), 0)
    >>> distance(column, np.array([0.5, 3.5]))
    1.5
    """
    v, reached, m = column.values, column.cumulative[1:], len(x)
    area = np.concatenate([[0.0], np.cumsum(reached[:-1] * np.diff(v))])
    place = v.searchsorted(x, side="right")
    below = np.where(place > 0, area[place - 1] + reached[place - 1] * (x - v[place - 1]), 0.0)
    total = float(below[0])
    if m > 1:
        share = np.arange(1, m) / m
        crossing = reached.searchsorted(share)
        a, b, area_a, area_b = x[:-1], x[1:], below[:-1], below[1:]
        t = np.clip(v[crossing], a, b)
        at = np.where(v[crossing] <= a, area_a, np.where(v[crossing] >= b, area_b, area[crossing]))
        total += float(np.sum(share * (2.0 * t - a - b) + area_a + area_b - 2.0 * at))
    beyond = float(v[-1] - x[-1])
    return total + (beyond - (float(area[-1]) - float(below[-1])) if beyond > 0.0 else 0.0)


def noise(column: ColumnReference, x: Array) -> float:
    """What the area between the errors of both distribution functions exceeds with a probability of 5 % only.

    The difference of the errors is a sum of two Brownian bridges. The mean and the variance of the area below its
    absolute value follow from normal distributions, pair by pair of points; a gamma distribution has both.
    """
    levels = (np.arange(_POINTS) + 0.5) / _POINTS
    of_column = column.values[np.minimum(column.cumulative[1:].searchsorted(levels), len(column.values) - 1)]
    ends = [min(column.values[0], x[0]), max(column.values[-1], x[-1])]
    grid = np.unique(np.concatenate([of_column, x[(levels * len(x)).astype(np.intp)], ends]))
    if len(grid) < 2:
        return 0.0
    width = np.diff(grid)
    before = _between(
        column.cumulative[column.values.searchsorted(grid, side="right")],
        column.cumulative[column.values.searchsorted(grid)],
    )
    after = _between(x.searchsorted(grid, side="right") / len(x), x.searchsorted(grid) / len(x))
    covariance = _bridge(before) / column.n + _bridge(after) / len(x)
    deviation = np.sqrt(np.diag(covariance))
    scale = np.outer(deviation, deviation)
    r = np.clip(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0.0), -1.0, 1.0)
    mean = math.sqrt(2.0 / math.pi) * float(width @ deviation)
    spread = (2.0 / math.pi) * scale * (np.sqrt(1.0 - r * r) + r * np.arcsin(r) - 1.0)
    variance = float(width @ spread @ width)
    if not mean > 0.0 or not variance > 0.0:
        return mean
    return float(gammaincinv(mean * mean / variance, 0.95)) * variance / mean


def _between(right: Array, left: Array) -> Array:
    """Of a distribution function at the points and just below them: its level from each point to the next."""
    level: Array = 0.5 * (right[:-1] + left[1:])
    return level


def _bridge(level: Array) -> Array:
    """Covariance of a Brownian bridge at ``(k,)`` ascending levels."""
    covariance: Array = level[:, None] * (1.0 - level[None, :])
    symmetric: Array = np.minimum(covariance, covariance.T)
    return symmetric
