"""Least-squares density difference, row by row: did the joint density of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from detectors.base import Array, DetectorError, Parts, Reason
from detectors.drift.channels import Additive, Channel, Codes, missing_shares
from detectors.drift.columns import ColumnReference
from detectors.drift.density import DensityDifference
from detectors.drift.encoding import encode_filled
from detectors.drift.explaining import explain_jointly
from detectors.drift.online import OnlineDrift

_NEAR = 2.0**20
_TURN = 2.0**24
"""Kernel values and turns are kept as multiples of ``1 / _NEAR`` and of the largest turn over ``_TURN``: products and
sums of up to 500 of them are whole numbers below 2^53, and so the same in any order."""

_KEPT = 2.0**32
"""Coordinates are kept as multiples of ``1 / _KEPT`` of the unit: sums over 10,000 rows stay below 2^63."""

_MOST_CENTERS = 500
_BLOCK = 4096  # rows placed at once


class LSDDDriftOnline(OnlineDrift):
    """Test of the squared distance between the densities of the last rows and of the reference, at every row.

    The difference of the densities is fitted by least squares, as a sum of Gaussian kernels
    ``exp(-d^2 / (2 sigma^2))`` around some rows of the reference, which are set apart and compared no more; the
    statistic is the integral of its square, times ``(pi sigma^2)^(e / 2)`` for ``e`` coordinates. Numeric columns are
    standardised by the reference, categorical ones become indicators. The effect size is the square root of the
    statistic, less what it is without drift, over what it would be of densities that do not overlap: 0 none,
    1 disjoint. Missing values count as the reference's mean, and how often they come is a statistic of its own.

    Parameters
    ----------
    sigma : bandwidth of the kernels; default: the median distance between reference rows.
    n_kernel_centers : kernels, at most 500; default: a tenth of the reference's rows, 10 at least and 100 at most.
    lambda_rd_max : how far, relative to it, regularisation may move the estimate, on average over random halves of the
        reference. Larger is smoother: better where changes are broad, worse where they are narrow.

    See :class:`~detectors.drift.online.OnlineDrift` for the other parameters, and the verdict. Of the reference only
    the kernels' centres and the mean of the rest are kept.

    References
    ----------
    Sugiyama M. et al. (2013). Density-difference estimation. Neural Computation 25(10).
    Bu L., Alippi C., Zhao D. (2017). An incremental change detection test based on density difference estimation.
    IEEE Trans. Syst. Man Cybern. Syst. 47(10).
    Cobb O., Van Looveren A., Klaise J. (2022). Sequential multivariate change detection with calibrated and memoryless
    false detection rates. AISTATS.

    >>> rng = np.random.default_rng(0)
    >>> detector = LSDDDriftOnline(ert=300, window_sizes=[50], n_bootstraps=30).fit(rng.normal(size=(600, 2)))
    >>> x = rng.normal(size=(300, 1))
    >>> detector.predict(np.hstack([x, x])).state  # each column alone is as it was
    'alert'
    """

    detector_type = "LSDDDriftOnline"

    def __init__(
        self,
        ert: float = 1000.0,
        window_sizes: Sequence[int] = (25, 75),
        sigma: float | None = None,
        n_kernel_centers: int | None = None,
        lambda_rd_max: float = 0.2,
        n_bootstraps: int = 200,
        seed: int = 0,
    ) -> None:
        if sigma is not None and not 0.0 < sigma < math.inf:
            raise DetectorError(f"sigma must be a positive number, got {sigma!r}")
        if not 0.0 < lambda_rd_max < 1.0:
            raise DetectorError(f"lambda_rd_max must be between 0 and 1, got {lambda_rd_max!r}")
        if n_kernel_centers is not None and (
            not isinstance(n_kernel_centers, int) or not 1 <= n_kernel_centers <= _MOST_CENTERS
        ):
            raise DetectorError(
                f"n_kernel_centers must be a whole number from 1 to {_MOST_CENTERS}, got {n_kernel_centers!r}"
            )
        own = {"sigma": sigma, "n_kernel_centers": n_kernel_centers, "lambda_rd_max": lambda_rd_max}
        super().__init__(ert, window_sizes, n_bootstraps, seed, **own)
        self._space: Space

    def _apart(self, n: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Of ``n`` rows of the reference: the places of the kernels' centres, and of the others."""
        most, asked = n // 2, self._params["n_kernel_centers"]
        wanted = min(max(10, n // 10), 100, most) if asked is None else asked
        if wanted > most:
            raise DetectorError(f"n_kernel_centers must be at most half the {n} rows of the reference, got {wanted}")
        order = np.random.default_rng([int(self._params["seed"]), 3]).permutation(n)
        return np.sort(order[:wanted]), np.sort(order[wanted:])

    def _prepare(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        points = encode_filled(columns, rows)
        centers, rest = self._apart(len(rows))
        learnt = DensityDifference.learn(
            points[rest],
            points[centers],
            self._params["sigma"],
            self._params["lambda_rd_max"],
            int(self._params["seed"]),
        )
        unit = float(np.abs(learnt.turn).max())
        self._space = Space(tuple(columns), learnt.centers, learnt.sigma, np.rint(learnt.turn / unit * _TURN), unit)

    def _channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:  # noqa: ARG002 - of _space
        return [Difference.of(self._space, self._space.place(rows[self._apart(len(rows))[1]]))]

    def _streams(self, rows: Array, rng: np.random.Generator, length: int) -> tuple[Array, Array]:
        """Both drawn with replacement from the rows that are no centres, which stay where they are."""
        rest = self._apart(len(rows))[1]
        reference = rows.copy()
        reference[rest] = rows[rng.choice(rest, len(rest))]
        return reference, rows[rng.choice(rest, length)]

    def _explain(self, window: Array, columns: Sequence[int]) -> tuple[Reason, ...]:  # noqa: ARG002 - all have a part
        return explain_jointly(self._columns, self._features, self._n_ref, window)

    def to_parts(self) -> Parts:
        parts, space = super().to_parts(), self._space
        difference: Any = self._need_fit().channels[0]
        state = {"sigma": space.sigma, "unit": space.unit, "spread": difference.spread, "n": difference.n}
        kept = {"centers": space.centers, "turn": space.turn, "mean": difference.mean}
        return Parts(parts.params, {**parts.state, **state}, {**parts.arrays, **kept}, parts.features)

    def _restored(self, parts: Parts) -> list[Channel]:
        centers, turn, mean = (np.asarray(parts.arrays[name], np.float64) for name in ("centers", "turn", "mean"))
        sigma, unit, spread = (float(parts.state[name]) for name in ("sigma", "unit", "spread"))
        self._space = Space(self._columns, centers, sigma, turn, unit)
        restored = Difference(self._space, mean, spread, int(parts.state["n"]))
        return [restored, *missing_shares(self._columns, self._n_ref)]


class Space:
    """Rows as points, of which the squared distance between two samples' means is the statistic.

    ``turn`` is a matrix of whole numbers; with ``unit`` over ``_TURN`` it is that of
    :class:`~detectors.drift.density.DensityDifference`.
    """

    def __init__(
        self, columns: tuple[ColumnReference, ...], centers: Array, sigma: float, turn: Array, unit: float
    ) -> None:
        self.columns, self.centers, self.sigma, self.turn, self.unit = columns, centers, sigma, turn, unit

    def place(self, rows: Array) -> Codes:
        """``(n, L)`` whole numbers, multiples of ``unit / _KEPT``; each row's depend on it alone, to the last bit."""
        points, gamma = encode_filled(self.columns, rows), 0.5 / self.sigma**2
        placed = np.empty((len(rows), len(self.centers)), dtype=np.int64)
        for i in range(0, len(rows), _BLOCK):
            apart = cdist(points[i : i + _BLOCK], self.centers, "sqeuclidean")
            near = np.rint(np.exp(-gamma * apart) * _NEAR)
            placed[i : i + _BLOCK] = np.rint((near @ self.turn) * (_KEPT / (_NEAR * _TURN)))
        return placed


class Difference(Additive):
    """The squared distance of the last rows from the reference.

    ``mean`` ``(L,)`` is the reference's, of ``n`` rows; ``spread`` the mean squared distance of its rows from it.
    """

    def __init__(self, space: Space, mean: Array, spread: float, n: int) -> None:
        self.columns = tuple(range(len(space.columns)))
        self.mean, self.spread, self.n = mean, spread, n
        self._space = space

    @classmethod
    def of(cls, space: Space, codes: Codes) -> Difference:
        """Against a reference of placed rows ``(n, L)``."""
        points = codes * (space.unit / _KEPT)
        mean = points.mean(axis=0)
        return cls(space, mean, float(np.square(points - mean).sum(axis=1).mean()), len(points))

    def encode(self, x: Array) -> Codes:
        return self._space.place(x)

    def of_sums(self, sums: Array, w: int) -> Array:
        gap = sums * (self._space.unit / (_KEPT * w)) - self.mean
        found: Array = np.square(gap).sum(axis=1)
        return found

    def effect_size(self, codes: Codes) -> float:
        w = len(codes)
        sums = codes.sum(axis=0).astype(np.float64)
        excess = float(self.of_sums(sums[None, :], w)[0]) - self.spread * (1.0 / w + 1.0 / self.n)
        there = sums * (self._space.unit / (_KEPT * w))
        apart = float(np.square(there).sum() + np.square(self.mean).sum())
        return math.sqrt(min(max(excess, 0.0) / apart, 1.0)) if apart > 0.0 else 0.0
