"""Isolation forest: what few random cuts set apart is strange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.forest import Forest, average_path
from detectors.outlier.judging import OutlierDetector, Scores, check_whole

SEEN_BY_FEW = 4
"""With so many times a sample's rows, most trees have not seen a row."""


class IForest(OutlierDetector):
    """Isolation forest, with one more cut for values beyond the reference's range.

    Trees are grown on samples of the reference by uniform cuts in random columns; the score is
    ``2 ** -(mean path / c(max_samples))``, between 0 and 1. Three things differ from the paper:

    - **Beyond the range.** A tree cannot tell an age of 190 from the largest age it saw. So before the tree each
      column is cut once, uniformly on the reference's range ``r`` stretched to hold the row: a value ``e`` beyond
      the range is set apart from all others with probability ``e / (e + r)``, which shortens the expected path.
    - **Categorical columns** are cut on the surprise of the category (:mod:`detectors.outlier.coordinates`): rare
      categories lie far out, one never seen lies beyond all. Different categories of one frequency are the same.
    - ``feature_score`` (of rows above the threshold; NaN for others) splits the score by how much each column's cuts
      shortened the path; it adds up to the score.

    Parameters
    ----------
    n_estimators : number of trees.
    max_samples : reference rows a tree is grown on, 2 to 4096.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    seed : of samples and cuts.

    Raises
    ------
    DetectorError : a parameter is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(2000, 2))
    >>> IForest(share=0.001).fit(rows).predict([[0, 0], [5, -5]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Liu, Ting & Zhou (2008), Isolation forest, ICDM.
    """

    detector_type = "IForest"

    def __init__(
        self,
        n_estimators: int = 100,
        max_samples: int = 256,
        share: float = 0.005,
        threshold: float | None = None,
        seed: int = 0,
    ) -> None:
        check_whole("n_estimators", n_estimators, 1, 10_000)
        check_whole("max_samples", max_samples, 2, 4096)
        check_whole("seed", seed, 0, 2**63)
        super().__init__(share, threshold, n_estimators=n_estimators, max_samples=max_samples, seed=seed)
        self._block = max(16, 100_000 // n_estimators)
        self._forest: Forest | None = None
        self._low = self._high = np.empty(0)
        self._levelled = np.empty(0, dtype=np.bool_)
        self._chosen: list[npt.NDArray[np.intp]] = []

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        self._levelled = coordinates.levelled
        rng = np.random.default_rng(self._params["seed"])
        sampled = min(self._params["max_samples"], len(rows))
        chosen = [rng.permutation(len(rows))[:sampled] for _ in range(self._params["n_estimators"])]
        samples = [self._cut_on(coordinates.read(rows[index])) for index in chosen]
        self._forest, self._chosen = Forest.grow(samples, rng), chosen
        # Levelled columns range from the most frequent category, 0, to the rarest one seen.
        whole = coordinates.read(rows)
        seen = np.where(whole.z < coordinates.never, whole.z, 0.0).max(axis=0)
        self._low = np.where(self._levelled, 0.0, coordinates.low)
        self._high = np.where(self._levelled, seen, coordinates.high)

    def _score(self, reading: Reading) -> Scores:
        assert self._forest is not None
        values = self._cut_on(reading)
        instance, apart = self._instance(values, self._forest.path(values), self._low, self._high)
        feature = np.full(values.shape, np.nan)
        flagged = np.flatnonzero(instance > self.threshold)
        if flagged.size:
            feature[flagged] = self._blame(values[flagged], None if apart is None else apart[flagged])
            feature[flagged] *= instance[flagged, None]
        return Scores(instance, feature)

    def _instance(self, values: Array, path: Array, low: Array, high: Array) -> tuple[Array, Array | None]:
        """Scores of rows with these paths, and how far beyond the range each value is (``None``: none is)."""
        assert self._forest is not None
        beyond = np.maximum(np.maximum(values - high, low - values), 0.0)
        apart = None
        if beyond.any():
            apart = np.where(beyond > 0.0, beyond / np.maximum(beyond + (high - low), 1e-300), 0.0)
            together = (1.0 - apart).prod(axis=1)
            path = together * path + (1.0 - together)
        return np.exp2(-path / average_path(self._forest.sampled)), apart

    def _held_out(self, rows: Array) -> Array:
        """By the trees that did not see the row, where there are enough: another forest would score otherwise."""
        assert self._forest is not None
        if len(rows) < SEEN_BY_FEW * self._forest.sampled:
            return super()._held_out(rows)
        some = self._scorable(rows)
        reading = self._fitted().read(rows[some])
        values = self._cut_on(reading)
        edges = np.partition(values, (1, len(values) - 2), axis=0)[[1, -2]]  # without the row that is the edge itself
        low, high = np.maximum(self._low, edges[0]), np.minimum(self._high, edges[1])
        unseen = np.ones((len(rows), len(self._chosen)), dtype=np.bool_)
        for tree, index in enumerate(self._chosen):
            unseen[index, tree] = False
        scores = []
        for i in range(0, len(some), self._block):
            block = slice(i, i + self._block)
            path = self._forest.path(values[block], unseen[some[block]])
            scores.append(self._instance(values[block], path, low, high)[0])
        found = self._without_blank(np.concatenate(scores), reading)
        return found[~np.isnan(found)]

    def _cut_on(self, reading: Reading) -> Array:
        return np.where(self._levelled, reading.z, reading.values)

    def _blame(self, values: Array, apart: Array | None) -> Array:
        """``(n, d)`` shares of the columns in the short path; each row sums to 1."""
        assert self._forest is not None
        credit = self._forest.credit(values)
        credit /= np.maximum(credit.sum(axis=1, keepdims=True), 1e-300)
        if apart is not None:
            weight = -np.log1p(-np.minimum(apart, 1.0 - 1e-9))
            total = weight.sum(axis=1, keepdims=True)
            first = -np.expm1(-total)  # the chance that the cuts before the tree set the row apart
            credit = first * weight / np.maximum(total, 1e-300) + (1.0 - first) * credit
        return np.asarray(credit)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        assert self._forest is not None
        return {"low": self._low, "high": self._high, "levelled": self._levelled, **self._forest.to_arrays()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._low, self._high, self._levelled = arrays["low"], arrays["high"], arrays["levelled"]
        self._forest = Forest.from_arrays(arrays)
