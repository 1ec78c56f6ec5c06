"""Counters that another process can read at any moment, also after their owner's death.

A report through a socket wakes its reader, thousands of times an hour, and what a killed process had not sent yet is
never known. Memory that both share costs neither.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from monitor.capture.metrics import METRICS

SAMPLES = tuple(sample for metric in METRICS for sample in metric.samples)

_LAYOUT = Struct(f"<QQ{len(SAMPLES)}d")
_HALVES = (8, 8 + _LAYOUT.size)
_SIZE = 8 + 2 * _LAYOUT.size
"""One byte says which half is shown."""


class Notice(NamedTuple):
    """What is on the board: data frames settled, messages begun and not complete, and every counter."""

    settled: int
    open: int
    counters: dict[str, float]


class Board:
    """One process writes, another reads.

    Parameters
    ----------
    descriptor : of :meth:`make`, inherited or one's own.

    Examples
    --------
    >>> board = Board(Board.make())
    >>> board.write(3, 1, {SAMPLES[0]: 2.0})
    >>> board.read().settled, board.read().counters[SAMPLES[0]]
    (3, 2.0)
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    @staticmethod
    def make() -> int:
        """A descriptor of zeros that child processes may inherit."""
        descriptor = os.memfd_create("offpath-board", 0)
        os.ftruncate(descriptor, _SIZE)
        os.set_inheritable(descriptor, True)
        return descriptor

    def write(self, settled: int, still: int, counters: Mapping[str, float]) -> None:
        """Into the half that is not shown, which is shown after that: a kill in between leaves the old one whole."""
        other = 1 - self._memory[0]
        _LAYOUT.pack_into(self._memory, _HALVES[other], settled, still, *[counters.get(name, 0) for name in SAMPLES])
        self._memory[0] = other

    def read(self) -> Notice:
        settled, still, *values = _LAYOUT.unpack_from(self._memory, _HALVES[self._memory[0]])
        return Notice(settled, still, dict(zip(SAMPLES, values, strict=True)))

    def clear(self) -> None:
        """For a new owner."""
        self._memory[:] = bytes(_SIZE)
