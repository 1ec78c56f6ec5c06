"""The threshold of a sequential test for an expected run time, from simulated streams without drift.

Each stream runs until the first alarm, as live: after an alarm everything begins anew, so that streams are renewals, and
alarms come at the rate ``alarms / rows until then``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError

ENOUGH = 30
"""Alarms below which a rate is not counted but extrapolated from lower thresholds."""


class Stream(NamedTuple):
    """The records of a simulated stream: after ``rows[i]`` rows its largest statistic so far became ``peaks[i]``."""

    rows: npt.NDArray[np.int64]
    peaks: Array
    length: int


def records(statistic: Array) -> Stream:
    """The records of ``(n,)`` statistics, one a row; NaN where nothing can be judged yet.

    >>> records(np.array([np.nan, 1.0, 0.5, 3.0])).rows.tolist()
    [2, 4]
    """
    values = np.where(np.isnan(statistic), -np.inf, statistic)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    at = np.flatnonzero(values > before)
    return Stream(at + 1, values[at], len(values))


def threshold_for(ert: float, streams: Sequence[Stream]) -> float:
    """The threshold above which a statistic is an alarm once in ``ert`` rows.

    Where so few streams reach it that their number says nothing, the logarithm of the rate is taken as linear in the
    threshold, as it is in the tails of maxima.

    Raises
    ------
    DetectorError : no stream has a statistic.
    """
    levels = np.unique(np.concatenate([stream.peaks for stream in streams])) if streams else np.empty(0)
    if not len(levels):
        raise DetectorError("no statistic came of the reference: it needs more rows than the smallest window")
    low, high = 0, len(levels) - 1
    while low < high:  # the rate falls with the threshold
        middle = (low + high) // 2
        if _rate(streams, levels[middle])[0] <= 1.0 / ert:
            high = middle
        else:
            low = middle + 1
    if _rate(streams, levels[low])[1] >= ENOUGH:
        return float(levels[low])
    return _beyond(ert, streams, levels)


def _rate(streams: Sequence[Stream], threshold: float) -> tuple[float, int]:
    """Alarms a row, and alarms."""
    alarms = rows = 0
    for stream in streams:
        at = int(np.searchsorted(stream.peaks, threshold, side="right"))  # records ascend
        fired = at < len(stream.peaks)
        alarms += fired
        rows += int(stream.rows[at]) if fired else stream.length
    return alarms / rows, alarms


def _beyond(ert: float, streams: Sequence[Stream], levels: Array) -> float:
    found = [(level, *_rate(streams, level)) for level in np.unique(np.quantile(levels, np.linspace(0.0, 1.0, 200)))]
    fitting = [(level, rate) for level, rate, alarms in found if ENOUGH <= alarms <= 10 * ENOUGH]
    if len(fitting) < 2:
        raise DetectorError(
            f"an ert of {ert:g} rows cannot be calibrated with {len(streams)} streams: take a larger n_bootstraps"
        )
    x, y = np.array(fitting).T
    slope, at_zero = np.polyfit(x, np.log(y), 1)
    return max(float((-np.log(ert) - at_zero) / slope), float(x[-1]))
