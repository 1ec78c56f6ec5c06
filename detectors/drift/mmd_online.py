"""Maximum mean discrepancy, row by row: did the joint distribution of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from detectors.base import Array, DetectorError, Parts, Reason
from detectors.drift.channels import Channel, Codes, missing_shares
from detectors.drift.columns import ColumnReference
from detectors.drift.encoding import encode_filled
from detectors.drift.explaining import explain_jointly
from detectors.drift.online import OnlineDrift

_ONE = 2.0**32
"""Kernel values are kept as multiples of ``1 / _ONE``: sums of whole numbers are the same in any order."""

_BLOCK = 2**22  # kernel values computed at once


class MMDDriftOnline(OnlineDrift):
    """Kernel two-sample test of the last rows, all columns together, against the reference, at every row.

    The statistic is the unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel
    ``exp(-d^2 / (2 sigma^2))`` between a window and the reference. Numeric columns are standardised by the reference,
    categorical ones become indicators. The effect size is ``sqrt(MMD^2 / 2)``: 0 none, 1 disjoint and far apart.
    Missing values count as the reference's mean, and how often they come is a statistic of its own.

    Parameters
    ----------
    sigma : bandwidth of the kernel; default: the median distance between reference rows.
    max_ref : a larger reference is thinned to so many rows at random (seeded).

    See :class:`~detectors.drift.online.OnlineDrift` for the other parameters, and the verdict. The streams of the
    simulation come from a quarter of the reference, and are compared with the other three quarters.

    References
    ----------
    Gretton A. et al. (2012). A kernel two-sample test. JMLR 13.
    Cobb O., Van Looveren A., Klaise J. (2022). Sequential multivariate change detection with calibrated and memoryless
    false detection rates. AISTATS.

    >>> rng = np.random.default_rng(0)
    >>> detector = MMDDriftOnline(ert=300, window_sizes=[50], n_bootstraps=30).fit(rng.normal(size=(400, 2)))
    >>> x = rng.normal(size=(300, 1))
    >>> detector.predict(np.hstack([x, x])).state  # each column alone is as it was
    'alert'
    """

    detector_type = "MMDDriftOnline"

    def __init__(
        self,
        ert: float = 1000.0,
        window_sizes: Sequence[int] = (25, 75),
        sigma: float | None = None,
        max_ref: int = 1000,
        n_bootstraps: int = 200,
        seed: int = 0,
    ) -> None:
        if sigma is not None and not 0.0 < sigma < math.inf:
            raise DetectorError(f"sigma must be a positive number, got {sigma!r}")
        super().__init__(ert, window_sizes, n_bootstraps, seed, sigma=sigma, max_ref=max_ref)
        if not isinstance(max_ref, int) or not 4 * self._windows[-1] <= max_ref <= 100_000:
            raise DetectorError(f"max_ref must be from four times the largest window to 100000, got {max_ref!r}")
        self._kept: Array = np.empty((0, 0))
        self._sigma = 0.0

    def _channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:
        rng = np.random.default_rng([int(self._params["seed"]), 3])
        points = encode_filled(columns, rows)
        points = points[np.sort(rng.permutation(len(points))[: int(self._params["max_ref"])])]
        self._sigma = self._params["sigma"] or _median_distance(points)
        self._kept = points
        return [Kernel(tuple(columns), points, self._sigma)]

    def _streams(self, rows: Array, rng: np.random.Generator, length: int) -> tuple[Array, Array]:
        """Parts that share no row, which would be at distance 0, and no row twice nearby in the stream."""
        order = rng.permutation(len(rows))
        apart = max(len(rows) // 4, 1)
        pool, reference = rows[order[:apart]], rows[order[apart:]]
        turns = [rng.permutation(apart) for _ in range(-(-length // apart))]
        return reference, pool[np.concatenate(turns)[:length]]

    def _explain(self, window: Array, columns: Sequence[int]) -> tuple[Reason, ...]:  # noqa: ARG002 - all have a part
        return explain_jointly(self._columns, self._features, self._n_ref, window)

    def to_parts(self) -> Parts:
        parts = super().to_parts()
        kept = {**parts.arrays, "reference": self._kept}
        return Parts(parts.params, {**parts.state, "sigma": self._sigma}, kept, parts.features)

    def _restored(self, parts: Parts) -> list[Channel]:
        self._kept = np.asarray(parts.arrays["reference"], dtype=np.float64)
        self._sigma = float(parts.state["sigma"])
        return [Kernel(self._columns, self._kept, self._sigma), *missing_shares(self._columns, self._n_ref)]


class Kernel:
    """The squared discrepancy of the last rows; a row is remembered as coordinates and nearness to the reference."""

    floor = 1e-9

    def __init__(self, columns: Sequence[ColumnReference], reference: Array, sigma: float) -> None:
        self.columns = tuple(range(len(columns)))
        self._of, self._reference, self._gamma = tuple(columns), reference, 0.5 / sigma**2
        n = len(reference)
        step = max(_BLOCK // max(n, 1), 1)
        pairs = sum(int(self._near(reference[i : i + step], reference).sum()) for i in range(0, n, step)) - n * int(
            _ONE
        )
        self._within = pairs / (_ONE * n * (n - 1.0))

    def _near(self, x: Array, y: Array) -> Any:
        """``(m, n)`` kernel values, whole numbers; each depends on its two rows alone, to the last bit."""
        return np.rint(np.exp(-self._gamma * cdist(x, y, "sqeuclidean")) * _ONE).astype(np.int64)

    def encode(self, x: Array) -> Codes:
        points = encode_filled(self._of, x)
        codes = np.empty((len(x), points.shape[1] + 1))
        codes[:, 1:] = points
        step = max(_BLOCK // max(len(self._reference), 1), 1)
        for i in range(0, len(x), step):
            codes[i : i + step, 0] = self._near(points[i : i + step], self._reference).sum(axis=1)
        return codes

    def measure(self, codes: Codes, m: int, windows: Sequence[int]) -> Array:
        found = np.full((m, len(windows)), np.nan)
        if not m:
            return found
        before, most = len(codes) - m, windows[-1]
        near = np.concatenate([[0], np.cumsum(codes[:, 0].astype(np.int64))])
        band = self._band(codes[:, 1:], most)
        for i, w in enumerate(windows):
            first = max(w - before - 1, 0)
            if first < m:
                ends = np.arange(before + first, len(codes)) + 1
                pairs = _pairs(band, w)[ends - w]
                cross = (near[ends] - near[ends - w]) / (_ONE * w * len(self._reference))
                found[first:, i] = 2.0 * pairs / (_ONE * w * (w - 1.0)) - 2.0 * cross + self._within
        return found

    def _band(self, points: Array, most: int) -> Any:
        """``(n, most - 1)``: of each row its nearness to the rows 1, 2, ... before it; 0 where there is none."""
        n = len(points)
        band = np.zeros((n, most - 1), dtype=np.int64)
        for lag in range(1, min(most, n)):
            apart = np.square(points[lag:] - points[:-lag]).sum(axis=1)
            band[lag:, lag - 1] = np.rint(np.exp(-self._gamma * apart) * _ONE)
        return band

    def effect_size(self, codes: Codes) -> float:
        w = len(codes)
        return math.sqrt(min(max(float(self.measure(codes, 1, [w])[0, 0]), 0.0) / 2.0, 1.0))


def _pairs(band: Any, w: int) -> Any:
    """``(n - w + 1,)``: the sum over all pairs of each window of ``w`` rows, by the row at which it begins.

    Window after window the pairs of the row that comes are added, and those of the row that goes taken away.
    """
    n, inside = len(band), np.cumsum(band[:, : w - 1], axis=1)
    own = inside[:, -1]
    sums = np.empty(n - w + 1, dtype=np.int64)
    sums[0] = sum(int(inside[i, i - 1]) for i in range(1, w))
    if n > w:
        ages = np.arange(w - 1)
        starts = np.arange(n - w)
        gone = band[starts[:, None] + 1 + ages, ages].sum(axis=1)  # the pairs of the row at which the window began
        sums[1:] = sums[0] + np.cumsum(own[w:] - gone)
    # A row's pairs with all w - 1 rows before it are those of the window that ends with it.
    return sums


def _median_distance(points: Array) -> float:
    some = points[:: max(len(points) // 500, 1)]
    distances = cdist(some, some)
    found = float(np.median(distances[np.triu_indices(len(some), 1)]))
    return found or 1.0
