"""One-class support vector machine: the smooth boundary around most of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.extras import need
from detectors.outlier.coordinates import Coordinates
from detectors.outlier.gaussian_kernel import CELLS, check_bandwidth, gaussian, usual_bandwidth
from detectors.outlier.judging import check_whole
from detectors.outlier.neighbours import chosen
from detectors.outlier.scale import Scale
from detectors.outlier.whole_points import WholePoints


class SVM(WholePoints):
    """One-class support vector machine. Fitting needs scikit-learn: ``pip install "offpath[sklearn]"``.

    Numeric columns are measured in standard deviations, categorical ones in rarity
    (:mod:`detectors.outlier.coordinates`). The score is 1 less the weighted mean Gaussian kernel to
    the support vectors: 0 would be equal to all of them, 1 is far from all. It orders rows as the decision function
    does. What lies beyond the reference adds the squares of its coordinates there. ``feature_score`` (of rows above the
    threshold; NaN for others) is found by setting each column to its usual value; it adds up to the score.

    Parameters
    ----------
    nu : share of the reference that may lie outside the boundary, and that the support vectors are at least. Which
        rows are flagged is ``share``'s to say; a smaller ``nu`` draws the boundary by fewer, outer rows.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    bandwidth : of the kernel; default: half the root mean square distance between reference rows.
    max_ref : reference rows that it is fitted to, a random choice when there are more; the cost grows by the square.
    seed : of that choice.

    Raises
    ------
    DetectorError : a parameter is out of range, or scikit-learn is not installed (to fit; a fitted one scores
        without it).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-5, 1, (500, 2)), rng.normal(5, 1, (500, 2))])
    >>> SVM(share=0.01).fit(rows).predict([[5, 5], [5, -5]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Schölkopf, Platt, Shawe-Taylor, Smola & Williamson (2001), Estimating the support of a high-dimensional
    distribution.
    """

    detector_type = "SVM"

    def __init__(
        self,
        nu: float = 0.5,
        share: float = 0.005,
        threshold: float | None = None,
        bandwidth: float | None = None,
        max_ref: int = 2000,
        seed: int = 0,
    ) -> None:
        if not 0.0 < nu < 1.0:
            raise DetectorError(f"nu must be between 0 and 1, got {nu!r}")
        check_bandwidth(bandwidth)
        check_whole("max_ref", max_ref, 10, 20_000)
        check_whole("seed", seed, 0, 2**32 - 1)
        super().__init__(share, threshold, nu=nu, bandwidth=bandwidth, max_ref=max_ref, seed=seed)
        self._vectors: Array = np.empty((0, 0))
        self._weights = np.empty(0)
        self._bandwidth = 0.0

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        kept = chosen(len(rows), self._params["max_ref"], self._params["seed"])
        self._scale = Scale.learn(coordinates, rows)
        points = self._scale.points(coordinates.read(rows[kept]))
        bandwidth = self._params["bandwidth"] or usual_bandwidth(points)
        machine = need("sklearn.svm", self.detector_type).OneClassSVM(
            kernel="rbf", gamma=0.5 / bandwidth**2, nu=self._params["nu"]
        )
        machine.random_state = self._params["seed"]  # else it draws from the global generator
        machine.fit(points)
        weights = machine.dual_coef_[0]
        self._take(np.array(machine.support_vectors_), weights / weights.sum(), bandwidth)

    def _take(self, vectors: Array, weights: Array, bandwidth: float) -> None:
        self._vectors, self._weights, self._bandwidth = vectors, weights, bandwidth
        self._block = max(16, CELLS // len(vectors))

    def _strangeness(self, points: Array) -> Array:
        near = gaussian(points, self._vectors, self._bandwidth) @ self._weights
        return np.asarray(np.maximum(1.0 - near, 0.0))

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        own = {"vectors": self._vectors, "weights": self._weights, "bandwidth": np.array(self._bandwidth)}
        return {**own, **self._scaled().to_arrays()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._scale = Scale.from_arrays(arrays)
        self._take(arrays["vectors"], arrays["weights"], float(arrays["bandwidth"]))
