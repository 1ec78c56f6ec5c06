"""Principal components: distance along them, and away from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from detectors.base import Array, DetectorError
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import OutlierDetector, Scores

_LEAST_NOISE = 1e-3  # of the mean variance: columns that repeat each other leave nothing outside the components


class PCA(OutlierDetector):
    """Distance from the reference under its principal components.

    Numeric columns enter as normal scores, linear beyond the reference's range
    (:mod:`detectors.outlier.coordinates`). The score is ``sum_l t_l^2 / lambda_l + q / sigma^2``: ``t_l`` is the
    row's coordinate on a kept component and ``lambda_l`` the reference's variance there, ``q`` the squared distance
    from the plane of the components (the reconstruction error) and ``sigma^2`` the mean variance of the dropped
    ones. That is twice the negative log-likelihood of probabilistic PCA, up to a constant. Against
    :class:`~detectors.outlier.mahalanobis.Mahalanobis` it costs ``d k`` rather than ``d^2`` a row, and needs no
    estimate of the small variances of wide tables. Categorical (and constant) columns add ``2 log(p_max / p)``
    each, as if independent. ``feature_score`` splits the score by column; it adds up to it (a part may be negative).

    Parameters
    ----------
    n_components : kept components, or, below 1, the share of the variance that they hold at least. One direction at
        least is never kept.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.

    Raises
    ------
    DetectorError : a parameter is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 10)) + 0.1 * rng.normal(size=(2000, 10))
    >>> detector = PCA(n_components=2, share=0.001).fit(rows)
    >>> detector.predict([rows[0], rows[0] + 2 * np.eye(10)[3]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Tipping & Bishop (1999), Probabilistic principal component analysis. Jackson & Mudholkar (1979), Control
    procedures for residuals associated with principal component analysis.
    """

    detector_type = "PCA"

    def __init__(self, n_components: float = 0.8, share: float = 0.005, threshold: float | None = None) -> None:
        check_components(n_components)
        super().__init__(share, threshold, n_components=n_components)
        self._numeric = np.empty(0, dtype=np.bool_)
        self._mean = self._variance = np.empty(0)
        self._components: Array = np.empty((0, 0))
        self._noise = 1.0

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        self._numeric = ~coordinates.levelled & coordinates.used
        z = coordinates.read(rows).z[:, self._numeric]
        self._mean = z.mean(axis=0)
        z = z - self._mean
        values, vectors = eigh(z.T @ z / len(z)) if self._numeric.any() else (np.empty(0), np.empty((0, 0)))
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        k = max(min(kept_components(self._params["n_components"], values, float(values.sum())), len(values) - 1), 0)
        least = _LEAST_NOISE * float(values.mean()) if values.size else 1.0
        self._noise = max(float(values[k:].mean()) if values.size else 1.0, least)
        self._variance = np.maximum(values[:k], self._noise)
        self._components = np.ascontiguousarray(vectors[:, :k].T)

    def _score(self, reading: Reading) -> Scores:
        parts = np.where(self._numeric, 0.0, reading.z**2)
        centred = reading.z[:, self._numeric] - self._mean
        along = centred @ self._components.T
        along *= 1.0 / self._variance - 1.0 / self._noise
        parts[:, self._numeric] = centred * (centred / self._noise + along @ self._components)
        return Scores(parts.sum(axis=1), parts)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "numeric": self._numeric,
            "mean": self._mean,
            "variance": self._variance,
            "components": self._components,
            "noise": np.array(self._noise),
        }

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._numeric, self._mean, self._variance = arrays["numeric"], arrays["mean"], arrays["variance"]
        self._components, self._noise = arrays["components"], float(arrays["noise"])


def check_components(n_components: float) -> None:
    """Raise :class:`DetectorError` unless it is a number of components, or a share of the variance."""
    number = isinstance(n_components, (int, float)) and not isinstance(n_components, bool)
    if not number or not (0.0 < n_components < 1.0 or (n_components >= 1 and float(n_components).is_integer())):
        raise DetectorError(
            f"n_components must be a whole number of at least 1, or a share between 0 and 1, got {n_components!r}"
        )


def kept_components(wanted: float, variances: Array, total: float) -> int:
    """How many components to keep of those with these variances, largest first: ``wanted``, or its share of the total.

    >>> kept_components(2, np.array([6.0, 3.0, 1.0]), 10.0), kept_components(0.95, np.array([6.0, 3.0, 1.0]), 10.0)
    (2, 3)
    """
    if wanted >= 1:
        return int(wanted)
    return 1 + int(np.searchsorted(np.cumsum(variances), wanted * total * (1.0 - 1e-12)))
