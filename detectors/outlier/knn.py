"""Distance to the nearest rows of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import OutlierDetector, Scores, check_whole
from detectors.outlier.neighbours import Nearest, Neighbours, chosen, split

METHODS = ("mean", "median", "largest")

_TAIL = 3.0  # standard deviations


class KNN(OutlierDetector):
    """Distance to the ``k`` nearest of at most ``max_ref`` reference rows.

    Distances are those of :mod:`detectors.outlier.neighbours`: standard deviations in numeric columns, growing by the
    logarithm from 3 on inside the reference's range, and rarity in categorical ones. ``feature_score`` splits the
    score by each column's part of the squared distances; it adds up to the score.

    Parameters
    ----------
    k : number of neighbours.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
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
        self._neighbours: Neighbours | None = None

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        if len(rows) <= self._params["k"]:
            raise DetectorError(f"{self._params['k']} neighbours need a reference of more rows, got {len(rows)}")
        kept = chosen(len(rows), self._params["max_ref"], self._params["seed"])
        self._take(Neighbours.learn(coordinates, rows, kept, _TAIL))

    def _take(self, neighbours: Neighbours) -> None:
        self._neighbours, self._block = neighbours, neighbours.block(self._params["k"])

    def _score(self, reading: Reading) -> Scores:
        assert self._neighbours is not None
        return self._measure(self._neighbours.nearest(self._neighbours.place(reading), self._params["k"]))

    def _measure(self, nearest: Nearest) -> Scores:
        distance = np.sqrt(nearest.apart.sum(axis=2))
        method = self._params["method"]
        if method == "mean":
            instance = distance.mean(axis=1)
        else:
            instance = np.median(distance, axis=1) if method == "median" else distance.max(axis=1)
        return Scores(instance, split(instance, nearest.apart))

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        assert self._neighbours is not None
        return self._neighbours.to_arrays()

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._take(Neighbours.from_arrays(arrays, _TAIL))
