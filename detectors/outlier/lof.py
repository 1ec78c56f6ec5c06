"""Local outlier factor: how much thinner the reference is around a row than around its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import OutlierDetector, Scores, check_whole
from detectors.outlier.neighbours import Index, Neighbours, chosen, own_pairs, split

_FLOOR = 0.1  # of the typical distance


class LOF(OutlierDetector):
    """Local outlier factor against at most ``max_ref`` reference rows.

    The reachability of a row from a neighbour is their distance, but at least the neighbour's own distance to its
    ``k``-th neighbour; the local density is the inverse of the mean reachability. The score is the mean density of
    the ``k`` neighbours over the row's own: about 1 within a group, whatever the group's density, and more outside.
    So it finds a row just outside a dense group that is nearer than the usual distance in a thin one.

    Distances are those of :mod:`detectors.outlier.neighbours`, of which none is shortened: a heavy tail is a thin
    neighbourhood, and hides nothing. Rows that the reference repeats more than ``k`` times have no distance to their
    neighbours, and would make every other row infinitely strange: no distance to a ``k``-th neighbour counts as less
    than a tenth of the reference's median one.

    Values beyond the reference (outside its range, or never seen) add what the square of their coordinate
    (:mod:`detectors.outlier.coordinates`) is more than that of the range's end: a neighbourhood that is thin itself
    forgives any distance, and an age of 190 is to be found beside the lonely oldest, too. ``feature_score`` splits
    the factor by each column's part of the squared distances; it adds up to the score.

    Parameters
    ----------
    k : number of neighbours; smaller groups than that are strange themselves.
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    max_ref : reference rows kept, a random choice when there are more.
    seed : of that choice.

    Raises
    ------
    DetectorError : a parameter is out of range, or the reference has not more than ``k`` rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-5, 0.1, (500, 2)), rng.normal(5, 2, (500, 2))])
    >>> LOF(share=0.01).fit(rows).predict([[5, 4], [-5, -4]]).is_outlier.tolist()  # both 1 from the centre of a group
    [False, True]

    References
    ----------
    Breunig, Kriegel, Ng & Sander (2000), LOF: identifying density-based local outliers, SIGMOD.
    """

    detector_type = "LOF"

    def __init__(
        self,
        k: int = 20,
        share: float = 0.005,
        threshold: float | None = None,
        max_ref: int = 5000,
        seed: int = 0,
    ) -> None:
        check_whole("k", k, 1, 1000)
        check_whole("max_ref", max_ref, k + 1, 100_000)
        check_whole("seed", seed, 0, 2**63)
        super().__init__(share, threshold, k=k, max_ref=max_ref, seed=seed)
        self._neighbours: Neighbours | None = None
        self._radius = self._density = np.empty(0)

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        k = self._params["k"]
        if len(rows) <= k:
            raise DetectorError(f"{k} neighbours need a reference of more rows, got {len(rows)}")
        kept = chosen(len(rows), self._params["max_ref"], self._params["seed"])
        neighbours = Neighbours.learn(coordinates, rows, kept, np.inf)
        self._take(neighbours)
        index, distance = self._among(coordinates, rows, kept, neighbours)
        furthest = distance.max(axis=1)
        positive = furthest[furthest > 0.0]
        self._radius = np.maximum(furthest, _FLOOR * float(np.median(positive)) if positive.size else 1.0)
        self._density = 1.0 / np.maximum(distance, self._radius[index]).mean(axis=1)

    def _among(self, coordinates: Coordinates, rows: Array, kept: Index, neighbours: Neighbours) -> tuple[Index, Array]:
        """The ``k`` nearest of each kept row among the others, and the distances to them, each ``(m, k)``."""
        found = []
        for start in range(0, len(kept), self._block):
            block = kept[start : start + self._block]
            place, own = neighbours.place(coordinates.read(rows[block])), own_pairs(block, kept)
            index, apart = neighbours.nearest(place, self._params["k"], own)
            found.append((index, np.sqrt(apart.sum(axis=2))))
        return np.concatenate([index for index, _ in found]), np.concatenate([distance for _, distance in found])

    def _take(self, neighbours: Neighbours) -> None:
        self._neighbours, self._block = neighbours, neighbours.block(self._params["k"])

    def _score(self, reading: Reading) -> Scores:
        assert self._neighbours is not None
        near, apart = self._neighbours.nearest(self._neighbours.place(reading), self._params["k"])
        distance = np.sqrt(apart.sum(axis=2))
        factor = self._density[near].mean(axis=1) * np.maximum(distance, self._radius[near]).mean(axis=1)
        feature = split(factor, apart)
        alike = distance.max(axis=1) <= 0.0  # nothing sets the row apart from its neighbours
        feature[alike] = (factor / feature.shape[1])[alike, None]
        beyond = reading.beyond
        return Scores(factor + beyond.sum(axis=1), feature + beyond)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        assert self._neighbours is not None
        return {"radius": self._radius, "density": self._density, **self._neighbours.to_arrays()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._radius, self._density = arrays["radius"], arrays["density"]
        self._take(Neighbours.from_arrays(arrays, np.inf))
