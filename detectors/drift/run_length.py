"""The threshold of a sequential test for an expected run time, from simulated streams without drift.

Each stream runs until the first alarm, as live: after an alarm everything begins anew, so that streams are renewals,
and alarms come at the rate ``alarms / rows until then``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError

SCALING_STREAMS = 20
"""Simulated streams from which each statistic's own scale is learnt."""

SCALE_AT = 0.99
"""Every statistic is divided by this quantile of its own without drift, so that the largest of all says something."""

MOST_ROWS = 1_000_000
"""Rows that are simulated at most."""

ENOUGH = 30
"""Alarms below which a rate is not counted but extrapolated from lower thresholds."""


class Stream(NamedTuple):
    """The records of a simulated stream: after ``rows[i]`` rows its largest statistic so far became ``peaks[i]``."""

    rows: npt.NDArray[np.int64]
    peaks: Array
    length: int


def records(statistic: Array) -> Stream:
    """The records of ``(n,)`` statistics, one a row; -inf where nothing can be judged yet.

    >>> records(np.array([-np.inf, 1.0, 0.5, 3.0])).rows.tolist()
    [2, 4]
    """
    before = np.concatenate([[-np.inf], np.maximum.accumulate(statistic)[:-1]])
    at = np.flatnonzero(statistic > before)
    return Stream(at + 1, statistic[at], len(statistic))


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


Simulate = Callable[[np.random.Generator, int], Array]
"""``(generator, n) -> (n, channels, windows)`` statistics of a stream of ``n`` rows without drift; NaN: not judged."""


def calibrate(
    simulate: Simulate,
    floors: Array,
    ert: float,
    window: int,
    n: int,
    seed: int,
    progress: Callable[[float], object],
) -> tuple[Array, float]:
    """Each statistic's scale, at least its channel's floor, and the threshold that the largest exceeds once in ``ert``.

    ``n`` streams are simulated; ``window`` is the largest, which has to be full before all is judged.

    Raises
    ------
    DetectorError : the streams are too few for the run time.
    """
    rng = np.random.default_rng([seed, 2])
    length = int(min(2.0 * ert, MOST_ROWS / n)) + window
    first = [simulate(rng, length) for _ in range(SCALING_STREAMS)]
    scales = np.maximum(np.nanquantile(np.concatenate(first), SCALE_AT, axis=0), floors[:, None])
    streams = [records(largest(statistics, scales)) for statistics in first]
    for b in range(SCALING_STREAMS, n):
        streams.append(records(largest(simulate(rng, length), scales)))
        progress((b + 1) / n)
    return scales, threshold_for(ert, streams)


def largest(statistics: Array, scales: Array) -> Array:
    """``(n,)``: of ``(n, channels, windows)`` statistics the largest, each on its scale; -inf where there is none."""
    scaled = statistics / scales
    found: Array = np.where(np.isnan(scaled), -np.inf, scaled).max(axis=(1, 2), initial=-np.inf)
    return found
