"""Thresholds and run lengths from reference data: what a detector's promise is worth on the data at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from detectors.base import Array, DetectorError, Feature, Fittable, as_rows


def infer_threshold(scores: npt.ArrayLike, share: float) -> float:
    """The smallest score such that at most ``share`` of ``scores`` lie strictly above it.

    Parameters
    ----------
    scores : ``(n,)`` scores of clean rows, larger is stranger; NaN (a row that could not be scored) is left out.
    share : share of clean rows that may be flagged, ``0 <= share < 1``; 0 answers the largest score.

    Raises
    ------
    DetectorError : ``share`` is out of range, or no score is finite.

    >>> infer_threshold([0.1, 0.5, 0.2, 0.9], share=0.25)
    0.5
    """
    if not 0.0 <= share < 1.0:
        raise DetectorError(f"share must be at least 0 and below 1, got {share!r}")
    values = np.asarray(scores, dtype=np.float64).ravel()
    values = np.sort(values[np.isfinite(values)])
    if not values.size:
        raise DetectorError("scores hold no finite value: score clean reference rows without missing values")
    # The tiny slack keeps 0.1 * 30 from losing a row to binary rounding.
    above = min(math.floor(share * values.size + 1e-9), values.size - 1)
    return float(values[values.size - 1 - above])


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """How often a detector alerted on clean windows, with a 95 % binomial interval (Clopper-Pearson).

    ``insufficient`` windows gave no answer and are not counted in ``windows``. ``run_length`` is the measured mean
    number of windows between false alarms, infinite if there was none; ``run_length_low`` is its lower bound.

    >>> FalseAlarms(alarms=5, windows=100).rate
    0.05
    """

    alarms: int
    windows: int
    insufficient: int = 0

    @property
    def rate(self) -> float:
        return self.alarms / self.windows if self.windows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return binomial_interval(self.alarms, self.windows)

    @property
    def run_length(self) -> float:
        return self.windows / self.alarms if self.alarms else math.inf

    @property
    def run_length_low(self) -> float:
        return 1.0 / self.interval[1]


def binomial_interval(hits: int, trials: int, coverage: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper & Pearson 1934) interval of a share; ``(0, 1)`` without trials.

    >>> low, high = binomial_interval(5, 100)
    >>> round(low, 4), round(high, 4)
    (0.0164, 0.1128)
    """
    if trials == 0:
        return 0.0, 1.0
    tail = (1.0 - coverage) / 2.0
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1.0 - tail))
    return low, high


def false_alarm_rate(
    detector_factory: Callable[[], Fittable],
    x_ref: npt.ArrayLike,
    window: int,
    n_windows: int = 500,
    seed: int = 0,
    splits: int = 10,
    features: Sequence[Feature] | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> FalseAlarms:
    """Measure how often a detector alerts on clean windows of ``window`` rows, by held-out resampling.

    ``splits`` times the ``(n_ref, d)`` clean rows are halved at random, a fresh detector is fitted on one half, and
    windows are drawn without replacement from the other: fit and windows share no row. Windows of one split overlap,
    which leaves the rate unbiased and makes the interval somewhat too narrow; more splits mend it. ``features`` are as
    ``fit`` takes them; the same ``seed`` gives the same answer; ``progress`` is told the share that is judged.

    Raises :class:`DetectorError` if a size is not positive, or the window is larger than half the reference.

    >>> from detectors.drift.ks import KSDrift
    >>> rows = np.random.default_rng(0).normal(size=(2000, 3))
    >>> false_alarm_rate(lambda: KSDrift(p_val=0.05), rows, window=100, n_windows=100).windows
    100
    """
    rows = as_rows(x_ref)
    half = _half(len(rows), window, n_windows, splits)
    rng = np.random.default_rng(seed)
    alarms = insufficient = 0
    for share in np.array_split(np.arange(n_windows), min(splits, n_windows)):
        order = rng.permutation(len(rows))
        detector = detector_factory().fit(rows[order[:half]], features)
        found = _one_split(detector, rows[order[half:]], window, len(share), rng)
        alarms += found.alarms
        insufficient += found.insufficient
        progress((share[-1] + 1) / n_windows)
    return FalseAlarms(alarms, n_windows - insufficient, insufficient)


def _half(n_ref: int, window: int, n_windows: int, splits: int) -> int:
    """Rows of half the reference, if that is enough."""
    for name, value in (("window", window), ("n_windows", n_windows), ("splits", splits)):
        if value < 1:
            raise DetectorError(f"{name} must be at least 1, got {value!r}")
    half = n_ref // 2
    if window > half:
        raise DetectorError(f"window is {window} rows, but half the reference has {half}: give more clean rows")
    return half


def _one_split(
    detector: Fittable, held_out: Array, window: int, n_windows: int, rng: np.random.Generator
) -> FalseAlarms:
    states = [detector.predict(held_out[rng.permutation(len(held_out))[:window]]).state for _ in range(n_windows)]
    insufficient = states.count("insufficient_data")
    return FalseAlarms(states.count("alert"), n_windows - insufficient, insufficient)


def false_alarms_a_row(
    detector_factory: Callable[[], Fittable],
    x_ref: npt.ArrayLike,
    n_rows: int,
    seed: int = 0,
    features: Sequence[Feature] | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> FalseAlarms:
    """Measure how often an online detector alarms on clean rows: ``windows`` of the answer are rows.

    It is fitted on one half of the ``(n_ref, d)`` clean rows; the others, shuffled again and again, are the stream.
    After each alarm it begins anew. The reference at hand is one of many: detectors that keep their run length on the
    average alarm more often on some, and less on others.
    """
    rows = as_rows(x_ref)
    order = np.random.default_rng([seed, 4]).permutation(len(rows))
    half = len(rows) // 2
    detector: Any = detector_factory().fit(rows[order[:half]], features)
    held_out, rng = rows[order[half:]], np.random.default_rng([seed, 5])
    run, alarms, done = detector.start(), 0, 0
    while done < n_rows:
        stream = held_out[rng.permutation(len(held_out))]
        at = 0
        while at < len(stream):
            n, verdict = run.push(stream[at:])
            at += n
            if verdict.is_drift:
                alarms, run = alarms + 1, detector.start()
        done += len(stream)
        progress(min(done / n_rows, 1.0))
    return FalseAlarms(alarms, done)
