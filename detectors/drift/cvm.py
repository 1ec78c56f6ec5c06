"""Cramer-von Mises drift: the Kolmogorov-Smirnov question, asked over the whole range rather than at one point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, kve

from detectors.base import Array, Histogram
from detectors.drift.cells import Ints
from detectors.drift.columns import ColumnReference, sorted_histogram
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grouped import Bools, ColumnTest, Measured

_TAIL = 5.0
_K = np.arange(20.0)  # enough terms below the tail
_Y = (4.0 * _K + 1.0) ** 2 / 16.0
_FACTORS = np.exp(gammaln(_K + 0.5) - gammaln(0.5) - gammaln(_K + 1.0)) * np.sqrt(4.0 * _K + 1.0) / math.pi


class CVMDrift(ColumnwiseDrift):
    """Two-sample Cramer-von Mises test on every column, corrected for their number.

    The statistic is ``n n_ref / N^2`` times the sum of ``(F - G)^2`` over the pooled sample of ``N`` values. At tied
    values the mean of the squares on both sides is taken, and mean and variance of the statistic follow from the tied
    ranks; without ties, statistic and p-value are those of ``scipy.stats.cramervonmises_2samp(method="asymptotic")``.
    (With ties scipy's rank formula sees drift between equal samples.) The effect size is the root mean square of
    ``F - G`` over the pooled sample, times the root of 3: 0 the same, about 1 disjoint samples of equal size.

    See :class:`~detectors.drift.columnwise.ColumnwiseDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Anderson T. W. (1962). On the distribution of the two-sample Cramer-von Mises criterion. Ann. Math. Stat. 33(3).
    Anderson T. W., Darling D. A. (1952). Asymptotic theory of certain goodness of fit criteria. Ann. Math. Stat. 23(2).

    >>> rng = np.random.default_rng(0)
    >>> detector = CVMDrift().fit(rng.normal(size=(2000, 2)))
    >>> detector.predict(rng.normal(size=(500, 2))).state
    'ok'
    """

    detector_type = "CVMDrift"
    takes = "numeric"

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        return [CVMTest(columns)]


class CVMTest:
    """Tests all columns, one after the other: each is sorted together with its reference."""

    def __init__(self, columns: Sequence[ColumnReference]) -> None:
        self.positions: Ints = np.arange(len(columns))
        self._columns = columns

    def measure(self, x: Array, missing: Bools | None) -> tuple[Measured, list[Array]]:
        present = [np.sort(x[:, k] if missing is None else x[~missing[:, k], k]) for k in range(len(self._columns))]
        found = [_one(column, values) for column, values in zip(self._columns, present, strict=True)]
        statistic, p, effect = np.array(found).T
        return Measured(statistic, p, effect, np.array([float(len(values)) for values in present])), present

    def unseen(self, evidence: object) -> Array | None:  # noqa: ARG002 - numeric columns have no unseen values
        return None

    def category_counts(self, evidence: object, k: int) -> Array | None:  # noqa: ARG002 - the same
        return None

    def histogram(self, evidence: list[Array], k: int) -> Histogram | None:
        return sorted_histogram(self._columns[k], evidence[k])


def _one(column: ColumnReference, x: Array) -> tuple[float, float, float]:
    """Statistic, p-value and effect size for ascending ``x``."""
    n_ref, n = column.n, len(x)
    if not (n and n_ref):
        return 0.0, 1.0, 0.0
    statistic = _untied(column, x) if len(column.values) == n_ref else None
    mean, variance = _moments(n_ref, n)
    if statistic is None:
        statistic, mean, ratio = _tied(column, x)
        variance *= ratio
    mean_square = statistic * (n_ref + n) / (float(n_ref) * n)
    return statistic, _p(statistic, mean, variance), math.sqrt(min(3.0 * mean_square, 1.0))


def _untied(column: ColumnReference, x: Array) -> float | None:
    """The statistic from ranks, all of which differ; else ``None``."""
    n_ref, n = column.n, len(x)
    below = column.values.searchsorted(x)
    if (np.append(column.values, np.nan)[below] == x).any() or (x[1:] == x[:-1]).any():
        return None
    between = np.diff(below, prepend=0, append=n_ref)
    product, total = float(n_ref) * n, float(n_ref + n)
    u = n * float(below @ below) + n_ref * float(between @ np.square(np.arange(n + 1)))
    return u / (product * total) - (4.0 * product - 1.0) / (6.0 * total)


def _tied(column: ColumnReference, x: Array) -> tuple[float, float, float]:
    """The statistic, its mean, and its variance as a multiple of that without ties."""
    n_ref, n = column.n, len(x)
    total, product = n_ref + n, float(n_ref) * n
    points = np.concatenate([column.values, x])
    sizes = np.concatenate([column.counts, np.full(n, -1)])
    order = np.argsort(points, kind="stable")
    points, sizes = points[order], sizes[order]
    last = np.flatnonzero(np.append(points[1:] != points[:-1], True))
    ref = np.cumsum(np.maximum(sizes, 0))[last]
    pooled = np.cumsum(np.abs(sizes))[last]
    # Half the ranks tied on either side of each step between distinct values; the last step is at 1, where F = G.
    weights = 0.5 * (np.append(pooled[1:], total) - np.append(0, pooled[:-1])) / total
    statistic = product / total * float(weights @ np.square(ref / n_ref - (pooled - ref) / n))
    H = pooled / total
    mean = total / (total - 1.0) * float(weights @ (H * (1.0 - H)))
    return statistic, mean, 45.0 * _variance(weights, H)


def _moments(n_ref: int, n: int) -> tuple[float, float]:
    """Mean and variance of the statistic without drift and ties (Anderson 1962)."""
    product, total = float(n_ref) * n, float(n_ref + n)
    spread = (total + 1.0) * (4.0 * product * total - 3.0 * (n_ref**2 + n**2) - 2.0 * product)
    return (1.0 + 1.0 / total) / 6.0, spread / (45.0 * total**2 * 4.0 * product)


def _variance(weights: Array, H: Array) -> float:
    """Variance of ``sum w B(H)^2`` for a Brownian bridge ``B``; 1/45 for equal weights on a fine grid."""
    before, after = weights * H * H, weights * np.square(1.0 - H)
    return 2.0 * float(before @ after + 2.0 * (np.cumsum(before)[:-1] @ after[1:]))


def _p(statistic: float, mean: float, variance: float) -> float:
    """From the limiting distribution (mean 1/6, variance 1/45), after matching mean and variance."""
    if variance <= 0.0:  # a single value: no sample can differ from another
        return 1.0
    scaled = 1.0 / 6.0 + (statistic - mean) / math.sqrt(45.0 * variance)
    return 1.0 if scaled < 0.003 else cramer_von_mises_sf(scaled)


def cramer_von_mises_sf(x: float) -> float:
    """``P(W^2 > x)`` of the limiting distribution, ``x > 0`` (Anderson & Darling 1952, equation 4.35).

    Beyond 5, where one minus the series would be rounding, the leading term of the tail is taken (Smirnov 1936).

    >>> round(cramer_von_mises_sf(0.46136), 4), cramer_von_mises_sf(20.0) > 0.0  # the 5 % point; far out
    (0.05, True)
    """
    if x > _TAIL:
        return 2.0 * math.exp(-0.5 * math.pi**2 * x) / (math.pow(math.pi, 1.5) * math.sqrt(x))
    y = _Y / x
    return max(0.0, 1.0 - float((_FACTORS * np.exp(-2.0 * y) * kve(0.25, y)).sum()) / math.sqrt(x))
