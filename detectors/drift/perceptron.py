"""A small neural network that tells a window's rows from the reference's. Needs torch."""

from __future__ import annotations

import numpy as np

from detectors.base import Array
from detectors.device import find_device, import_torch
from detectors.drift.classifiers import Bools, Score
from detectors.drift.network import forward, initial

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
    weights = initial(torch, rng, (x.shape[1], _HIDDEN, _HIDDEN, 1), at)
    points = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(at)
    target = torch.from_numpy(of_window.astype(np.float32)).to(at)
    share = float(of_window.mean())
    weight = torch.where(target > 0.5, 0.5 / share, 0.5 / (1.0 - share))
    adam = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=_DECAY)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(x))).to(at)
        for start in range(0, len(x), batch_size):
            batch = order[start : start + batch_size]
            logits = forward(weights, points[batch])[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target[batch], weight[batch])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    frozen = [w.detach() for w in weights]

    def score(points: Array) -> Array:
        with torch.inference_mode():
            blocks = [points[i : i + _BLOCK].astype(np.float32) for i in range(0, len(points), _BLOCK)]
            found = [forward(frozen, torch.from_numpy(block).to(at))[:, 0].cpu().numpy() for block in blocks]
        return np.concatenate(found).astype(np.float64)

    return score
