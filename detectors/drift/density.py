"""The difference of two densities, fitted by least squares, and the permutation test of its size.

The difference is modelled as ``g(x) = sum_l theta_l exp(-|x - c_l|^2 / (2 sigma^2))``. With
``H_kl = exp(-|c_k - c_l|^2 / (4 sigma^2))``, which is the integral of two kernels' product but for a factor
``(pi sigma^2)^(e / 2)`` that is left out, and ``h`` the difference of the kernels' means over both samples, least
squares give ``theta = (H + lambda I)^-1 h``, and as estimate of the integral of the squared difference
``2 theta^T h - theta^T H theta``. In the eigenvectors of ``H`` it is a sum of squares, so that it is the squared
distance between the means of both samples' coordinates: all permutations are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from typing_extensions import Self

from detectors.base import Array
from detectors.drift.distances import median_distance, squared_distances
from detectors.drift.permutation import Permuted, labels

_BLOCK = 2**22  # kernel values computed at once
_SPLITS = 50  # random halves of the reference from which the regularisation is learnt
_SOME = 1000  # rows from which the bandwidth is learnt


class DensityDifference:
    """The reference and the kernels, ready for testing.

    Parameters
    ----------
    reference : ``(n, e)`` coordinates.
    centers : ``(L, e)`` of the kernels.
    sigma : bandwidth of the kernels.
    penalty : lambda.

    ``turn`` is the ``(L, L)`` matrix from a row's kernel values to coordinates, in which the squared distance of two
    samples' means is the statistic.
    """

    def __init__(self, reference: Array, centers: Array, sigma: float, penalty: float) -> None:
        self.reference, self.centers, self.sigma, self.penalty = reference, centers, sigma, penalty
        values, vectors = _eigen(centers, sigma)
        # 2 theta^T h - theta^T H theta, in eigenvectors: h_i^2 (e_i + 2 lambda) / (e_i + lambda)^2.
        self.turn = vectors * (np.sqrt(values + 2.0 * penalty) / (values + penalty))
        self._known = self._coordinates(reference)
        self._drawn: tuple[tuple[int, int, int], list[Array]] | None = None

    @classmethod
    def learn(cls, reference: Array, centers: Array, sigma: float | None, rd_max: float, seed: int) -> Self:
        """With the bandwidth, if none is given, and the regularisation that suit the reference."""
        sigma = sigma or median_distance(squared_distances(reference[:_SOME], reference[:_SOME]))
        return cls(reference, centers, sigma, _penalty(reference, centers, sigma, rd_max, seed))

    def _coordinates(self, points: Array) -> Array:
        return _kernels(points, self.centers, self.sigma, self.turn)

    def permute(self, window: Array, n_permutations: int, seed: int) -> tuple[Permuted, float]:
        """The statistic of ``window`` of shape ``(m, e)``, those of so many permutations of the labels, and the
        statistic that two densities would have that do not overlap."""
        n, m = len(self.reference), len(window)
        both = np.concatenate([self._known, self._coordinates(window)])
        total = both.sum(axis=0)
        found = []
        for block in self._labels(m, n_permutations, seed):
            of_window = block @ both
            gap = (total - of_window) / n - of_window / m
            found.append(np.einsum("ij,ij->i", gap, gap))
        statistics = np.concatenate(found)
        sizes = float(np.sum(both[:n].mean(axis=0) ** 2) + np.sum(both[n:].mean(axis=0) ** 2))
        # Equal numbers, summed in another order, differ by rounding: a tie is a statistic at least as large.
        permuted = np.where(
            np.isclose(statistics[1:], statistics[0], 1e-9, 1e-12 * sizes), statistics[0], statistics[1:]
        )
        return Permuted(float(statistics[0]), permuted), sizes

    def _labels(self, m: int, n_permutations: int, seed: int) -> Iterable[Array]:
        """Of :func:`labels`; kept for the next window of the same size, if they are one block."""
        key, n = (m, n_permutations, seed), len(self.reference)
        if self._drawn is not None and self._drawn[0] == key:
            return self._drawn[1]
        if (n + m) * (1 + n_permutations) > _BLOCK:
            return labels(n, m, n_permutations, seed)
        self._drawn = (key, list(labels(n, m, n_permutations, seed)))
        return self._drawn[1]


def _eigen(centers: Array, sigma: float) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(np.exp(-squared_distances(centers, centers) / (4.0 * sigma**2)))
    return np.maximum(values, 0.0), vectors


def _kernels(points: Array, centers: Array, sigma: float, turn: Array) -> Array:
    """``(n, L)`` values of the kernels, turned; block by block."""
    size = max(1, _BLOCK // len(centers))
    blocks = [points[i : i + size] for i in range(0, max(len(points), 1), size)]
    return np.concatenate([np.exp(-squared_distances(b, centers) / (2.0 * sigma**2)) @ turn for b in blocks])


def _penalty(reference: Array, centers: Array, sigma: float, rd_max: float, seed: int) -> float:
    """The largest lambda for which ``1 - theta^T H theta / theta^T h`` is at most ``rd_max`` on average."""
    values, vectors = _eigen(centers, sigma)
    known = _kernels(reference, centers, sigma, vectors)
    n = len(known)
    m = n // 2
    (signs,) = labels(n - m, m, _SPLITS, seed)
    of_half = signs[1:] @ known
    h = np.square((known.sum(axis=0) - of_half) / (n - m) - of_half / m)
    candidates = values.max() * np.logspace(1.0, -10.0, 111)
    for penalty in candidates.tolist():
        shrunk = h / (values + penalty)
        kept, whole = (shrunk * values / (values + penalty)).sum(axis=1), shrunk.sum(axis=1)
        usable = whole > 0.0
        if not usable.any() or float(np.mean(1.0 - kept[usable] / whole[usable])) <= rd_max:
            return float(penalty)
    return float(candidates[-1])
