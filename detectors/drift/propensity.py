"""How likely a row is the window's by its context: ridge-penalised logistic regression."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from detectors.base import Array

_PENALTIES = (1e-2, 1e-1, 1.0, 10.0, 100.0)
_STEPS = 25
_STILL = 1e-6  # a step so small is the last


def propensity(features: Array, of_window: Array) -> Array:
    """``(n,)`` probabilities from ``(n, r)`` features, the first of them constant, and ``(n,)`` labels of 0 and 1.

    The penalty is that of the smallest loss on rows left out one by one, approximately (Rad & Maleki 2020).

    >>> propensity(np.ones((4, 1)), np.array([0.0, 0.0, 0.0, 1.0])).round(2).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    fitted = [_fit(features, of_window, penalty) for penalty in _PENALTIES]
    best = min(fitted, key=lambda found: found[0])
    return best[1]


def _fit(features: Array, y: Array, penalty: float) -> tuple[float, Array]:
    """The loss on rows left out, and the probabilities. Newton's steps; the constant is not penalised."""
    ridge = np.full(features.shape[1], penalty)
    ridge[0] = 1e-6
    beta = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        p = expit(features @ beta)
        slope = features.T @ (p - y) + ridge * beta
        step = np.linalg.solve(_curvature(features, p, ridge), slope)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))  # far from the optimum full steps overshoot
        beta -= step
        if float(np.abs(step).max()) < _STILL:
            break
    odds = features @ beta
    p = expit(odds)
    spread = np.einsum("ij,ij->i", features, np.linalg.solve(_curvature(features, p, ridge), features.T).T)
    left_out = odds + spread * (p - y) / np.maximum(1.0 - p * (1.0 - p) * spread, 1e-6)
    return float(np.mean(np.logaddexp(0.0, left_out) - y * left_out)), p


def _curvature(features: Array, p: Array, ridge: Array) -> Array:
    weighted = features * (p * (1.0 - p))[:, None]
    curvature: Array = weighted.T @ features + np.diag(ridge)
    return curvature
