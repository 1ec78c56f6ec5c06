"""A kernel that is learnt: a Gaussian kernel on the features of a small network, times one on the rows. Needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.base import Array
from detectors.device import find_device, import_torch
from detectors.drift.distances import median_distance, squared_distances
from detectors.drift.network import forward, initial

_HIDDEN = 32
_FEATURES = 16
_FLOOR = 1e-6  # of the variance, which is about nothing where a batch tells nothing
_SOME = 500  # rows from which the first bandwidths come


class DeepKernel:
    """``k(x, y) = [(1 - eps) exp(-|f(x) - f(y)|^2 / (2 a^2)) + eps] exp(-|x - y|^2 / (2 b^2))``.

    ``f`` has two hidden layers of 32 rectified units and 16 features. Its weights, ``eps``, ``a`` and ``b`` are trained
    by Adam so that the squared MMD of batches of both samples is as many of its standard deviations as possible. All
    that is random is drawn by numpy, from ``seed``.
    """

    def __init__(self, width: int, points: Array, seed: int, device: str) -> None:
        self._torch = torch = import_torch("LearnedKernelDrift")
        self._at = find_device(torch, device)
        self._rng = np.random.default_rng([seed, 6])
        self._weights = initial(torch, self._rng, (width, _HIDDEN, _HIDDEN, _FEATURES), self._at)
        some = points[:: max(len(points) // _SOME, 1)]
        with torch.inference_mode():
            features = forward(self._weights, self._tensor(some)).cpu().numpy().astype(np.float64)
        logs = [np.log(median_distance(squared_distances(of, of))) for of in (features, some)]
        # The logarithms of a and b, and the logit of eps: a tenth at first.
        self._scales = torch.tensor([*logs, np.log(1.0 / 9.0)], dtype=torch.float32, device=self._at).requires_grad_()

    def _tensor(self, points: Array) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)).to(self._at)

    def train(self, x: Array, y: Array, epochs: int, learning_rate: float, batch_size: int) -> None:
        """On ``(n, e)`` and ``(m, e)``. An epoch is as long as the longer of them; of the shorter rows come again."""
        torch = self._torch
        tensors = [self._tensor(points) for points in (x, y)]
        n, size = max(len(x), len(y)), min(len(x), len(y), batch_size)
        adam = torch.optim.Adam([*self._weights, self._scales], lr=learning_rate)
        for _ in range(epochs):
            orders = [torch.from_numpy(self._order(len(points), n)).to(self._at) for points in tensors]
            for start in range(0, n - size + 1, size):
                batches = [points[order[start : start + size]] for points, order in zip(tensors, orders, strict=True)]
                loss = -self._power(*batches)
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()

    def _order(self, n: int, most: int) -> Any:
        """So many places below ``n``: each as often as any other, but for one."""
        return np.concatenate([self._rng.permutation(n) for _ in range(-(-most // n))])[:most]

    def _power(self, x: Any, y: Any) -> Any:
        """The squared MMD of two batches of ``n`` rows over its standard deviation under the alternative."""
        n = len(x)
        within, among, across = self(x, x), self(y, y), self(x, y)
        h = within + among - across - across.T
        mmd = (h.sum() - h.diagonal().sum()) / (n * (n - 1.0))
        variance = 4.0 * (h.sum(1).square().sum() / n**3 - h.sum().square() / n**4)
        return mmd / (variance.clamp(min=0.0) + _FLOOR).sqrt()

    def __call__(self, x: Any, y: Any) -> Any:
        """``(n, m)`` kernel values of two tensors."""
        a, b, logit = self._scales
        eps = logit.sigmoid()
        of_features = self._squared(forward(self._weights, x), forward(self._weights, y)) / (2.0 * (2.0 * a).exp())
        of_rows = self._squared(x, y) / (2.0 * (2.0 * b).exp())
        return ((1.0 - eps) * (-of_features).exp() + eps) * (-of_rows).exp()

    @staticmethod
    def _squared(x: Any, y: Any) -> Any:
        squared = x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2.0 * (x @ y.T)
        return squared.clamp(min=0.0)

    def matrix(self, points: Array) -> Any:
        """``(n, n)`` values, 0 on the diagonal, for the permutation test; ``float64``."""
        with self._torch.inference_mode():
            tensor = self._tensor(points)
            values = self(tensor, tensor).to(self._torch.float64)
            values = 0.5 * (values + values.T)
            values.fill_diagonal_(0.0)
        return values
