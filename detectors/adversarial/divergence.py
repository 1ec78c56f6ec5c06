"""How far one answer is from another, class by class."""

from __future__ import annotations

import math
from typing import Any

from detectors.base import DetectorError

LEAST = 1e-12
"""Probabilities are taken as at least this, so that a sure answer has a logarithm."""


def sharpened(shares: Any, temperature: float) -> Any:
    """``(n, k)`` probabilities to the power of one over the temperature, divided by their sum; below 1 it is surer."""
    if temperature == 1.0:
        return shares
    raised = shares.clamp_min(LEAST) ** (1.0 / temperature)
    return raised / raised.sum(dim=1, keepdim=True)


def divergence(shares: Any, others: Any) -> Any:
    """``(n, k)`` parts ``p log(p / q)`` of the Kullback-Leibler divergence of torch's ``(n, k)`` probabilities."""
    return shares * (shares.clamp_min(LEAST).log() - others.clamp_min(LEAST).log())


def cross_entropy(shares: Any, others: Any) -> Any:
    """``(n, k)`` parts ``-p log q`` of the cross-entropy."""
    return -shares * others.clamp_min(LEAST).log()


def check_temperature(temperature: float) -> None:
    """Raise :class:`DetectorError` unless it is a positive number."""
    if not 0.0 < temperature < math.inf:
        raise DetectorError(f"temperature must be a positive number, got {temperature!r}")
