"""The likelihood of rows of cells, column after column, by a masked network on torch. Weights are plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.network import Network

Index = npt.NDArray[np.intp]


class Autoregressive:
    """Probability of each column's cell, given those of the columns before it.

    Columns enter as indicators of their cells. Weights that would let a column see itself, or one after it, are masked.

    References
    ----------
    Germain, Gregor, Murray & Larochelle (2015), MADE: masked autoencoder for distribution estimation.
    """

    def __init__(self, network: Network, cells: Sequence[int], torch: Any, device: Any) -> None:
        self._network, self._cells, self._torch = network, list(cells), torch
        self._first = torch.tensor(np.cumsum([0, *cells[:-1]]), device=device)
        masks = _masks(cells, [tensor.shape[1] for tensor in network.parameters[:-2:2]])
        self._masks = [torch.tensor(mask, device=device) for mask in masks]

    @classmethod
    def create(
        cls, cells: Sequence[int], hidden: Sequence[int], torch: Any, device: Any, rng: np.random.Generator
    ) -> Self:
        """For columns of so many ``cells`` each, with so many ``hidden`` units a layer."""
        width = int(sum(cells))
        return cls(Network.create([width, *hidden, width], torch, device, rng), cells, torch, device)

    def log_likelihood(self, x: Any) -> Any:
        """``(n, d)`` logarithms of the probability of each cell of ``x`` ``(n, d)``, torch's whole numbers."""
        place = x + self._first
        indicators = self._first.new_zeros((len(x), sum(self._cells)), dtype=self._torch.float64)
        logits = self._network.masked(indicators.scatter_(1, place, 1.0), self._masks)
        shares = [part.log_softmax(dim=1) for part in logits.split(self._cells, dim=1)]
        return self._torch.cat(shares, dim=1).gather(1, place)

    @property
    def parameters(self) -> list[Any]:
        return self._network.parameters

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        return self._network.to_arrays(name)

    @classmethod
    def from_arrays(
        cls, name: str, arrays: Mapping[str, npt.NDArray[Any]], cells: Sequence[int], torch: Any, device: Any
    ) -> Self:
        return cls(Network.from_arrays(name, arrays, torch, device), cells, torch, device)


def _masks(cells: Sequence[int], hidden: Sequence[int]) -> list[npt.NDArray[np.float64]]:
    """1 where a weight is kept, layer by layer. A hidden unit sees the columns up to its own number, in turns."""
    column = np.repeat(np.arange(1, len(cells) + 1), cells)
    seen = [column, *(np.arange(units) % max(len(cells) - 1, 1) + 1 for units in hidden)]
    masks = [np.greater_equal.outer(after, before).T for before, after in pairwise(seen)]
    masks.append(np.greater.outer(column, seen[-1]).T)
    return [mask.astype(np.float64) for mask in masks]
