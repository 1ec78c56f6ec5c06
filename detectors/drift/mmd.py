"""Maximum mean discrepancy: did the joint distribution of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

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
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import level_of
from detectors.drift.encoding import encode
from detectors.drift.proportions import share_p
from detectors.drift.tabular import TabularDrift

if TYPE_CHECKING:
    import torch


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
        needed = math.ceil(1.0 / self.level - 1e-9) - 1
        n_permutations = max(199, 2 * needed + 1) if n_permutations is None else n_permutations
        if not isinstance(n_permutations, int) or n_permutations < needed:
            raise DetectorError(
                f"n_permutations must be a whole number of at least {needed} to reach the level {self.level:g}, "
                f"got {n_permutations!r}"
            )
        if bandwidth is not None and not 0.0 < bandwidth < math.inf:
            raise DetectorError(f"bandwidth must be a positive number, got {bandwidth!r}")
        self._columnwise = TabularDrift(p_val=self.level, min_rows=min_rows, worst=worst)
        for name, value in (("max_ref", max_ref), ("max_rows", max_rows)):
            if not isinstance(value, int) or value < min_rows:
                raise DetectorError(f"{name} must be a whole number of at least min_rows ({min_rows}), got {value!r}")
        if not isinstance(seed, int) or seed < 0:
            raise DetectorError(f"seed must be a whole number of at least 0, got {seed!r}")
        if not isinstance(device, str):
            raise DetectorError(f"device must be cpu, cuda or auto, got {device!r}")
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
        self._kernel: _Kernel | None = None

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
        self._kernel = _Kernel(reference, self._bandwidth, self._device)
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
            alert = missing_p is not None and 2.0 * missing_p <= self.level
            return Verdict(
                "alert" if alert else "insufficient_data",
                len(rows),
                p_val=min(1.0, 2.0 * missing_p) if alert and missing_p is not None else None,
                features=by_column.features,
                reasons=by_column.reasons if alert else (),
            )
        window = encode(columns, _thin(complete, self._max_rows, self._seed))
        statistic, permuted = kernel.permutation_test(window, self._n_permutations, self._seed)
        p = (1.0 + float(np.count_nonzero(permuted >= statistic))) / (self._n_permutations + 1.0)
        own = p if missing_p is None else min(1.0, 2.0 * min(p, missing_p))
        alert = own <= self.level
        level = self.level if missing_p is None else 0.5 * self.level
        reasons = by_column.reasons or (_joint_reason(statistic, permuted),)
        return Verdict(
            "alert" if alert else "ok",
            len(rows),
            statistic=statistic,
            threshold=_critical(permuted, level),
            p_val=own,
            effect_size=math.sqrt(min(max(statistic, 0.0) / 2.0, 1.0)),
            features=by_column.features,
            reasons=reasons if alert else (),
        )

    def _missing_p(self, gone: npt.NDArray[Any], n: int) -> float | None:
        """The corrected p-value of a change of any column's missing share; ``None`` if nothing is missing anywhere."""
        columns: Sequence[ColumnReference] = self._columnwise.columns
        n_ref = self._columnwise.meta.n_ref
        found = [
            share_p(column.missing, n_ref, int(absent), n)
            for column, absent in zip(columns, gone, strict=True)
            if column.missing or absent
        ]
        return min(1.0, len(found) * min(found)) if found else None

    def _need_fit(self) -> _Kernel:
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
        detector._kernel = _Kernel(np.asarray(reference, dtype=np.float64), bandwidth, detector._device)
        return detector


