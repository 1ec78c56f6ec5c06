"""Gaussian mixture: rows of low density under a few overlapping normal groups."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

from detectors.base import Array, DetectorError
from detectors.extras import need
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import Scores, check_whole
from detectors.outlier.neighbours import chosen
from detectors.outlier.scale import Scale, ScaledDetector

_CELLS = 1_000_000  # of the differences between rows and centres


class GMM(ScaledDetector):
    """Density under a mixture of normal distributions. Fitting needs scikit-learn: ``pip install "offpath[sklearn]"``.

    Numeric columns enter in standard deviations, moved into the reference's range; expectation-maximisation fits the
    mixture to them. What lies beyond adds what the square of its coordinate (:mod:`detectors.outlier.coordinates`)
    is more than that of the range's end. The score inside is
    ``-2 log(p / p_0)``, where ``p`` is the density and ``p_0`` the sum of the components' greatest ones: at least 0,
    and with one component the squared Mahalanobis distance. Categorical (and constant) columns add
    ``2 log(p_max / p)`` each, as if independent. ``feature_score`` splits each component's squared distance by
    column, weighted by how likely the row belongs to it; what is due to no column is spread evenly, so that it adds
    up to the score (a part may be negative).

    Parameters
    ----------
    n_components : number of normal groups.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    reg_covar : added to each variance, of columns whose variance is 1: no group is narrower than its root.
    max_ref : reference rows that the mixture is fitted to, a random choice when there are more.
    seed : of that choice, and of where the groups start.

    Raises
    ------
    DetectorError : a parameter is out of range, the reference has fewer rows than components, or scikit-learn is
        not installed (to fit; a fitted one scores without it).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-5, 1, (500, 2)), rng.normal(5, 1, (500, 2))])
    >>> GMM(n_components=2, share=0.001).fit(rows).predict([[5, 5], [5, -5]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm. Bishop (1994),
    Novelty detection and neural network validation.
    """

    detector_type = "GMM"

    def __init__(
        self,
        n_components: int = 5,
        share: float = 0.005,
        threshold: float | None = None,
        reg_covar: float = 0.001,
        max_ref: int = 20_000,
        seed: int = 0,
    ) -> None:
        check_whole("n_components", n_components, 1, 1000)
        check_whole("max_ref", max_ref, 10, 1_000_000)
        check_whole("seed", seed, 0, 2**32 - 1)
        if not 0.0 < reg_covar < np.inf:
            raise DetectorError(f"reg_covar must be a positive number, got {reg_covar!r}")
        super().__init__(share, threshold, n_components=n_components, reg_covar=reg_covar, max_ref=max_ref, seed=seed)
        self._numeric = np.empty(0, dtype=np.bool_)
        self._weights = self._log_peak = np.empty(0)
        self._means: Array = np.empty((0, 0))
        self._factors: Array = np.empty((0, 0, 0))

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        kept = rows[chosen(len(rows), self._params["max_ref"], self._params["seed"])]
        if len(kept) < self._params["n_components"]:
            raise DetectorError(f"{self._params['n_components']} components need as many rows, got {len(kept)}")
        self._numeric = ~coordinates.levelled & coordinates.used
        self._scale = Scale.learn(coordinates, rows)
        x = self._scale.points(coordinates.read(kept))[:, self._numeric]
        mixture = need("sklearn.mixture", self.detector_type).GaussianMixture(
            self._params["n_components"],
            reg_covar=self._params["reg_covar"],
            random_state=self._params["seed"],
            init_params="k-means++",
        )
        if x.shape[1]:
            with warnings.catch_warnings():  # one that has not converged is a mixture, too
                warnings.simplefilter("ignore")
                mixture.fit(x)
            self._take(mixture.weights_, mixture.means_, np.stack([_whitening(c) for c in mixture.covariances_]))
        else:
            self._take(np.ones(1), np.empty((1, 0)), np.empty((1, 0, 0)))

    def _take(self, weights: Array, means: Array, factors: Array) -> None:
        self._weights, self._means, self._factors = weights, means, factors
        volume = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        self._log_peak = np.log(np.maximum(weights, 1e-300)) + volume
        self._block = max(16, _CELLS // max(1, means.size))

    def _score(self, reading: Reading) -> Scores:
        parts = np.where(self._numeric, reading.beyond, reading.z**2)
        instance = parts.sum(axis=1)
        if self._numeric.any():
            score, split = self._mixture(self._scaled().points(reading)[:, self._numeric])
            parts[:, self._numeric] += split
            instance = instance + score
        return Scores(instance, parts)

    def _mixture(self, x: Array) -> tuple[Array, Array]:
        """``(n,)`` scores of ``(n, d)`` points, and their ``(n, d)`` parts."""
        centred = x[:, None, :] - self._means
        white = np.einsum("nkd,kde->nke", centred, self._factors)
        split = centred * np.einsum("nke,kde->nkd", white, self._factors)
        log_joint = self._log_peak - 0.5 * (white**2).sum(axis=2)
        log_density = logsumexp(log_joint, axis=1)
        score = np.maximum(2.0 * (logsumexp(self._log_peak) - log_density), 0.0)
        belongs = np.exp(log_joint - log_density[:, None])
        parts = (belongs[:, :, None] * split).sum(axis=1)
        parts += ((score - parts.sum(axis=1)) / x.shape[1])[:, None]
        return score, parts

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            **self._scaled().to_arrays(),
            "numeric": self._numeric,
            "weights": self._weights,
            "means": self._means,
            "factors": self._factors,
        }

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._numeric, self._scale = arrays["numeric"], Scale.from_arrays(arrays)
        self._take(arrays["weights"], arrays["means"], arrays["factors"])


def _whitening(covariance: Array) -> Array:
    """Upper triangular ``F`` with ``F F^T`` the inverse of the covariance."""
    lower = cholesky(covariance, lower=True)
    return np.asarray(solve_triangular(lower, np.eye(len(lower)), lower=True).T)
