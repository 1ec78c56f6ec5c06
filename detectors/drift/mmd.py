"""Maximum mean discrepancy: did the joint distribution of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import (
    Array,
    DetectorError,
    Feature,
    Meta,
    NotFittedError,
    Parts,
    Reason,
    Verdict,
    as_rows,
)
from detectors.drift.columnwise import level_of
from detectors.drift.encoding import encode
from detectors.drift.kernel import KernelTest, Permuted, enough_permutations
from detectors.drift.proportions import any_share_p
from detectors.drift.tabular import TabularDrift


class MMDDrift:
    """Kernel two-sample test on whole rows, by permutation. Needs torch: ``pip install "offpath[torch]"``.

    The statistic is the unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel
    ``exp(-d^2 / (2 bandwidth^2))``. Numeric columns are standardised by the reference, categorical ones become
    indicators. The p-value is ``(k + 1) / (P + 1)`` for ``k`` of ``P`` permutations with a statistic at least as large.

    Parameters
    ----------
    p_val, ert : the level of the test of one window, or the windows between two false alarms (level ``1 / ert``).
    n_permutations : default: 199, or as many as the level needs to be reached twice.
    bandwidth : of the kernel; default: the median distance between reference rows.
    max_ref, max_rows : a larger reference or window is thinned to so many rows at random (seeded). They bound the
        memory: for their sum ``N``, ``8 N^2`` bytes (32 MB by default), and ``8 N n_permutations`` twice.
    min_rows : complete rows below which a window is insufficient data.
    worst : so many columns come with a histogram.
    seed : of permutations and thinning. The same window always gets the same answer.
    device : ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Verdict
    -------
    ``threshold`` is the statistic above which ``p_val`` is at most the level. ``effect_size`` is
    ``sqrt(MMD^2 / 2)``: 0 none, 1 disjoint and far apart. Rows with missing values are left out; where any
    column has missing values, the change of their shares is tested too, and ``p_val`` is twice the smaller of both
    (Bonferroni over the columns for the latter). ``features`` and ``reasons`` come from
    :class:`~detectors.drift.tabular.TabularDrift` at the same level; they explain, and the joint test decides.

    References
    ----------
    Gretton A. et al. (2012). A kernel two-sample test. JMLR 13.
    Phipson B., Smyth G. (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9(1).

    >>> rng = np.random.default_rng(0)
    >>> detector = MMDDrift().fit(rng.normal(size=(500, 2)))
    >>> x = rng.normal(size=(200, 1))
    >>> verdict = detector.predict(np.hstack([x, x]))  # each column alone is as it was
    >>> verdict.state, verdict.p_val
    ('alert', 0.005)
    """

    detector_type = "MMDDrift"
    requires: ClassVar = ("torch",)
    """Packages that it needs beyond the core's, each an extra of the same name."""

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        n_permutations: int | None = None,
        bandwidth: float | None = None,
        max_ref: int = 1000,
        max_rows: int = 1000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.level = level_of(p_val, ert)
        n_permutations = enough_permutations(n_permutations, self.level)
        self._columnwise = TabularDrift(p_val=self.level, min_rows=min_rows, worst=worst)
        _check(bandwidth, max_ref, max_rows, min_rows, seed, device)
        self._params = {
            "p_val": None if ert else self.level,
            "ert": ert,
            "n_permutations": n_permutations,
            "bandwidth": bandwidth,
            "max_ref": max_ref,
            "max_rows": max_rows,
            "min_rows": min_rows,
            "worst": worst,
            "seed": seed,
            "device": device,
        }
        self._n_permutations, self._max_ref, self._max_rows = n_permutations, max_ref, max_rows
        self._min_rows, self._seed, self._device, self._bandwidth = min_rows, seed, device, bandwidth
        self._kernel: KernelTest | None = None

    @property
    def meta(self) -> Meta:
        inner = self._columnwise.meta
        return Meta(self.detector_type, "drift", self._params, inner.features, inner.n_ref, self._min_rows)

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Keep at most ``max_ref`` complete rows of ``x_ref`` of shape ``(n_ref, d)``, and their kernel matrix.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has another number of columns than ``features``.
        DetectorError : it has fewer than ``min_rows`` complete rows, or torch or the device is not there.
        """
        columnwise = TabularDrift(**self._columnwise.meta.params).fit(x_ref, features)
        rows = as_rows(x_ref)
        complete = _thin(rows[np.isfinite(rows).all(axis=1)], self._max_ref, self._seed)
        if len(complete) < self._min_rows:
            raise DetectorError(
                f"the reference has {len(complete)} rows without missing values, at least {self._min_rows} are "
                "needed (min_rows): fill or drop the columns with most missing values"
            )
        reference = encode(columnwise.columns, complete)
        self._kernel = KernelTest(reference, self._bandwidth, self._device)
        self._columnwise = columnwise
        return self

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge the window ``x`` of shape ``(n, d)``.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        """
        kernel, columns = self._need_fit(), self._columnwise.columns
        rows = as_rows(x, len(columns))
        by_column = self._columnwise.predict(rows)
        finite = np.isfinite(rows)
        complete = rows[finite.all(axis=1)]
        missing_p = self._missing_p(len(rows) - finite.sum(axis=0), len(rows)) if len(rows) >= self._min_rows else None
        if len(complete) < self._min_rows:
            return self._by_missing(by_column, missing_p)
        window = encode(columns, _thin(complete, self._max_rows, self._seed))
        test = kernel.permute(window, self._n_permutations, self._seed)
        p = test.p_val if missing_p is None else min(1.0, 2.0 * min(test.p_val, missing_p))
        alert = p <= self.level
        reasons = by_column.reasons or (_joint_reason(test),)
        return Verdict(
            "alert" if alert else "ok",
            len(rows),
            statistic=test.statistic,
            threshold=test.critical(self.level if missing_p is None else 0.5 * self.level),
            p_val=p,
            effect_size=math.sqrt(min(max(test.statistic, 0.0) / 2.0, 1.0)),
            features=by_column.features,
            reasons=reasons if alert else (),
        )

    def _by_missing(self, by_column: Verdict, missing_p: float | None) -> Verdict:
        """On a window with too few complete rows: missing values alone can make it an alert."""
        p = None if missing_p is None else min(1.0, 2.0 * missing_p)
        if p is None or p > self.level:
            return Verdict("insufficient_data", by_column.n, features=by_column.features)
        return Verdict("alert", by_column.n, p_val=p, features=by_column.features, reasons=by_column.reasons)

    def _missing_p(self, gone: npt.NDArray[Any], n: int) -> float | None:
        columns = self._columnwise.columns
        return any_share_p([column.missing for column in columns], self._columnwise.meta.n_ref, gone.tolist(), n)

    def _need_fit(self) -> KernelTest:
        if self._kernel is None:
            raise NotFittedError("MMDDrift has no reference yet: call fit(x_ref) first")
        return self._kernel

    def to_parts(self) -> Parts:
        """The parameters, the kept reference rows as coordinates, and each column's distinct values."""
        kernel, inner = self._need_fit(), self._columnwise.to_parts()
        state = {"bandwidth": kernel.bandwidth, "columns": dict(inner.state)}
        arrays = {"reference": kernel.reference, **inner.arrays}
        return Parts(self._params, state, arrays, inner.features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        detector = cls(**parts.params)
        try:
            reference, bandwidth = parts.arrays["reference"], float(parts.state["bandwidth"])
            state = parts.state["columns"]
        except (KeyError, TypeError) as error:
            raise DetectorError(f"the artefact cannot be used ({error!r}): fit the detector again") from None
        inner = Parts(detector._columnwise.meta.params, state, parts.arrays, parts.features)
        detector._columnwise = TabularDrift.from_parts(inner)
        detector._kernel = KernelTest(np.asarray(reference, dtype=np.float64), bandwidth, detector._device)
        return detector


def _check(bandwidth: float | None, max_ref: int, max_rows: int, min_rows: int, seed: int, device: str) -> None:
    if bandwidth is not None and not 0.0 < bandwidth < math.inf:
        raise DetectorError(f"bandwidth must be a positive number, got {bandwidth!r}")
    for name, value in (("max_ref", max_ref), ("max_rows", max_rows)):
        if not isinstance(value, int) or value < min_rows:
            raise DetectorError(f"{name} must be a whole number of at least min_rows ({min_rows}), got {value!r}")
    if not isinstance(seed, int) or seed < 0:
        raise DetectorError(f"seed must be a whole number of at least 0, got {seed!r}")
    if not isinstance(device, str):
        raise DetectorError(f"device must be cpu, cuda or auto, got {device!r}")


def _thin(rows: Array, most: int, seed: int) -> Array:
    """At most so many rows, chosen at random, in their order."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng([seed, 1]).permutation(len(rows))[:most]
    return rows[np.sort(chosen)]


def _joint_reason(test: Permuted) -> Reason:
    before = float(np.median(test.permuted))
    return Reason(
        "", "distribution", before, test.statistic, "the columns' joint distribution changed, no single column did"
    )
