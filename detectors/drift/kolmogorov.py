"""The distribution of the two-sided one-sample Kolmogorov-Smirnov distance, fast enough for every window.

Three formulas, each where it is exact or better than 1e-9, chosen as in Simard & L'Ecuyer (2011):

- far tail: twice the one-sided probability of Smirnov (1944), a finite sum;
- ``n`` up to 140: the matrix power of Durbin (1973) as in Marsaglia, Tsang & Wang (2003);
- else: the expansion of Pelz & Good (1976); at very small distances with a correction taken from the matrix power.

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
_LOW_Z = 0.22  # below, the probability is 1 within 1e-9 by any formula
_INTERPOLATED, _TERMS = 300, 12
_PI2 = math.pi**2
_PI4 = _PI2 * _PI2
_A = [_PI2 * (k + 0.5) ** 2 for k in range(4)]
(_A0, _A1, _A2, _A3), (_B0, _B1, _B2, _B3), (_C0, _C1, _C2, _C3) = ([a**power for a in _A] for power in (1, 2, 3))
_ROOT = math.sqrt(0.5 * math.pi)


def ks_p(distance: Array, n: Array, n_ref: Array) -> Array:
    """p-values of distances ``(k,)`` between samples of sizes ``n`` and ``n_ref``; 1 where a sample is empty."""
    sizes = np.maximum(np.rint(n * n_ref / np.maximum(n + n_ref, 1.0)), 1.0)
    first = int(sizes[0])
    if (sizes == first).all():
        return kolmogorov_sf(first, distance)
    p = np.ones(distance.shape)
    for size in np.unique(sizes):
        at = sizes == size
        p[at] = kolmogorov_sf(int(size), distance[at])
    return p


def kolmogorov_sf(n: int, distance: Array) -> Array:
    """``P(D_n >= distance)`` for the two-sided distance of ``n`` values from their continuous distribution.

    Parameters
    ----------
    n : number of values, at least 1.
    distance : ``(k,)`` distances; 0 or less gives 1, 1 or more gives 0.

    >>> kolmogorov_sf(100, np.array([0.0, 0.1, 0.2, 1.0])).round(6).tolist()
    [1.0, 0.252693, 0.000555, 0.0]
    """
    p, tail = [1.0] * len(distance), []
    far = 4.0 if n <= _SMALL_N else 2.2
    for i, d in enumerate(distance.tolist()):
        if n * d * d >= far or d >= 0.5:
            tail.append(i)
        elif n > _SMALL_N and n * d * d > 0.02:
            p[i] = pelz_good_sf(n, d) if d > _near_zero(n) else _near_zero_sf(n, d)
        elif n <= _SMALL_N and n * d > 0.5:
            p[i] = 1.0 - durbin_cdf(n, d)
    found = np.array(p)
    if tail:
        found[tail] = np.minimum(2.0 * smirnov_sf(n, distance[tail]), 1.0)
    return found


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


def pelz_good_sf(n: int, d: float) -> float:
    """The expansion in ``1 / sqrt(n)`` to third order; for ``n > 140`` and ``n d^2 < 2.2``.

    >>> round(pelz_good_sf(1000, 0.03), 6)
    0.32269
    """
    z = math.sqrt(n) * d
    z2 = z * z
    z4, z6 = z2 * z2, z2 * z2 * z2
    q = math.exp(-_PI2 / (8.0 * z2))
    q2 = q * q
    q4 = q2 * q2
    q8 = q4 * q4
    q16 = q8 * q8
    # exp(-a / (2 z^2)) is q^1, q^9, q^25, ... for a = pi^2 (k + 1/2)^2, and q^4, q^16, ... for a = pi^2 k^2.
    e0, e1 = q, q * q8
    e2 = e1 * q16
    e3 = e2 * q16 * q8
    s0 = e0 + e1 + e2 + e3
    s1 = _A0 * e0 + _A1 * e1 + _A2 * e2 + _A3 * e3
    s2 = _B0 * e0 + _B1 * e1 + _B2 * e2 + _B3 * e3
    s3 = _C0 * e0 + _C1 * e1 + _C2 * e2 + _C3 * e3
    f3 = q16 * q16 * q4
    w1 = _PI2 * (q4 + 4.0 * q16 + 9.0 * f3)
    w2 = _PI4 * (q4 + 16.0 * q16 + 81.0 * f3)
    k0 = 2.0 * s0 / z
    k1 = (s1 - z2 * s0) / (3.0 * z4)
    k2 = ((6.0 * z6 + 2.0 * z4) * s0 + (2.0 * z4 - 5.0 * z2) * s1 + (1.0 - 2.0 * z2) * s2) / (36.0 * z6 * z)
    k2 -= w1 / (18.0 * z2 * z)
    k3 = (5.0 - 30.0 * z2) * s3 + (212.0 * z4 - 60.0 * z2) * s2 + (135.0 * z4 - 96.0 * z6) * s1
    k3 = (k3 - (30.0 * z6 + 90.0 * z4 * z4) * s0) / (3240.0 * z6 * z4) + (3.0 * z2 * w1 - w2) / (108.0 * z6)
    root = math.sqrt(n)
    cdf = _ROOT * (k0 + (k1 + (k2 + k3 / root) / root) / root)
    return min(max(1.0 - cdf, 0.0), 1.0)


def _near_zero_sf(n: int, d: float) -> float:
    """Where the expansion is off by more than 1e-9: exact, or for larger ``n`` the expansion, corrected."""
    z = math.sqrt(n) * d
    if z <= _LOW_Z:
        return pelz_good_sf(n, d)
    if n < _INTERPOLATED:
        return 1.0 - durbin_cdf(n, d)
    low, high, series = _correction(n)
    x = (2.0 * z - low - high) / (high - low)
    b1 = b2 = 0.0
    for coefficient in series:  # Clenshaw's recurrence
        b1, b2 = 2.0 * x * b1 - b2 + coefficient, b1
    return pelz_good_sf(n, d) - (b1 - x * b2)


@lru_cache(maxsize=256)
def _correction(n: int) -> tuple[float, float, list[float]]:
    """A range of ``sqrt(n) d``, and Chebyshev coefficients over it, highest first, of exact minus expanded probability.

    The difference is below 1e-6 and smooth, so that few exact values give it within 1e-9.
    """
    low, high = _LOW_Z, math.sqrt(n) * _near_zero(n)
    angles = math.pi * (np.arange(_TERMS) + 0.5) / _TERMS
    distances = (0.5 * (low + high) + 0.5 * (high - low) * np.cos(angles)) / math.sqrt(n)
    differences = [durbin_cdf(n, d) - 1.0 + pelz_good_sf(n, d) for d in distances.tolist()]
    coefficients: Array = 2.0 / _TERMS * (np.cos(np.outer(np.arange(_TERMS), angles)) @ differences)
    coefficients[0] *= 0.5
    return low, high, [float(c) for c in coefficients[::-1]]


@lru_cache(maxsize=256)
def _near_zero(n: int) -> float:
    """Below this distance the expansion is not exact enough (Simard & L'Ecuyer: ``n d^(3/2) < 1.4``)."""
    return float((1.4 / n) ** (2.0 / 3.0))


def durbin_cdf(n: int, distance: float) -> float:
    """``P(D_n < distance)`` exactly: ``n! / n^n`` times an element of the n-th power of a small matrix.

    >>> round(durbin_cdf(10, 0.274), 6)  # the worked example of Marsaglia, Tsang & Wang
    0.62848
    """
    k = int(n * distance) + 1
    m = 2 * k - 1
    h = k - n * distance
    inverse_factorials, below = _durbin_frame(m)
    corner = h ** np.arange(1, m + 1)
    H = below.copy()
    H[:, 0] -= corner
    H[-1, :] -= corner[::-1]
    H[-1, 0] += max(2.0 * h - 1.0, 0.0) ** m
    H *= inverse_factorials
    # A row of the n-th power, by squaring. Divided by e, the matrix keeps its powers in range: n! / n^n is about e^-n.
    row = np.zeros(m)
    row[k - 1] = 1.0
    left = n
    while True:
        if left & 1:
            row = row @ H
        left >>= 1
        if not left:
            break
        H = H @ H
    return min(float(row[k - 1]) * math.exp(math.lgamma(n + 1.0) - n * math.log(n) + n), 1.0)


@lru_cache(maxsize=64)
def _durbin_frame(m: int) -> tuple[Array, Array]:
    """``1 / (e (i - j + 1)!)``, and where it belongs."""
    lag = np.subtract.outer(np.arange(m), np.arange(m)) + 1
    inverse = np.exp(-1.0 - gammaln(np.maximum(lag, 0) + 1.0))
    return inverse, (lag >= 0).astype(np.float64)
