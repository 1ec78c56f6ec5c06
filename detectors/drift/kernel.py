"""The kernel two-sample test: unbiased squared MMD under a Gaussian kernel, by permutation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectors.base import Array
from detectors.device import find_device, import_torch
from detectors.drift.distances import median_distance
from detectors.drift.permutation import Permuted, labels

if TYPE_CHECKING:
    import torch


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
        self.bandwidth = bandwidth or median_distance(squared.cpu().numpy())
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
            values = discrepancies(K, self._memberships(n, m, n_permutations, seed), n, m)
            found: Array = values.cpu().numpy()
        return Permuted(float(found[0]), found[1:])

    def _memberships(self, n: int, m: int, n_permutations: int, seed: int) -> torch.Tensor:
        """``(n + m, 1 + n_permutations)``: which rows are the window's, as they came, then permuted.

        Kept for the next window of the same size.
        """
        key = (m, n_permutations, seed)
        drawn = self._drawn
        if drawn is None or drawn[0] != key:
            blocks = np.concatenate(list(labels(n, m, n_permutations, seed)))
            drawn = (key, self._torch.from_numpy(np.ascontiguousarray(blocks.T)).to(self._device))
            self._drawn = drawn
        return drawn[1]


def discrepancies(K: torch.Tensor, W: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """``(P,)`` unbiased squared MMD from the kernel ``K`` ``(n + m, n + m)``, whose diagonal is 0.

    Each column of ``W`` ``(n + m, P)`` says by 1 which ``m`` rows are the window's.
    """
    within = (W * (K @ W)).sum(0)
    across = W.T @ K.sum(1) - within
    rest = K.sum() - 2.0 * across - within
    return rest / (n * (n - 1.0)) + within / (m * (m - 1.0)) - 2.0 * across / (n * float(m))
