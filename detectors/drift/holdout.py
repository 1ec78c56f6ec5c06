"""Rows to learn from and rows to test on, for detectors that learn how a window differs."""

from __future__ import annotations

import numpy as np

from detectors.base import Array, DetectorError


def check_train_size(train_size: object) -> None:
    """Raises :class:`DetectorError` unless it is a share that leaves rows on both sides."""
    if not isinstance(train_size, (int, float)) or not 0.1 <= train_size <= 0.9:
        raise DetectorError(f"train_size must be from 0.1 to 0.9, got {train_size!r}")


def part(points: Array, train_size: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """That share of ``(n, e)``, chosen at random, and the others; at least one row each.

    >>> [rows.shape for rows in part(np.zeros((10, 2)), 0.25, np.random.default_rng(0))]
    [(2, 2), (8, 2)]
    """
    order = rng.permutation(len(points))
    n = min(max(round(train_size * len(points)), 1), len(points) - 1)
    return points[order[:n]], points[order[n:]]
