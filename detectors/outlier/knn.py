"""Distance to the nearest rows of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.outlier.coordinates import SMALLEST, Coordinates, Reading
from detectors.outlier.judging import OutlierDetector, Scores, check_whole

Single = npt.NDArray[np.float32]

METHODS = ("mean", "median", "largest")

_FEW = 16  # up to so many neighbours, repeated minima are quicker than a partial sort
_CELLS = 2_000_000  # of the matrix of distances
_TAIL = 3.0
_NEVER = -2.0  # stands for every category that the reference does not have


class KNN(OutlierDetector):
    """Distance to the ``k`` nearest of at most ``max_ref`` reference rows.

    Numeric columns are measured in standard deviations from the reference's median. Inside the reference's range,
    from 3 on, distances grow by the logarithm, so that one heavy tail does not hide everything else; beyond the range
    they are not shortened. Two rows in different categories of a
    column are ``sqrt((2 + s + s') / 2)`` apart there, where ``s = 2 log(p_max / p)`` of either category: 1 between
    common ones, more the rarer they are. ``feature_score`` splits the score by each column's part of the squared
    distances; it adds up to the score.

    Parameters
    ----------
    k : number of neighbours.
    share : share of clean rows that may be flagged; the threshold is learnt from it, each reference row being left
        out of its own neighbours.
    threshold : flag scores above this one instead.
    method : ``mean``, ``median`` or ``largest`` of the ``k`` distances.
    max_ref : reference rows kept, a random choice when there are more.
    seed : of that choice.

    Raises
    ------
    DetectorError : a parameter is out of range, or the reference has not more than ``k`` rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-5, 1, (500, 2)), rng.normal(5, 1, (500, 2))])
    >>> KNN(share=0.001).fit(rows).predict([[5, 5], [0, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Ramaswamy, Rastogi & Shim (2000), Efficient algorithms for mining outliers from large data sets. Angiulli &
    Pizzuti (2002), Fast outlier detection in high dimensional spaces.
    """

    detector_type = "KNN"

    def __init__(
        self,
        k: int = 5,
        share: float = 0.005,
        threshold: float | None = None,
        method: str = "mean",
        max_ref: int = 1000,
        seed: int = 0,
    ) -> None:
        check_whole("k", k, 1, 1000)
        check_whole("max_ref", max_ref, k + 1, 100_000)
        check_whole("seed", seed, 0, 2**63)
        if method not in METHODS:
            raise DetectorError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        super().__init__(share, threshold, k=k, method=method, max_ref=max_ref, seed=seed)
        empty: Array = np.empty((0, 0))
        self._scale = self._centre = self._low = self._high = self._square = self._levels = empty
        self._ref = self._ref_weight = self._embedded = empty
        self._levelled = np.empty(0, dtype=np.bool_)
        self._chosen = self._level_of = np.empty(0, dtype=np.int64)

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        if len(rows) <= self._params["k"]:
            raise DetectorError(f"{self._params['k']} neighbours need a reference of more rows, got {len(rows)}")
        spread = np.ones(rows.shape[1])
        for j in np.flatnonzero(~coordinates.levelled & coordinates.used):
            column = rows[:, j]
            spread[j] = column[(column >= coordinates.low[j]) & (column <= coordinates.high[j])].std()
        self._scale, self._levelled = 1.0 / np.maximum(spread, SMALLEST), coordinates.levelled
        self._centre, self._low, self._high = coordinates.fill, coordinates.low, coordinates.high
        rng = np.random.default_rng(self._params["seed"])
        self._chosen = np.sort(rng.permutation(len(rows))[: self._params["max_ref"]])
        self._ref, self._ref_weight = self._place(coordinates.read(rows[self._chosen]))
        self._prepare()

    def _score(self, reading: Reading) -> Scores:
        points, weight = self._place(reading)
        return self._measure(points, weight, self._squared(points, weight))

    def _score_reference(self, reading: Reading, index: npt.NDArray[np.intp]) -> Scores:
        points, weight = self._place(reading)
        squared = self._squared(points, weight)
        own = np.flatnonzero(np.isin(index, self._chosen))
        squared[own, np.searchsorted(self._chosen, index[own])] = np.inf
        return self._measure(points, weight, squared)

    def _place(self, reading: Reading) -> tuple[Array, Array]:
        """Points (scaled numbers, category codes) and half the squared distance of each one's category to others."""
        code = np.rint(reading.values)
        if reading.unseen is not None:
            code[reading.unseen] = _NEVER
        points = np.where(self._levelled, code, self._measured(reading.values))
        return points, np.where(self._levelled, (1.0 + reading.z**2) / 2.0, 0.0)

    def _measured(self, values: Array) -> Array:
        inside = np.minimum(np.maximum(values, self._low), self._high)
        deviation = (inside - self._centre) * self._scale
        excess = np.abs(deviation) - _TAIL
        if (excess > 0.0).any():
            shortened = np.copysign(_TAIL + np.log1p(np.maximum(excess, 0.0)), deviation)
            deviation = np.where(excess > 0.0, shortened, deviation)
        return np.asarray(deviation + (values - inside) * self._scale)

    def _prepare(self) -> None:
        """Categories of the kept rows as columns, so that one matrix product gives all distances."""
        self._block = max(16, _CELLS // (len(self._ref) + 4 * self._params["k"] * self._ref.shape[1]))
        levels = [np.unique(self._ref[:, j]) for j in np.flatnonzero(self._levelled)]
        self._levels = np.concatenate([*levels, np.empty(0)])
        self._level_of = np.repeat(np.flatnonzero(self._levelled), [len(found) for found in levels])
        self._embedded = self._embed(self._ref, self._ref_weight)
        self._square = (np.where(self._levelled, 0.0, self._ref) ** 2).sum(axis=1) + self._ref_weight.sum(axis=1)

    def _embed(self, points: Array, weight: Array) -> Array:
        alike = points[:, self._level_of] == self._levels
        return np.concatenate([points[:, ~self._levelled], alike * np.sqrt(weight[:, self._level_of])], axis=1)

    def _squared(self, points: Array, weight: Array) -> Single:
        """``(n, n_ref)`` squared distances, up to an amount common to each row.

        In single precision, so that equal distances stay equal whatever the rounding of the product, which depends on
        the size of the batch; of equals, the first is taken.
        """
        embedded = self._embed(points, weight)
        embedded *= -2.0
        squared = np.empty((len(points), len(self._ref)), dtype=np.float32)
        np.add(embedded @ self._embedded.T, self._square, out=squared, casting="same_kind")
        return squared

    def _measure(self, points: Array, weight: Array, squared: Single) -> Scores:
        nearest = _smallest(squared, self._params["k"])
        # Again from the differences, exact where the product cancels.
        ref, ref_weight = self._ref[nearest], self._ref_weight[nearest]
        apart = points[:, None, :] - ref
        apart *= apart
        if self._levelled.any():
            apart = np.where(self._levelled, (apart > 0.0) * (weight[:, None, :] + ref_weight), apart)
        distance = np.sqrt(apart.sum(axis=2))
        method = self._params["method"]
        if method == "mean":
            instance = distance.mean(axis=1)
        else:
            instance = np.median(distance, axis=1) if method == "median" else distance.max(axis=1)
        part = apart.sum(axis=1)
        part *= (instance / np.maximum(part.sum(axis=1), 1e-300))[:, None]
        return Scores(instance, part)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "scale": self._scale,
            "centre": self._centre,
            "low": self._low,
            "high": self._high,
            "levelled": self._levelled,
            "ref": self._ref,
            "ref_weight": self._ref_weight,
        }

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._scale, self._levelled, self._centre = arrays["scale"], arrays["levelled"], arrays["centre"]
        self._low, self._high = arrays["low"], arrays["high"]
        self._ref, self._ref_weight = arrays["ref"], arrays["ref_weight"]
        self._prepare()


def _smallest(values: Single, k: int) -> npt.NDArray[np.intp]:
    """``(n, k)`` columns of each row's ``k`` smallest values; ``values`` is used up."""
    if k > _FEW:
        return np.argpartition(values, k - 1, axis=1)[:, :k]
    rows = np.arange(len(values))
    found = np.empty((len(values), k), dtype=np.intp)
    for i in range(k):
        found[:, i] = values.argmin(axis=1)
        values[rows, found[:, i]] = np.inf
    return found
