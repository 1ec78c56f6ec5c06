"""Mahalanobis distance in rank-based coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from detectors.base import Array, DetectorError
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import OutlierDetector, Scores

_LEAST_SHRINKAGE = 1e-3  # columns that repeat each other leave the covariance singular


class Mahalanobis(OutlierDetector):
    """Squared Mahalanobis distance from the centre of the reference.

    Numeric columns enter as normal scores, linear beyond the reference's range
    (:mod:`detectors.outlier.coordinates`), with a covariance shrunk towards the identity: robust against heavy tails
    in each column, and sensitive to combinations that break the columns' correlation. Categorical (and constant)
    columns add ``2 log(p_max / p)`` each, as if independent. The score is the distance squared; ``feature_score``
    splits it: ``z_j * (P z)_j``, which adds up to it (a part may be negative).

    Parameters
    ----------
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    shrinkage : weight of the identity in the covariance, 0 to 1; default: Ledoit & Wolf's estimate, at least 0.001.

    Raises
    ------
    DetectorError : a parameter is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> height = rng.normal(170, 10, 2000)
    >>> people = np.column_stack([height, height - 100 + rng.normal(0, 5, 2000)])
    >>> detector = Mahalanobis(share=0.001).fit(people)
    >>> detector.predict([[170, 70], [150, 95]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Mahalanobis (1936), On the generalised distance in statistics. Ledoit & Wolf (2004), A well-conditioned estimator
    for large-dimensional covariance matrices. Liu, Lafferty & Wasserman (2009), The nonparanormal.
    """

    detector_type = "Mahalanobis"

    def __init__(self, share: float = 0.005, threshold: float | None = None, shrinkage: float | None = None) -> None:
        if shrinkage is not None and not (isinstance(shrinkage, (int, float)) and 0.0 <= shrinkage <= 1.0):
            raise DetectorError(f"shrinkage must be between 0 and 1, got {shrinkage!r}")
        super().__init__(share, threshold, shrinkage=shrinkage)
        self._mean = np.empty(0)
        self._precision = np.empty((0, 0))

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        d = rows.shape[1]
        mean, precision = np.zeros(d), np.eye(d)
        numeric = np.flatnonzero(~coordinates.levelled & coordinates.used)
        if numeric.size:
            z = coordinates.read(rows).z[:, numeric]
            mean[numeric] = z.mean(axis=0)
            precision[np.ix_(numeric, numeric)] = _precision(z - mean[numeric], self._params["shrinkage"])
        self._mean, self._precision = mean, precision

    def _score(self, reading: Reading) -> Scores:
        centred = reading.z - self._mean
        parts = centred @ self._precision
        parts *= centred
        return Scores(parts.sum(axis=1), parts)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"mean": self._mean, "precision": self._precision}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._mean, self._precision = arrays["mean"], arrays["precision"]


def _precision(centred: Array, shrinkage: float | None) -> Array:
    """Inverse of the shrunk covariance of centred rows."""
    n, d = centred.shape
    covariance = centred.T @ centred / n
    scale = float(np.trace(covariance)) / d
    if shrinkage is None:
        shrinkage = max(_ledoit_wolf(centred, covariance, scale), _LEAST_SHRINKAGE)
    values, vectors = eigh((1.0 - shrinkage) * covariance + shrinkage * scale * np.eye(d))
    return np.asarray((vectors / np.maximum(values, 1e-12 * scale)) @ vectors.T)


def _ledoit_wolf(centred: Array, covariance: Array, scale: float) -> float:
    """The intensity that minimises the expected squared error (Ledoit & Wolf 2004, section 3)."""
    n, d = centred.shape
    spread = float(((covariance - scale * np.eye(d)) ** 2).sum())
    noise = (float(((centred**2).sum(axis=1) ** 2).sum()) / n - float((covariance**2).sum())) / n
    return min(max(noise, 0.0) / spread, 1.0) if spread > 0.0 else 1.0