def _thin(rows: Array, most: int, seed: int) -> Array:
    """At most so many rows, chosen at random, in their order."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng([seed, 1]).permutation(len(rows))[:most]
    return rows[np.sort(chosen)]


def _critical(permuted: Array, level: float) -> float:
    """The statistic above which ``(k + 1) / (P + 1) <= level``; infinite if no statistic reaches the level."""
    rank = math.floor(level * (len(permuted) + 1) + 1e-9)
    return float(np.sort(permuted)[-rank]) if rank else math.inf


def _joint_reason(statistic: float, permuted: Array) -> Reason:
    before = float(np.median(permuted))
    return Reason(
        "", "distribution", before, statistic, "the columns' joint distribution changed, no single column did"
    )


class _Kernel:
    """The Gaussian kernel on the reference, and the permutation test against it."""

    def __init__(self, reference: Array, bandwidth: float | None, device: str) -> None:
        self.reference = reference
        self._torch = _import_torch()
        self._device = _find_device(self._torch, device)
        self._x = self._torch.from_numpy(reference).to(self._device)
        squared = self._distances(self._x, self._x)
        self.bandwidth = bandwidth or _median_distance(squared.cpu().numpy())
        self._k_ref = self._torch.exp(-squared / (2.0 * self.bandwidth**2))
        self._k_ref.fill_diagonal_(0.0)
        self._drawn: tuple[tuple[int, int, int], torch.Tensor] | None = None

    def _distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Squared distances, by one matrix product."""
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
        return squared.clamp_(min=0.0)

    def permutation_test(self, window: Array, n_permutations: int, seed: int) -> tuple[float, Array]:
        """The statistic of ``window`` of shape ``(m, e)``, and ``(n_permutations,)`` under permuted labels."""
        torch, m = self._torch, len(window)
        with torch.inference_mode():
            y = torch.from_numpy(window).to(self._device)
            n = len(self._x)
            K = self._x.new_empty((n + m, n + m))
            K[:n, :n] = self._k_ref
            K[:n, n:] = torch.exp(-self._distances(self._x, y) / (2.0 * self.bandwidth**2))
            K[n:, :n] = K[:n, n:].T
            K[n:, n:] = torch.exp(-self._distances(y, y) / (2.0 * self.bandwidth**2))
            K.fill_diagonal_(0.0)
            W = self._memberships(n, m, n_permutations, seed)
            within = (W * (K @ W)).sum(0)
            touching = W.T @ K.sum(1)
            across = touching - within
            rest = K.sum() - 2.0 * across - within
            values = rest / (n * (n - 1.0)) + within / (m * (m - 1.0)) - 2.0 * across / (n * float(m))
            found: Array = values.cpu().numpy()
        return float(found[0]), found[1:]

    def _memberships(self, n: int, m: int, n_permutations: int, seed: int) -> torch.Tensor:
        """``(n + m, 1 + n_permutations)``: which rows are the window's, as they came, then permuted.

        Kept for the next window of the same size; drawn by numpy, so that every device sees the same.
        """
        key = (m, n_permutations, seed)
        drawn = self._drawn
        if drawn is None or drawn[0] != key:
            labels = np.zeros((1 + n_permutations, n + m))
            labels[:, n:] = 1.0
            np.random.default_rng([seed, 2]).permuted(labels[1:], axis=1, out=labels[1:])
            drawn = (key, self._torch.from_numpy(np.ascontiguousarray(labels.T)).to(self._device))
            self._drawn = drawn
        return drawn[1]


def _median_distance(squared: Array) -> float:
    """Between different rows; if most are equal, the mean distance of those that differ."""
    above = squared[np.triu_indices(len(squared), 1)]
    median = float(np.median(above))
    if median <= 1e-12:
        differing = above[above > 1e-12]
        median = float(differing.mean()) if differing.size else 1.0
    return math.sqrt(median)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise DetectorError('MMDDrift needs torch: pip install "offpath[torch]"') from None
    # The first exp of a process, where two threads share it, is now and then right to 9 digits in one thread's half
    # (MKL chooses its accuracy on first use, unguarded). One element is one thread's work, and makes the choice.
    torch.exp(torch.zeros(1, dtype=torch.float64))
    return torch


def _find_device(torch: Any, name: str) -> Any:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DetectorError(
            f"device must be cpu, auto, or one that torch can use here, got {name!r}: {error}"
        ) from None
    return device
