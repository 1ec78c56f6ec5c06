"""Kernel principal components: distance from the curved surface on which the reference lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from detectors.base import Array
from detectors.outlier.coordinates import Coordinates
from detectors.outlier.gaussian_kernel import CELLS, check_bandwidth, gaussian, usual_bandwidth
from detectors.outlier.judging import check_whole
from detectors.outlier.neighbours import chosen
from detectors.outlier.pca import check_components, kept_components
from detectors.outlier.scale import Scale
from detectors.outlier.whole_points import WholePoints

_MOST = 100  # components


class KernelPCA(WholePoints):
    """Reconstruction error of kernel principal components, with a Gaussian kernel.

    Numeric columns are measured in standard deviations, categorical ones in rarity
    (:mod:`detectors.outlier.coordinates`), and both become a kernel's features; the score is the
    squared distance of a row's features from the plane of the reference's first components there, between 0 and
    about 1. It finds rows off the curve, or between the groups, along which the reference lies. What lies beyond the
    reference adds the squares of its coordinates there. ``feature_score`` (of rows above the threshold; NaN for
    others) is found by setting each column to its usual value; it adds up to the score.

    Parameters
    ----------
    n_components : kept components, or, below 1, the share of the features' variance that they hold; at most 100.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    bandwidth : of the kernel; default: half the root mean square distance between reference rows.
    max_ref : reference rows kept, a random choice when there are more.
    seed : of that choice.

    Raises
    ------
    DetectorError : a parameter is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 2000)
    >>> ring = np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.05, (2000, 2))
    >>> KernelPCA(share=0.001).fit(ring).predict([[1, 0], [0, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Schölkopf, Smola & Müller (1998), Nonlinear component analysis as a kernel eigenvalue problem. Hoffmann (2007),
    Kernel PCA for novelty detection.
    """

    detector_type = "KernelPCA"

    def __init__(
        self,
        n_components: float = 0.9,
        share: float = 0.005,
        threshold: float | None = None,
        bandwidth: float | None = None,
        max_ref: int = 500,
        seed: int = 0,
    ) -> None:
        check_components(n_components)
        check_bandwidth(bandwidth)
        check_whole("max_ref", max_ref, 2, 10_000)
        check_whole("seed", seed, 0, 2**63)
        super().__init__(share, threshold, n_components=n_components, bandwidth=bandwidth, max_ref=max_ref, seed=seed)
        self._points = self._weights = np.empty((0, 0))
        self._offset = np.empty(0)
        self._bandwidth = self._mean = 0.0

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        kept = chosen(len(rows), self._params["max_ref"], self._params["seed"])
        self._scale = Scale.learn(coordinates, rows)
        points = self._scale.points(coordinates.read(rows[kept]))
        bandwidth = self._params["bandwidth"] or usual_bandwidth(points)
        kernel = gaussian(points, points, bandwidth)
        by_row, mean = kernel.mean(axis=0), float(kernel.mean())
        kernel = kernel - by_row - by_row[:, None] + mean
        values, vectors = eigh(kernel, subset_by_index=[max(0, len(points) - _MOST), len(points) - 1])
        values, vectors = values[::-1], vectors[:, ::-1]
        k = kept_components(self._params["n_components"], values, float(np.trace(kernel)))
        k = min(k, int((values > 1e-9 * len(points)).sum()))
        weights = vectors[:, :k] / np.sqrt(values[:k])
        weights = weights - weights.mean(axis=0)  # so that a row of kernels need not be centred by row
        self._points, self._weights, self._offset = points, weights, by_row @ weights
        self._bandwidth, self._mean = bandwidth, mean
        self._make_blocks()

    def _make_blocks(self) -> None:
        self._block = max(16, CELLS // len(self._points))

    def _strangeness(self, points: Array) -> Array:
        kernel = gaussian(points, self._points, self._bandwidth)
        from_centre = 1.0 - 2.0 * kernel.mean(axis=1) + self._mean
        along = kernel @ self._weights - self._offset
        return np.asarray(np.maximum(from_centre - (along**2).sum(axis=1), 0.0))

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        scalars = {"bandwidth": np.array(self._bandwidth), "kernel_mean": np.array(self._mean)}
        own = {"points": self._points, "weights": self._weights, "offset": self._offset}
        return {**own, **scalars, **self._scaled().to_arrays()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._points, self._weights, self._offset = arrays["points"], arrays["weights"], arrays["offset"]
        self._bandwidth, self._mean = float(arrays["bandwidth"]), float(arrays["kernel_mean"])
        self._scale = Scale.from_arrays(arrays)
        self._make_blocks()
