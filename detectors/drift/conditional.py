"""Conditional kernel means of two samples, and the squared distance between them where a window's contexts are.

A row is a context ``c`` and values ``x``. Of each sample the kernel mean of ``x`` given ``c`` is estimated by ridge
regression, and the statistic is the mean squared distance of both estimates at contexts of the window that were held
out. Kernels are approximated by features: Gaussian kernels at landmarks, turned so that inner products of features
are the kernel between landmarks (Nystroem). All permutations then are products of small matrices.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from detectors.base import Array
from detectors.drift.distances import squared_distances

_BLOCK = 2**22  # kernel values computed at once
_NOTHING = 1e-8  # of the largest eigenvalue; smaller ones are rounding
_PENALTIES: tuple[float, ...] = tuple(np.logspace(-6.0, 0.0, 13).tolist())


class Features:
    """Of a Gaussian kernel ``exp(-d^2 / (2 sigma^2))``, by ``(L, e)`` landmarks: ``(n, e)`` points to ``(n, r)``."""

    def __init__(self, landmarks: Array, sigma: float, constant: bool = False) -> None:
        self.landmarks, self.sigma, self._constant = landmarks, sigma, constant
        values, vectors = np.linalg.eigh(np.exp(-squared_distances(landmarks, landmarks) / (2.0 * sigma**2)))
        kept = values > _NOTHING * values.max()
        self._turn: Array = vectors[:, kept] / np.sqrt(values[kept])

    def __call__(self, points: Array) -> Array:
        size = max(1, _BLOCK // len(self.landmarks))
        blocks = [points[i : i + size] for i in range(0, max(len(points), 1), size)]
        found = np.concatenate([self._block(block) for block in blocks])
        return np.hstack([np.ones((len(points), 1)), found]) if self._constant else found

    def _block(self, points: Array) -> Array:
        near: Array = np.exp(-squared_distances(points, self.landmarks) / (2.0 * self.sigma**2))
        found: Array = near @ self._turn
        return found


def best_penalty(contexts: Array, values: Array) -> float:
    """The ridge a row with which ``(n, q)`` features of values are told best by ``(n, r)`` of contexts, each row by
    the others."""
    eigenvalues, vectors = np.linalg.eigh(contexts.T @ contexts)
    turned = contexts @ vectors
    onto, n = turned.T @ values, len(contexts)
    losses = []
    for penalty in _PENALTIES:
        scaled = turned / (np.maximum(eigenvalues, 0.0) + penalty * n)
        leverage = np.einsum("ij,ij->i", scaled, turned)
        left_out = (values - scaled @ onto) / np.maximum(1.0 - leverage, 1e-6)[:, None]
        losses.append(float(np.square(left_out).mean()))
    return _PENALTIES[int(np.argmin(losses))]


def distances(
    contexts: Array, values: Array, held: Array, penalty: float, labels: Iterable[Array]
) -> tuple[Array, float]:
    """``(P,)`` statistics, one for each ``(n,)`` labelling of the rows by 0 and 1, and how large they could be.

    ``contexts`` is ``(n, r)``, ``values`` ``(n, q)`` and ``held`` ``(h, r)``. They could be as large as the sum of both
    means' squared lengths, for the first labelling, if the samples had nothing in common.
    """
    both = np.hstack([contexts, values])
    whole = contexts.T @ both
    weigh = held.T @ held / len(held)
    found: list[float] = []
    largest = 0.0
    for label in labels:
        of_window = contexts.T @ (label[:, None] * both)
        means = [
            _solve(sums, contexts.shape[1], penalty, count)
            for sums, count in ((whole - of_window, len(label) - label.sum()), (of_window, label.sum()))
        ]
        gap = means[0] - means[1]
        if not found:
            largest = float(sum(np.sum(mean * (weigh @ mean)) for mean in means))
        found.append(float(np.sum(gap * (weigh @ gap))))
    return np.array(found), largest


def _solve(sums: Array, r: int, penalty: float, count: float) -> Array:
    """``(r, q)`` coefficients of the ridge regression of a sample with these sums over its rows."""
    left = sums[:, :r] + penalty * max(count, 1.0) * np.eye(r)
    return np.asarray(np.linalg.solve(left, sums[:, r:]), dtype=np.float64)
