"""Small networks on torch whose weights are plain arrays, and their training. Nothing draws from a global generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array


class Network:
    """A multilayer perceptron: ``tanh`` after each layer but the last. Weights are ``float64``, ``(inputs, outputs)``.

    Double precision, so that a row's output is the same to 14 digits whatever the batch it comes in.
    """

    def __init__(self, layers: Sequence[tuple[Any, Any]]) -> None:
        self._layers = tuple(layers)

    @classmethod
    def create(cls, sizes: Sequence[int], torch: Any, device: Any, rng: np.random.Generator) -> Self:
        """``sizes`` are the inputs, the units of each layer and the outputs; weights start as Glorot & Bengio's."""
        layers = []
        for inputs, outputs in pairwise(sizes):
            bound = math.sqrt(6.0 / (inputs + outputs))
            layers.append((rng.uniform(-bound, bound, (inputs, outputs)), np.zeros(outputs)))
        return cls(
            [tuple(torch.tensor(array, device=device, requires_grad=True) for array in layer) for layer in layers]
        )

    def __call__(self, x: Any) -> Any:
        """``(n, outputs)`` of ``(n, inputs)``, both torch's."""
        *hidden, (weight, bias) = self._layers
        for inner, offset in hidden:
            x = (x @ inner + offset).tanh()
        return x @ weight + bias

    def masked(self, x: Any, masks: Sequence[Any]) -> Any:
        """The same, each layer's weights times a mask of their shape."""
        layers = [(weight * mask, bias) for (weight, bias), mask in zip(self._layers, masks, strict=True)]
        return Network(layers)(x)

    @property
    def parameters(self) -> list[Any]:
        return [tensor for layer in self._layers for tensor in layer]

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        return {f"{name}.{i}": tensor.detach().cpu().numpy() for i, tensor in enumerate(self.parameters)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]], torch: Any, device: Any) -> Self:
        tensors: list[Any] = []
        while f"{name}.{len(tensors)}" in arrays:
            tensors.append(torch.tensor(arrays[f"{name}.{len(tensors)}"], device=device))
        return cls(list(zip(tensors[::2], tensors[1::2], strict=True)))


def train(
    torch: Any,
    parameters: Sequence[Any],
    loss: Callable[[Any], Any],
    x: Any,
    rng: np.random.Generator,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Minimise the mean ``loss`` of shuffled batches of ``x`` (torch's, ``(n, d)``) by Adam (Kingma & Ba 2015).

    Not by ``torch.optim``, which imports torch's compiler: 2 s and some hundred modules.
    """
    first, second = ([torch.zeros_like(tensor) for tensor in parameters] for _ in range(2))
    step = 0
    for _ in range(epochs):
        # Batches of nearly equal sizes: a rest of one row has no covariance.
        for index in np.array_split(rng.permutation(len(x)), -(-len(x) // batch_size)):
            batch = x[torch.tensor(index, device=x.device)]
            gradients = torch.autograd.grad(loss(batch), parameters)
            step += 1
            size, spread = learning_rate / (1.0 - _FIRST**step), 1.0 - _SECOND**step
            with torch.no_grad():
                for tensor, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
                    m.mul_(_FIRST).add_(gradient, alpha=1.0 - _FIRST)
                    v.mul_(_SECOND).addcmul_(gradient, gradient, value=1.0 - _SECOND)
                    tensor.addcdiv_(m, (v / spread).sqrt_().add_(_LEAST), value=-size)


_FIRST, _SECOND, _LEAST = 0.9, 0.999, 1e-8  # the paper's


def noise(shape: Sequence[int], torch: Any, device: Any, rng: np.random.Generator) -> Any:
    """Standard normal numbers."""
    drawn: Array = rng.standard_normal(tuple(shape))
    return torch.tensor(drawn, device=device)
