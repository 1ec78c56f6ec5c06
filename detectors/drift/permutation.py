"""Permutation tests: how many, and what their p-value is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detectors.base import Array, DetectorError

_BLOCK = 2**22  # labels drawn at once


def enough_permutations(n_permutations: int | None, level: float) -> int:
    """As many permutations as asked for, if they can reach the level; default: 199, or twice as many as it needs."""
    needed = math.ceil(1.0 / level - 1e-9) - 1
    n_permutations = max(199, 2 * needed + 1) if n_permutations is None else n_permutations
    if not isinstance(n_permutations, int) or n_permutations < needed:
        raise DetectorError(
            f"n_permutations must be a whole number of at least {needed} to reach the level {level:g}, "
            f"got {n_permutations!r}"
        )
    return n_permutations


class Permuted(NamedTuple):
    """A window's statistic, and the ``(P,)`` statistics of as many permutations of the labels."""

    statistic: float
    permuted: Array

    @property
    def p_val(self) -> float:
        """``(k + 1) / (P + 1)`` for ``k`` permutations with a statistic at least as large."""
        return (1.0 + float(np.count_nonzero(self.permuted >= self.statistic))) / (len(self.permuted) + 1.0)

    def critical(self, level: float) -> float:
        """The statistic above which ``(k + 1) / (P + 1) <= level``; infinite if no statistic reaches the level."""
        rank = math.floor(level * (len(self.permuted) + 1) + 1e-9)
        return float(np.sort(self.permuted)[-rank]) if rank else math.inf


def labels(n: int, m: int, n_permutations: int, seed: int) -> Iterator[Array]:
    """Blocks of ``(b, n + m)``: 1 for the window's rows, as they came (the first), then in ``n_permutations`` ways.

    They are the same whatever the size of a block, and on every device, as numpy draws them.

    >>> [block.tolist() for block in labels(2, 1, 2, seed=0)]
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    rng, left = np.random.default_rng([seed, 2]), 1 + n_permutations
    size = max(2, _BLOCK // (n + m))
    for start in range(0, left, size):
        drawn = np.zeros((min(size, left - start), n + m))
        drawn[:, n:] = 1.0
        rest = drawn[1:] if start == 0 else drawn
        rng.permuted(rest, axis=1, out=rest)
        yield drawn
