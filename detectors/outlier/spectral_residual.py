"""Spectral residual: moments of a series that its spectrum does not explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError, Feature
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import Scores, check_whole
from detectors.outlier.scale import Scale, ScaledDetector
from detectors.outlier.series import bridged, check_variables, moments, series_scale

_SILENT = 1e-8  # of an amplitude, in standard deviations: below it is rounding


class SpectralResidual(ScaledDetector):
    """Spikes and steps in rows that are time series, by the spectral residual. Nothing is learnt but the threshold.

    A row holds the last moments of one variable, oldest first (or of several: ``x_1, y_1, x_2, y_2, ...``), as a
    forecasting model is asked with. Of each series the logarithm of the amplitudes of its Fourier transform, less its
    average over ``window_amp`` neighbouring frequencies, is transformed back, with the phases: the saliency ``S`` of
    each moment. A moment's score is ``(S - mean S) / mean S``, the mean over the ``window_local`` moments around it; a
    row's is that of its strangest moment. Values beyond the reference's range are moved into it, and add what the
    square of their coordinate (:mod:`detectors.outlier.coordinates`) is more than that of the range's end.
    Missing ones are taken to lie on the line between their neighbours. ``feature_score`` adds up to the score.

    Parameters
    ----------
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    n_features : variables of a moment.
    window_amp : frequencies over which the spectrum is smoothed.
    window_local : moments, an odd number, with whose saliency that of the middle one is compared.
    n_est_points : so often the estimated next value is appended, or the newest moment would be judged by the oldest,
        which is its neighbour to Fourier's transform; 0: do not.
    n_grad_points : moments by whose mean slope to the newest it is estimated.

    Raises
    ------
    DetectorError : a parameter is out of range; ``fit`` : a column is categorical, or rows are no whole series.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> start = rng.uniform(0, 2 * np.pi, (1000, 1))
    >>> waves = np.sin(start + np.arange(48) / 4) + rng.normal(0, 0.02, (1000, 48))
    >>> spike = waves[0].copy()
    >>> spike[30] *= -1
    >>> verdict = SpectralResidual().fit(waves).predict([waves[0], spike])
    >>> verdict.is_outlier.tolist(), int(verdict.feature_score[1].argmax())
    ([False, True], 30)

    References
    ----------
    Ren et al. (2019), Time-series anomaly detection service at Microsoft, KDD. Hou & Zhang (2007), Saliency detection:
    a spectral residual approach, CVPR.
    """

    detector_type = "SpectralResidual"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        n_features: int = 1,
        window_amp: int = 3,
        window_local: int = 21,
        n_est_points: int = 5,
        n_grad_points: int = 5,
    ) -> None:
        check_variables(n_features)
        check_whole("window_amp", window_amp, 1, 10_000)
        check_whole("window_local", window_local, 3, 10_001)
        if window_local % 2 == 0:
            raise DetectorError(f"window_local must be odd, so that a moment is in its middle, got {window_local}")
        check_whole("n_est_points", n_est_points, 0, 1000)
        check_whole("n_grad_points", n_grad_points, 1, 1000)
        super().__init__(
            share, threshold, n_features=n_features, window_amp=window_amp, window_local=window_local,
            n_est_points=n_est_points, n_grad_points=n_grad_points,
        )  # fmt: skip

    def _learn_all(self, rows: Array, features: tuple[Feature, ...]) -> None:
        moments(features, self._params["n_features"], self.detector_type)
        super()._learn_all(rows, features)

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        self._scale = series_scale(coordinates, rows, self._params["n_features"])

    def _score(self, reading: Reading) -> Scores:
        points = bridged(self._scaled().points(reading), reading.missing, self._params["n_features"])
        n, d = points.shape
        series = points.reshape(n, -1, self._params["n_features"]).transpose(0, 2, 1)
        found = self._strangeness(series).transpose(0, 2, 1).reshape(n, d)
        strangest = found.argmax(axis=1)
        parts = reading.beyond.copy()
        parts[np.arange(n), strangest] += found[np.arange(n), strangest]
        return Scores(parts.sum(axis=1), parts)

    def _strangeness(self, series: Array) -> Array:
        """``(..., s)`` scores of the moments of ``(..., s)`` series."""
        params = self._params
        extended = extend(series, params["n_est_points"], params["n_grad_points"])
        found = saliency(extended, params["window_amp"])[..., : series.shape[-1]]
        usual = local_mean(found, params["window_local"])
        return np.asarray((found - usual) / np.maximum(usual, _SILENT))

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return self._scaled().to_arrays()

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._scale = Scale.from_arrays(arrays)


def extend(series: Array, points: int, slopes: int) -> Array:
    """``(..., s + points)``: the next value, by the mean slope of the last ``slopes`` moments to the newest, repeated.

    >>> extend(np.array([0.0, 1.0, 2.0, 3.0]), 2, 2).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    """
    m = min(slopes, series.shape[-1] - 1)
    newest, before = series[..., -1:], series[..., -1 - m : -1]
    slope = ((newest - before) / np.arange(m, 0, -1)).mean(axis=-1)
    following = series[..., -m] + slope * m
    return np.concatenate([series, np.repeat(following[..., None], points, axis=-1)], axis=-1)


def saliency(series: Array, window: int) -> Array:
    """``(..., s)``: the inverse transform of the spectrum whose log amplitude is the residual; at least 0."""
    spectrum = np.fft.fft(series, axis=-1)
    amplitude = np.abs(spectrum) + _SILENT
    log = np.log(amplitude)
    width = min(window, series.shape[-1])
    left = (width - 1) // 2
    turned = np.concatenate([log[..., log.shape[-1] - left :], log, log[..., : width - 1 - left]], axis=-1)
    average = np.lib.stride_tricks.sliding_window_view(turned, width, axis=-1).mean(axis=-1)  # a spectrum is a circle
    return np.abs(np.fft.ifft(spectrum / amplitude * np.exp(log - average), axis=-1))


def local_mean(values: Array, window: int) -> Array:
    """``(..., s)`` means over the ``window`` values around each, of fewer at the ends.

    >>> local_mean(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    s, half = values.shape[-1], window // 2
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    first, last = np.maximum(np.arange(s) - half, 0), np.minimum(np.arange(s) + half + 1, s)
    return np.asarray((total[..., last] - total[..., first]) / (last - first))
