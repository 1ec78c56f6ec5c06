"""A small feed-forward network in torch: its weights are drawn by numpy, the same on every device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


def initial(torch: Any, rng: np.random.Generator, sizes: Sequence[int], at: Any) -> list[torch.Tensor]:
    """Weights ``(in, out)`` and biases ``(out,)`` of layers of these sizes, in turns (He et al. 2015)."""
    drawn: list[npt.NDArray[np.float64]] = []
    for rows, columns in pairwise(sizes):
        drawn += [rng.normal(size=(rows, columns)) * np.sqrt(2.0 / rows), np.zeros(columns)]
    return [torch.from_numpy(array.astype(np.float32)).to(at).requires_grad_() for array in drawn]


def forward(weights: Sequence[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """``(n, in)`` to ``(n, out)``: rectified units, but in the last layer."""
    found = points
    for layer in range(0, len(weights), 2):
        found = found @ weights[layer] + weights[layer + 1]
        if layer + 2 < len(weights):
            found = found.relu()
    return found
