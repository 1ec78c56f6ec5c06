"""The kernel two-sample test: unbiased squared MMD under a Gaussian kernel, by permutation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.base import Array, DetectorError
from detectors.device import find_device, import_torch

if TYPE_CHECKING:
    import torch


def enough_permutations(n_permutations: int | None, level: float) -> int:
    """As many permutations as asked for, if they can reach the level; default: 199, or twice as many as it needs."""
    needed = math.ceil(1.0 / level - 1e-9) - 1
    n_permutations = max(199, 2 * needed + 1) if n_permutations is None else n_permutations
    if not isinstance(n_permutations, int) or n_permutations < needed:
        raise DetectorError(
            f"n_permutations must be a whole number of at least {needed} to reach the level {level:g}, "
            f"got {n_permutations!r}"
        )
    return n_permutations


class Permuted(NamedTuple):
    """A window's statistic, and the ``(P,)`` statistics of as many permutations of the labels."""

    statistic: float
    permuted: Array

    @property
    def p_val(self) -> float:
        """``(k + 1) / (P + 1)`` for ``k`` permutations with a statistic at least as large."""
        return (1.0 + float(np.count_nonzero(self.permuted >= self.statistic))) / (len(self.permuted) + 1.0)

    def critical(self, level: float) -> float:
        """The statistic above which ``(k + 1) / (P + 1) <= level``; infinite if no statistic reaches the level."""
        rank = math.floor(level * (len(self.permuted) + 1) + 1e-9)
        return float(np.sort(self.permuted)[-rank]) if rank else math.inf


class KernelTest:
    """The Gaussian kernel on the reference, and the permutation test against it.

    Parameters
    ----------
    reference : ``(n, e)`` coordinates.
    bandwidth : of the kernel; default: the median distance between reference rows.
    device : ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises
    ------
    DetectorError : torch or the device is not there.
    """

    def __init__(self, reference: Array, bandwidth: float | None, device: str) -> None:
        self.reference = reference
        self._torch = import_torch("MMDDrift")
        self._device = find_device(self._torch, device)
        self._x = self._torch.from_numpy(reference).to(self._device)
        squared = self._distances(self._x, self._x)
        self.bandwidth = bandwidth or _median_distance(squared.cpu().numpy())
        self._k_ref = self._torch.exp(-squared / (2.0 * self.bandwidth**2))
        self._k_ref.fill_diagonal_(0.0)
        self._drawn: tuple[tuple[int, int, int], torch.Tensor] | None = None

    def _distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Squared distances, by one matrix product."""
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
        return squared.clamp_(min=0.0)

    def permute(self, window: Array, n_permutations: int, seed: int) -> Permuted:
        """The statistic of ``window`` of shape ``(m, e)``, and ``(n_permutations,)`` under permuted labels."""
        torch, m = self._torch, len(window)
        with torch.inference_mode():
            y = torch.from_numpy(window).to(self._device)
            n = len(self._x)
            K = self._x.new_empty((n + m, n + m))
            K[:n, :n] = self._k_ref
            K[:n, n:] = torch.exp(-self._distances(self._x, y) / (2.0 * self.bandwidth**2))
            K[n:, :n] = K[:n, n:].T
            K[n:, n:] = torch.exp(-self._distances(y, y) / (2.0 * self.bandwidth**2))
            K.fill_diagonal_(0.0)
            W = self._memberships(n, m, n_permutations, seed)
            within = (W * (K @ W)).sum(0)
            touching = W.T @ K.sum(1)
            across = touching - within
            rest = K.sum() - 2.0 * across - within
            values = rest / (n * (n - 1.0)) + within / (m * (m - 1.0)) - 2.0 * across / (n * float(m))
            found: Array = values.cpu().numpy()
        return Permuted(float(found[0]), found[1:])

    def _memberships(self, n: int, m: int, n_permutations: int, seed: int) -> torch.Tensor:
        """``(n + m, 1 + n_permutations)``: which rows are the window's, as they came, then permuted.

        Kept for the next window of the same size; drawn by numpy, so that every device sees the same.
        """
        key = (m, n_permutations, seed)
        drawn = self._drawn
        if drawn is None or drawn[0] != key:
            labels = np.zeros((1 + n_permutations, n + m))
            labels[:, n:] = 1.0
            np.random.default_rng([seed, 2]).permuted(labels[1:], axis=1, out=labels[1:])
            drawn = (key, self._torch.from_numpy(np.ascontiguousarray(labels.T)).to(self._device))
            self._drawn = drawn
        return drawn[1]


def _median_distance(squared: Array) -> float:
    """Between different rows; if most are equal, the mean distance of those that differ."""
    above = squared[np.triu_indices(len(squared), 1)]
    median = float(np.median(above))
    if median <= 1e-12:
        differing = above[above > 1e-12]
        median = float(differing.mean()) if differing.size else 1.0
    return math.sqrt(median)
