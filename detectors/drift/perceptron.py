"""A small neural network that tells a window's rows from the reference's. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from detectors.base import Array
from detectors.device import find_device, import_torch
from detectors.drift.classifiers import Bools, Score

if TYPE_CHECKING:
    import torch

_HIDDEN = 32
_DECAY = 1e-3
_BLOCK = 65_536  # rows scored at once


def perceptron(
    x: Array, of_window: Bools, epochs: int, learning_rate: float, batch_size: int, seed: int, device: str
) -> Score:
    """Two hidden layers of 32 rectified units, trained by Adam on ``(n, e)`` coordinates; both samples weigh the same.

    All that is random is drawn by numpy, from ``seed``: the global generators play no part, and every device sees the
    same.
    """
    torch = import_torch("ClassifierDrift")
    at = find_device(torch, device)
    rng = np.random.default_rng([seed, 5])
    weights = _initial(torch, rng, x.shape[1], at)
    points = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(at)
    target = torch.from_numpy(of_window.astype(np.float32)).to(at)
    share = float(of_window.mean())
    weight = torch.where(target > 0.5, 0.5 / share, 0.5 / (1.0 - share))
    adam = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=_DECAY)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(x))).to(at)
        for start in range(0, len(x), batch_size):
            batch = order[start : start + batch_size]
            logits = _forward(weights, points[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target[batch], weight[batch])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    frozen = [w.detach() for w in weights]

    def score(points: Array) -> Array:
        with torch.inference_mode():
            blocks = [points[i : i + _BLOCK].astype(np.float32) for i in range(0, len(points), _BLOCK)]
            found = [_forward(frozen, torch.from_numpy(block).to(at)).cpu().numpy() for block in blocks]
        return np.concatenate(found).astype(np.float64)

    return score


def _initial(torch: Any, rng: np.random.Generator, width: int, at: Any) -> list[torch.Tensor]:
    """Weights and biases, layer by layer (He et al. 2015)."""
    made: list[Array] = []
    for rows, columns in ((width, _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, 1)):
        drawn = rng.normal(size=(rows, columns)) * np.sqrt(2.0 / rows)
        made += [drawn, np.zeros(columns)]
    return [torch.from_numpy(array.astype(np.float32)).to(at).requires_grad_() for array in made]


def _forward(weights: list[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    first, a, second, b, last, c = weights
    hidden = (points @ first + a).relu()
    return ((hidden @ second + b).relu() @ last + c)[:, 0]
