"""A uniform sample of bounded size whose parts merge exactly: the rows with the smallest keys.

A key is a hash of where the row stands, so that it depends on nothing else: the sample of a whole is the same in
whatever order its rows come, and however often and in whatever grouping samples of its parts are merged. Each set of
``k`` rows is equally likely (bottom-k sampling; Cohen & Kaplan 2007, Summarizing data using bottom-k sketches).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Array

Keys = npt.NDArray[np.uint64]

_STEP, _A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Sample(NamedTuple):
    """Rows ``(m, d)`` and their keys ``(m,)``, ascending."""

    keys: Keys
    rows: Array

    def merge(self, other: Sample, size: int) -> Sample:
        """The ``size`` rows with the smallest keys of both.

        >>> a, b = Sample.of(np.array([3, 1], "u8"), np.eye(2), 2), Sample.of(np.array([2], "u8"), np.ones((1, 2)), 2)
        >>> a.merge(b, 2).keys.tolist(), b.merge(a, 2).rows.tolist()
        ([1, 2], [[0.0, 1.0], [1.0, 1.0]])
        """
        if not len(self.keys):
            return other
        return Sample.of(np.concatenate([self.keys, other.keys]), np.concatenate([self.rows, other.rows]), size)

    @classmethod
    def of(cls, keys: Keys, rows: Array, size: int) -> Sample:
        """The sample of these rows."""
        if len(keys) > 4 * size:  # most lie beyond: sorting them all would be most of the work
            near = keys <= np.partition(keys, size - 1)[size - 1]
            keys, rows = keys[near], rows[near]
        order = np.argsort(keys, kind="stable")[:size]
        return cls(keys[order], rows[order])


def row_keys(place: str, offsets: Sequence[int], sizes: Sequence[int]) -> Keys:
    """Keys of the rows of consecutive events: ``sizes[i]`` rows of the event at ``offsets[i]`` of partition ``place``.

    The finalizer of SplitMix64 (Steele, Lea & Flood 2014), once over the offset and once over the row.

    >>> row_keys("payloads/0", [7, 9], [2, 1]).tolist() == [
    ...     *row_keys("payloads/0", [7], [2]).tolist(), *row_keys("payloads/0", [9], [1]).tolist()]
    True
    """
    seed = np.uint64(int.from_bytes(blake2b(place.encode(), digest_size=8).digest(), "little"))
    counts = np.asarray(sizes, dtype=np.intp)
    event = _mixed(np.asarray(offsets, dtype=np.uint64) * _STEP + seed)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    row = np.arange(len(first), dtype=np.intp) - first
    return _mixed(np.repeat(event, counts) + (row.astype(np.uint64) + np.uint64(1)) * _STEP)


def _mixed(z: Keys) -> Keys:
    z = (z ^ (z >> np.uint64(30))) * _A
    z = (z ^ (z >> np.uint64(27))) * _B
    z ^= z >> np.uint64(31)
    return z
