"""Long short-term memory on torch, whose weights are plain arrays. Nothing draws from a global generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

State = tuple[Any, Any]
"""Hidden state and cell, each ``(n, units)``."""


class Recurrent:
    """One layer of long short-term memory. Weights are ``float64``, ``(inputs + units, 4 units)``.

    References
    ----------
    Hochreiter & Schmidhuber (1997), Long short-term memory. Gers, Schmidhuber & Cummins (2000) for the forget gate.
    """

    def __init__(self, weight: Any, bias: Any, torch: Any) -> None:
        self._weight, self._bias, self._torch = weight, bias, torch

    @classmethod
    def create(cls, inputs: int, units: int, torch: Any, device: Any, rng: np.random.Generator) -> Self:
        """Weights start as Glorot & Bengio's, the forget gate's bias at 1 (Jozefowicz et al. 2015)."""
        bound = math.sqrt(6.0 / (inputs + 2 * units))
        bias = np.zeros(4 * units)
        bias[units : 2 * units] = 1.0
        drawn = rng.uniform(-bound, bound, (inputs + units, 4 * units))
        weight, bias = (torch.tensor(array, device=device, requires_grad=True) for array in (drawn, bias))
        return cls(weight, bias, torch)

    def __call__(self, x: Any, state: State | None = None) -> tuple[Any, State]:
        """``(n, s, units)`` states after each moment of ``(n, s, inputs)``, and the last state with its cell."""
        units = self._bias.shape[0] // 4
        hidden, cell = state if state is not None else (x.new_zeros((len(x), units)),) * 2
        states = []
        for moment in x.unbind(dim=1):
            gates = self._torch.cat([moment, hidden], dim=1) @ self._weight + self._bias
            take, keep, tell, new = gates.chunk(4, dim=1)
            cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
            hidden = tell.sigmoid() * cell.tanh()
            states.append(hidden)
        return self._torch.stack(states, dim=1), (hidden, cell)

    @property
    def parameters(self) -> list[Any]:
        return [self._weight, self._bias]

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        return {f"{name}.{i}": tensor.detach().cpu().numpy() for i, tensor in enumerate(self.parameters)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]], torch: Any, device: Any) -> Self:
        weight, bias = (torch.tensor(arrays[f"{name}.{i}"], device=device) for i in range(2))
        return cls(weight, bias, torch)
