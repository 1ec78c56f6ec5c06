"""The likelihood ratio of a table with rare categories, with the moments that it really has.

Pearson's statistic over cells in which little is expected has a far heavier tail than chi-squared: one value where 0.05
were expected adds 18 to it. The likelihood ratio

    G = 2 sum_i [ x_i log(x_i / (K_i pi)) + (K_i - x_i) log((K_i - x_i) / (K_i (1 - pi))) ]

of ``x_i`` of the ``K_i`` values of category ``i`` that are the window's, ``pi`` its share of all rows, has the right
tail (its exponent is the one of large deviations), but not always the mean and variance of chi-squared. Given ``K_i``,
``x_i`` is binomial where nothing drifted, so that both moments of each term are finite sums. A gamma distribution with
the moments of the whole gives the p-value.

References
----------
Wilks S. S. (1938). The large-sample distribution of the likelihood ratio ... Ann. Math. Stat. 9(1).
Williams D. A. (1976). Improved likelihood ratio tests for complete contingency tables. Biometrika 63(1).
Hoeffding W. (1965). Asymptotically optimal tests for multinomial distributions. Ann. Math. Stat. 36(2).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import chdtrc, gammaln, xlogy

from detectors.base import Array

_LARGE = 60.0  # expected in the window, from which the expansion for large samples is as good as the sum
_SMALL_SHARE = 0.01  # of the window, below which a binomial is taken for Poisson's
_GRID = np.geomspace(1e-3, _LARGE, 160)


def terms(x: Array, total: Array, share: Array | float) -> Array:
    """Each category's part of G; ``x`` of its ``total`` values are in the window, whose share of all rows is ``share``.

    >>> terms(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([0.05, 0.05])).round(3).tolist()
    [5.991, 0.0]
    """
    expected, rest = total * share, total - x
    with np.errstate(divide="ignore", invalid="ignore"):
        found = xlogy(x, x / expected) + xlogy(rest, rest / (total - expected))
    return np.where(total > 0.0, np.maximum(2.0 * found, 0.0), 0.0)


def moments(total: Array, share: float) -> tuple[Array, Array]:
    """Mean and variance of :func:`terms` where nothing drifted.

    >>> mean, variance = moments(np.array([100.0]), 0.5)
    >>> round(float(mean[0]), 3), round(float(variance[0]), 2)
    (1.005, 2.02)
    """
    share = float(f"{share:.3g}")
    with np.errstate(divide="ignore", invalid="ignore"):
        q = 1.0 + (1.0 / share + 1.0 / (1.0 - share) - 1.0) / (6.0 * np.maximum(total, 1.0))
    mean, variance = q, 2.0 * q * q
    rare = (total > 0.0) & (total * min(share, 1.0 - share) < _LARGE)
    if rare.any():
        if _SMALL_SHARE <= share <= 1.0 - _SMALL_SHARE:
            at = total[rare].astype(np.intp)
            means, variances = _binomial(share)
            mean[rare], variance[rare] = means[at], variances[at]
        else:
            means, variances = _poisson()
            expected = np.log(np.maximum(total[rare] * min(share, 1.0 - share), _GRID[0]))
            mean[rare] = np.interp(expected, np.log(_GRID), means)
            variance[rare] = np.interp(expected, np.log(_GRID), variances)
    return np.where(total > 0.0, mean, 0.0), np.where(total > 0.0, variance, 0.0)


@lru_cache(maxsize=64)
def _binomial(share: float) -> tuple[Array, Array]:
    """By ``total`` from 0 on, as far as it is rare."""
    top = int(_LARGE / min(share, 1.0 - share)) + 1
    K = np.arange(top + 1, dtype=np.float64)[:, None]
    means, variances = np.zeros(top + 1), np.zeros(top + 1)
    for start in range(1, top + 1, 512):  # in pieces, for the memory
        k = K[start : start + 512]
        low = np.maximum(0.0, np.floor(k * share - 9.0 * np.sqrt(k * share * (1.0 - share)) - 9.0))
        x = np.minimum(low + np.arange(18.0 * np.sqrt(k[-1, 0] * share * (1.0 - share)) + 20.0), k + 1.0)
        inside = x <= k
        x = np.minimum(x, k)
        log_p = gammaln(k + 1) - gammaln(x + 1) - gammaln(k - x + 1) + x * np.log(share) + (k - x) * np.log1p(-share)
        p = np.where(inside, np.exp(log_p), 0.0)
        g = terms(x, k, share)
        means[start : start + 512] = mean = (p * g).sum(axis=1)
        variances[start : start + 512] = (p * np.square(g - mean[:, None])).sum(axis=1)
    return means, variances


@lru_cache(maxsize=1)
def _poisson() -> tuple[Array, Array]:
    """On the grid of expected counts."""
    x = np.arange(0.0, _LARGE + 10.0 * np.sqrt(_LARGE) + 20.0)
    expected = _GRID[:, None]
    p = np.exp(xlogy(x, expected) - expected - gammaln(x + 1.0))
    g = np.maximum(2.0 * (xlogy(x, x / expected) - x + expected), 0.0)
    mean = (p * g).sum(axis=1)
    return mean, (p * np.square(g - mean[:, None])).sum(axis=1)


def tail(g: float, mean: float, variance: float, rare: int) -> float:
    """The probability of at least ``g`` for a sum of terms with these sums of moments, their totals given.

    That a sum of counts is fixed takes the part of one term away, as it takes one degree of freedom. Beside the gamma
    distribution stands what one of ``rare`` categories can do alone, on top of the mean of all: less than that no
    p-value is.
    """
    m, v = max(mean - 1.0, 1e-6), max(variance - 2.0, 1e-6)
    alone = max(rare, 1) * chdtrc(1.0, max(g - m, 0.0))
    return float(min(max(chdtrc(2.0 * m * m / v, g * 2.0 * m / v), alone), 1.0))
