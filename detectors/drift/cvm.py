"""Cramer-von Mises drift: the Kolmogorov-Smirnov question, asked over the whole range rather than at one point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, kve

from detectors.base import Array
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import ColumnwiseDrift
from detectors.drift.grouped import Measured, SortedTest, Test

_TAIL = 5.0
_K = np.arange(20.0)  # enough terms below the tail
_Y = (4.0 * _K + 1.0) ** 2 / 16.0
_FACTORS = np.exp(gammaln(_K + 0.5) - gammaln(0.5) - gammaln(_K + 1.0)) * np.sqrt(4.0 * _K + 1.0) / math.pi


class CVMDrift(ColumnwiseDrift):
    """Two-sample Cramer-von Mises test on every column, corrected for their number.

    Statistic and p-value are those of ``scipy.stats.cramervonmises_2samp(method="asymptotic")``, ties taking their mean
    rank. The effect size is ``sqrt(3 (mean of (F - G)^2))`` over the pooled sample: 0 the same, about 1 disjoint.

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

    def _tests(self, columns: Sequence[ColumnReference]) -> list[Test]:
        return [SortedTest(columns, CVMOnSorted, cells=False)]


class CVMOnSorted:
    """The statistic from sorted columns, one after the other."""

    def __init__(self, columns: Sequence[ColumnReference]) -> None:
        self._columns = columns
        self._below = [np.concatenate([[0], np.cumsum(column.counts)]).astype(np.float64) for column in columns]
        self._ties = [_ties(column.counts) for column in columns]

    def __call__(self, x: Array, n: Array) -> Measured:
        """``x`` of shape ``(columns, rows)``, ascending; missing values are infinities at the end."""
        sizes = n.astype(np.intp).tolist()
        found = [self._one(k, column[:size]) for k, (column, size) in enumerate(zip(x, sizes, strict=True))]
        statistic, p, effect = np.array(found).T
        return Measured(statistic, p, effect, n)

    def _one(self, k: int, x: Array) -> tuple[float, float, float]:
        column, below = self._columns[k], self._below[k]
        n_ref, n = column.n, len(x)
        if not (n and n_ref):
            return 0.0, 1.0, 0.0
        first = np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))
        distinct, counts = x[first], np.diff(first, append=n).astype(np.float64)
        left = column.values.searchsorted(distinct)
        same = np.append(column.values, np.nan)[left] == distinct
        lower, upper = below[left], below[left + same]
        started = np.concatenate([[0.0], np.cumsum(counts)])
        # Mean rank of a group of ties minus mean rank within its own sample; the spread inside the group comes apart.
        window = counts @ np.square(0.5 * (lower + upper)) + _ties(counts)
        between = np.concatenate([lower, [float(n_ref)]]) - np.concatenate([[0.0], upper])
        reference = (upper - lower) @ np.square(started[:-1] + 0.5 * counts) + between @ np.square(started)
        u = n_ref * (reference + self._ties[k]) + n * window
        product, total = float(n_ref) * n, n_ref + n
        statistic = float(u) / (product * total) - (4.0 * product - 1.0) / (6.0 * total)
        return statistic, _p(statistic, n_ref, n), math.sqrt(min(max(3.0 * statistic * total / product, 0.0), 1.0))


def _ties(counts: Array | np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    sizes = counts.astype(np.float64)
    return float((sizes * (sizes * sizes - 1.0)).sum() / 12.0)


def _p(statistic: float, n_ref: int, n: int) -> float:
    """From the limiting distribution, after matching mean and variance of the statistic (Anderson 1962)."""
    product, total = float(n_ref) * n, float(n_ref + n)
    mean = (1.0 + 1.0 / total) / 6.0
    spread = (total + 1.0) * (4.0 * product * total - 3.0 * (n_ref**2 + n**2) - 2.0 * product)
    spread /= 45.0 * total**2 * 4.0 * product
    scaled = 1.0 / 6.0 + (statistic - mean) / math.sqrt(45.0 * spread)
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
