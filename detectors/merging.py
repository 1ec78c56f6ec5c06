"""One window judged by several workers: each sums up its part, and a verdict is made on the parts together.

A summary holds the number of rows, a uniform sample of at most ``size`` of them, and, where the detector can be told
all that it needs in counts, those. Summaries merge exactly, whatever the order and grouping. The verdict:

- all rows are in the sample: that of all rows;
- the detector counts (:class:`Countable`): that of all rows for categorical columns and numeric ones of few distinct
  values; for others the distance falls short by less than :data:`~detectors.drift.counting.RESOLUTION`;
- else: that of the sample, whose distribution function differs from that of all rows by more than
  :func:`sampling_error` with a stated probability only. The test's level is kept, as a sample of a window is a window.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Detector, Verdict
from detectors.sample import Keys, Sample

Counts = npt.NDArray[np.int64]


class Counter(Protocol):
    """Counts parts of a window, and judges the sum. ``mark`` changes with the meaning of the counts."""

    cells: int

    @property
    def mark(self) -> str: ...

    def count(self, x: npt.ArrayLike) -> Counts: ...

    def judge(self, counts: Counts, n: int, sample: Array) -> Verdict: ...


@runtime_checkable
class Countable(Detector, Protocol):
    """A detector that may need no rows."""

    def counting(self) -> Counter | None:
        """How to do without; ``None`` if it does need them."""
        ...


class Summary(NamedTuple):
    """What is kept of ``n`` rows. ``counts`` are of the cells of ``mark``; empty, with ``mark`` empty, if of none."""

    n: int
    sample: Sample
    mark: str
    counts: Counts

    def merge(self, other: Summary, size: int) -> Summary:
        """Of the rows of both, which must share none."""
        sample = self.sample.merge(other.sample, size)
        if self.mark != other.mark:  # of two artefacts: the sample is of use all the same
            return Summary(self.n + other.n, sample, "", np.empty(0, dtype=np.int64))
        return Summary(self.n + other.n, sample, self.mark, self.counts + other.counts)


class Summariser:
    """Sums up rows for a detector.

    Parameters
    ----------
    detector : a fitted drift detector.
    size : rows that a sample keeps.
    """

    def __init__(self, detector: Detector, size: int) -> None:
        self.size = size
        self._detector = detector
        self._counter = detector.counting() if isinstance(detector, Countable) else None
        self.mark = self._counter.mark if self._counter is not None else ""
        self.cells = self._counter.cells if self._counter is not None else 0

    def summary(self, x: Array, keys: Keys) -> Summary:
        """Of rows ``x`` ``(n, d)`` and their ``keys``."""
        counts = np.empty(0, dtype=np.int64) if self._counter is None else self._counter.count(x)
        return Summary(len(x), Sample.of(keys, x, self.size), self.mark, counts)

    def judge(self, summary: Summary) -> Verdict:
        """The verdict on the rows of the summary."""
        sample = summary.sample.rows
        if self._counter is not None and summary.mark == self.mark and summary.n > len(sample):
            return self._counter.judge(summary.counts, summary.n, sample)
        return self._detector.predict(sample)


def sampling_error(size: int, probability: float = 0.001) -> float:
    """How far the distribution function of a sample of ``size`` may be off: more only with this ``probability``.

    The inequality of Dvoretzky, Kiefer & Wolfowitz with the constant of Massart (1990), of one column:
    ``P(sup |F_k - F| > e) <= 2 exp(-2 k e^2)``. It is that of independent draws; drawing without replacement, as here,
    only comes closer.

    >>> round(sampling_error(2000), 4)
    0.0436
    """
    return math.sqrt(math.log(2.0 / probability) / (2.0 * size))
