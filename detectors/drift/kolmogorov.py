"""The distribution of the two-sided one-sample Kolmogorov-Smirnov distance, fast enough for every window.

Three formulas, each where it is exact or better than 1e-9, chosen as in Simard & L'Ecuyer (2011):

- far tail: twice the one-sided probability of Smirnov (1944), a finite sum;
- small ``n``, or very small distances: the matrix power of Durbin (1973) as in Marsaglia, Tsang & Wang (2003);
- else: the expansion of Pelz & Good (1976).

References
----------
Simard R., L'Ecuyer P. (2011). Computing the two-sided Kolmogorov-Smirnov distribution. J. Stat. Soft. 39(11).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from detectors.base import Array

_SMALL_N = 140
_NODES = 400  # the summand vanishes smoothly at both ends, so that the trapezoid rule converges beyond all powers
_HALVES = (np.arange(8) + 0.5) ** 2 * math.pi**2
_WHOLES = np.arange(1, 8) ** 2 * math.pi**2


def kolmogorov_sf(n: int, distance: Array) -> Array:
    """``P(D_n >= distance)`` for the two-sided distance of ``n`` values from their continuous distribution.

    Parameters
    ----------
    n : number of values, at least 1.
    distance : ``(k,)`` distances; 0 or less gives 1, 1 or more gives 0.

    >>> kolmogorov_sf(100, np.array([0.0, 0.1, 0.2, 1.0])).round(6).tolist()
    [1.0, 0.252693, 0.000555, 0.0]
    """
    d = np.asarray(distance, dtype=np.float64)
    squared = n * d * d
    tail = (squared >= (4.0 if n <= _SMALL_N else 2.2)) | (d >= 0.5)
    p = np.ones(d.shape)
    if tail.any():
        p[tail] = np.minimum(2.0 * smirnov_sf(n, d[tail]), 1.0)
    body = ~tail & (d * n > 0.5)
    if n > _SMALL_N:
        fine = body & (n * d**1.5 > 1.4)
        if fine.any():
            p[fine] = pelz_good_sf(n, d[fine])
        body &= ~fine
    for i in np.flatnonzero(body):
        p[i] = 1.0 - durbin_cdf(n, float(d[i]))
    return p


def smirnov_sf(n: int, distance: Array) -> Array:
    """``P(D_n+ >= distance)``, one-sided: ``d sum_j C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)``.

    >>> smirnov_sf(10, np.array([0.3])).round(6).tolist()
    [0.135464]
    """
    j, log_binomial, step = _binomial(n)
    d = distance[:, None]
    inside = 1.0 - d - j / n
    reachable = inside > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = log_binomial + (j - 1.0) * np.log(d + j / n) + (n - j) * np.log(inside)
    terms = np.exp(np.where(reachable, logs, -np.inf))
    return np.where(distance >= 1.0, 0.0, np.clip(step * distance * terms.sum(axis=1), 0.0, 1.0))


@lru_cache(maxsize=64)
def _binomial(n: int) -> tuple[Array, Array, float]:
    """Summation points, their log binomial coefficients, and the distance between points."""
    j = np.arange(n, dtype=np.float64) if n <= 2 * _NODES else np.linspace(0.0, n, _NODES, endpoint=False)
    return j, gammaln(n + 1.0) - gammaln(j + 1.0) - gammaln(n - j + 1.0), float(j[1]) if n > 1 else 1.0


def pelz_good_sf(n: int, distance: Array) -> Array:
    """The expansion in ``1 / sqrt(n)`` to third order; for ``n > 140`` and ``n d^2 < 2.2``."""
    z = math.sqrt(n) * distance
    z2 = z * z
    z4, z6 = z2 * z2, z2 * z2 * z2
    decay = np.exp(np.outer(-0.5 / z2, _HALVES))
    s0, s1, s2, s3 = (decay @ _POWERS).T
    wholes = np.exp(np.outer(-0.5 / z2, _WHOLES))
    w1, w2 = (wholes @ _WHOLE_POWERS).T
    k0 = 2.0 * s0 / z
    k1 = (s1 - z2 * s0) / (3.0 * z4)
    k2 = ((6.0 * z6 + 2.0 * z4) * s0 + (2.0 * z4 - 5.0 * z2) * s1 + (1.0 - 2.0 * z2) * s2) / (36.0 * z6 * z)
    k2 -= w1 / (18.0 * z2 * z)
    k3 = (5.0 - 30.0 * z2) * s3 + (212.0 * z4 - 60.0 * z2) * s2 + (135.0 * z4 - 96.0 * z6) * s1
    k3 = (k3 - (30.0 * z6 + 90.0 * z4 * z4) * s0) / (3240.0 * z6 * z4) + (3.0 * z2 * w1 - w2) / (108.0 * z6)
    series = k0 + k1 / math.sqrt(n) + k2 / n + k3 / n**1.5
    p: Array = np.clip(1.0 - math.sqrt(math.pi / 2.0) * series, 0.0, 1.0)
    return p


_POWERS = np.stack([np.ones(8), _HALVES, _HALVES**2, _HALVES**3], axis=1)
_WHOLE_POWERS = np.stack([_WHOLES, _WHOLES**2], axis=1)


@lru_cache(maxsize=4096)
def durbin_cdf(n: int, distance: float) -> float:
    """``P(D_n < distance)`` exactly: ``n! / n^n`` times an element of the n-th power of a small matrix.

    >>> round(durbin_cdf(10, 0.274), 6)  # the worked example of Marsaglia, Tsang & Wang
    0.62848
    """
    k = int(n * distance) + 1
    m = 2 * k - 1
    h = k - n * distance
    lag = np.subtract.outer(np.arange(m), np.arange(m)) + 1
    corner = h ** np.arange(1, m + 1)
    H = (lag >= 0).astype(np.float64)
    H[:, 0] -= corner
    H[-1, :] -= corner[::-1]
    H[-1, 0] += max(2.0 * h - 1.0, 0.0) ** m
    H *= np.where(lag > 0, np.exp(-gammaln(np.maximum(lag, 0) + 1.0)), lag >= 0)
    value, log_scale = _power(H, n)
    log_factor = math.lgamma(n + 1.0) - n * math.log(n)
    return min(float(value[k - 1, k - 1]) * math.exp(log_factor + log_scale), 1.0)


def _power(base: Array, n: int) -> tuple[Array, float]:
    """``base`` to the ``n``, as a matrix with largest element near 1 and the logarithm of its scale."""
    result, log_result, log_base = np.eye(len(base)), 0.0, 0.0
    while n:
        if n & 1:
            result = result @ base
            largest = float(result.max())
            result, log_result = result / largest, log_result + log_base + math.log(largest)
        base = base @ base
        largest = float(base.max())
        base, log_base = base / largest, 2.0 * log_base + math.log(largest)
        n >>= 1
    return result, log_result
