"""How much a column changed, with 95 % intervals: how certain a change is says nothing of its size."""

from __future__ import annotations

import math

import numpy as np

from detectors.base import Array, Effect, Histogram
from detectors.drift.columns import ColumnReference
from detectors.drift.wasserstein import distance, noise

_Z = 1.959964
_SMOOTHING = 0.5  # counts added to each bin, so that an empty one leaves the index finite


def effects_of(column: ColumnReference, histogram: Histogram | None, n: int, x: Array | None) -> tuple[Effect, ...]:
    """Effect sizes of a column with ``n`` present values in the window, of which ``x`` ``(m,)`` are at hand.

    ``psi``: population stability index over the bins of the histogram; ``jensen_shannon``: distance over the same bins,
    0 none, 1 disjoint; ``wasserstein``: numeric columns, how far values moved on average, in the column's units.
    """
    found: list[Effect] = []
    if histogram is not None and n and column.n:
        counts = [np.array(shares) * size for shares, size in ((histogram.reference, column.n), (histogram.window, n))]
        used = counts[0] + counts[1] > 0.0
        found += [psi(counts[0][used], counts[1][used]), jensen_shannon(counts[0][used], counts[1][used])]
    if x is not None and len(x) and column.feature.kind == "numeric" and column.n:
        moved = wasserstein(column, np.sort(x))
        found += [moved] if math.isfinite(moved.high) else []  # beyond the range of numbers
    return tuple(found)


def psi(before: Array, after: Array) -> Effect:
    """Population stability index ``sum (p - q) ln(p / q)`` of two samples counted ``(k,)`` in the same bins.

    What sampling alone adds, ``(k - 1) (1/n + 1/m)`` on average, is taken off, so that the usual limits (0.1 some,
    0.25 much) mean the same for small windows. The interval is by the delta method, with the variance that the index
    has where nothing changed added.

    Yurdakul B., Naranjo J. (2020). Statistical properties of the population stability index. J. Risk Model Validation.

    >>> some = psi(np.array([5000.0, 5000.0]), np.array([600.0, 400.0]))
    >>> round(some.value, 3), round(some.low, 3), round(some.high, 3)
    (0.039, 0.013, 0.066)
    """
    p, q = _shares(before), _shares(after)
    ratio = np.log(p / q)
    value = float(np.sum((p - q) * ratio))
    variance = _variance(p, ratio - q / p) / before.sum() + _variance(q, -ratio - p / q) / after.sum()
    low, middle, high = _interval(value, float(variance), before, after, 1.0)
    return Effect("psi", middle, low, high)


def jensen_shannon(before: Array, after: Array) -> Effect:
    """Jensen-Shannon distance, to base 2, of two samples counted ``(k,)`` in the same bins; see :func:`psi`.

    Lin J. (1991). Divergence measures based on the Shannon entropy. IEEE Trans. Inf. Theory 37(1).

    >>> apart = jensen_shannon(np.array([1000.0, 0.0]), np.array([0.0, 1000.0]))
    >>> apart.low > 0.98, apart.high
    (True, 1.0)
    """
    p, q = _shares(before), _shares(after)
    over_p, over_q = np.log(2.0 * p / (p + q)), np.log(2.0 * q / (p + q))
    value = 0.5 * float(np.sum(p * over_p) + np.sum(q * over_q))
    variance = 0.25 * (_variance(p, over_p) / before.sum() + _variance(q, over_q) / after.sum())
    bounds = _interval(value, float(variance), before, after, 0.125)
    low, middle, high = (math.sqrt(min(bound / math.log(2.0), 1.0)) for bound in bounds)
    return Effect("jensen_shannon", middle, low, high)


def wasserstein(column: ColumnReference, x: Array) -> Effect:
    """Wasserstein-1 distance between the reference and ascending ``x``, in the column's units.

    By the triangle inequality it is off by no more than sampling alone moves the difference of both distribution
    functions, whose 95 % point is added and taken off: a change that sampling explains has an interval from 0.

    Kantorovich L., Rubinstein G. (1958). On a space of completely additive functions. Vestnik Leningrad Univ. 13.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        value, error = distance(column, x), noise(column, x)
    return Effect("wasserstein", value, max(value - error, 0.0), value + error)


def _shares(counts: Array) -> Array:
    smoothed = counts + _SMOOTHING
    shares: Array = smoothed / smoothed.sum()
    return shares


def _variance(p: Array, gradient: Array) -> float:
    """Of the gradient over the bins: what one more value adds to the variance of the index."""
    mean = float(np.sum(p * gradient))
    return float(np.sum(p * np.square(gradient - mean)))


def _interval(value: float, variance: float, before: Array, after: Array, scale: float) -> tuple[float, float, float]:
    """Low, value and high. Without a change the index is ``scale (1/n + 1/m)`` times chi-squared."""
    unit, freedom = scale * (1.0 / float(before.sum()) + 1.0 / float(after.sum())), len(before) - 1.0
    middle = value - freedom * unit
    reach = _Z * math.sqrt(variance + 2.0 * freedom * unit * unit)
    return max(middle - reach, 0.0), max(middle, 0.0), max(middle + reach, 0.0)
