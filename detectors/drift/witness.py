"""Places at which a window's rows are more, or fewer, than the reference's: a classifier of a few Gaussian kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from detectors.base import Array
from detectors.drift.distances import squared_distances

_CANDIDATES = 100  # rows among which the search for places begins
_STEPS = 200
_RIDGE = 1e-3  # of the weights, which would grow for ever where a place divides the samples without a mistake
_CORNER = 1e-4  # below which a coordinate's absolute value is rounded off, so that it has a slope

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Witness:
    """``bias + sum_j weights[j] exp(-|x - places[j]|^2 / (2 sigma^2))``, the log-odds of a row to be the window's.

    ``places`` is ``(J, e)``. Where a weight is positive the window has more rows than the reference.
    """

    places: Array
    weights: Array
    bias: float
    sigma: float

    def __call__(self, points: Array) -> Array:
        """``(n,)`` of ``(n, e)``."""
        return np.exp(-squared_distances(points, self.places) / (2.0 * self.sigma**2)) @ self.weights + self.bias


def find_witness(
    x: Array, of_window: Bools, n_diffs: int, sigma: float, l1_reg: float, rng: np.random.Generator
) -> Witness:
    """Fitted to ``(n, e)`` coordinates, both samples weighing the same, from the places where they differ most.

    ``l1_reg`` times the mean absolute coordinate of the places is added to the loss: coordinates that tell nothing
    stay 0, that is the reference's mean.
    """
    target = of_window.astype(np.float64)
    share = float(target.mean())
    weight = np.where(of_window, 0.5 / share, 0.5 / (1.0 - share)) / len(x)
    places = _first(x, 2.0 * weight * (2.0 * target - 1.0), n_diffs, sigma, rng)
    shape = places.shape

    def loss(parameters: Array) -> tuple[float, Array]:
        at, weights, bias = _unpack(parameters, shape)
        near = np.exp(-squared_distances(x, at) / (2.0 * sigma**2))
        odds = near @ weights + bias
        signed = np.where(of_window, odds, -odds)
        rounded = np.sqrt(at**2 + _CORNER**2)
        value = weight @ np.logaddexp(0.0, -signed) + l1_reg * rounded.mean() + _RIDGE * weights @ weights
        slope = weight * (expit(odds) - target)
        pull = (slope[:, None] * near) * weights  # (n, J)
        by_place = (pull.T @ x - pull.sum(axis=0)[:, None] * at) / sigma**2 + l1_reg * at / rounded / at.size
        gradient = np.concatenate([by_place.ravel(), slope @ near + 2.0 * _RIDGE * weights, [slope.sum()]])
        return float(value), np.asarray(gradient, dtype=np.float64)

    start = np.concatenate([places.ravel(), np.zeros(n_diffs + 1)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    at, weights, bias = _unpack(found.x, shape)
    return Witness(at, weights, bias, sigma)


def _unpack(parameters: Array, shape: tuple[int, ...]) -> tuple[Array, Array, float]:
    size = shape[0] * shape[1]
    return parameters[:size].reshape(shape), parameters[size:-1], float(parameters[-1])


def _first(x: Array, signed: Array, n_diffs: int, sigma: float, rng: np.random.Generator) -> Array:
    """Of some rows those at which the samples' densities differ most, one after the other, each but for the last's."""
    some = x[np.sort(rng.permutation(len(x))[:_CANDIDATES])]
    gaps = signed @ np.exp(-squared_distances(x, some) / (2.0 * sigma**2))
    among = np.exp(-squared_distances(some, some) / (2.0 * sigma**2))
    chosen = []
    for _ in range(n_diffs):
        best = int(np.abs(gaps).argmax())
        chosen.append(best)
        gaps = gaps - gaps[best] * among[best]
    return some[chosen]
