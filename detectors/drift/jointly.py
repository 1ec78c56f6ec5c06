"""What all detectors share that test whole rows: parameters, fitting, missing values, explanation, verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import Array, DetectorError, Feature, Meta, NotFittedError, Parts, Reason, Verdict, as_rows
from detectors.drift.columns import ColumnReference
from detectors.drift.columnwise import level_of
from detectors.drift.proportions import any_share_p
from detectors.drift.tabular import TabularDrift


class JointResult(NamedTuple):
    """What a test of whole rows found.

    ``critical(level)`` is the statistic from which the p-value is at most the level; ``usual`` is what the statistic
    is without drift; ``reasons`` are the test's own.
    """

    statistic: float
    p_val: float
    critical: Callable[[float], float]
    effect_size: float
    usual: float
    reasons: tuple[Reason, ...] = ()


class JointDrift(ABC):
    """One test of whole rows, all columns together.

    Parameters
    ----------
    p_val, ert : the level of the test of one window, or the windows between two false alarms (level ``1 / ert``).
    max_ref, max_rows : a larger reference or window is thinned to so many rows at random (seeded).
    min_rows : complete rows below which a window is insufficient data.
    worst : so many columns come with a histogram.
    seed : of all that is random. The same window always gets the same answer.

    Verdict
    -------
    ``threshold`` is the statistic from which ``p_val`` is at most the level. Rows with missing values are left
    out; where any column has missing values, the change of their shares is tested too, and ``p_val`` is twice the
    smaller of both (Bonferroni over the columns for the latter). ``features`` and ``reasons`` come from
    :class:`~detectors.drift.tabular.TabularDrift` at the same level; they explain, and the joint test decides.
    """

    detector_type: ClassVar[str]

    def __init__(
        self,
        p_val: float | None,
        ert: float | None,
        max_ref: int,
        max_rows: int,
        min_rows: int,
        worst: int,
        seed: int,
        **params: Any,
    ) -> None:
        self.level = level_of(p_val, ert)
        self._columnwise = TabularDrift(p_val=self.level, min_rows=min_rows, worst=worst)
        for name, value in (("max_ref", max_ref), ("max_rows", max_rows)):
            if not isinstance(value, int) or value < min_rows:
                raise DetectorError(f"{name} must be a whole number of at least min_rows ({min_rows}), got {value!r}")
        if not isinstance(seed, int) or seed < 0:
            raise DetectorError(f"seed must be a whole number of at least 0, got {seed!r}")
        self._params = {
            "p_val": None if ert else self.level,
            "ert": ert,
            "max_ref": max_ref,
            "max_rows": max_rows,
            "min_rows": min_rows,
            "worst": worst,
            "seed": seed,
            **params,
        }
        self._max_ref, self._max_rows, self._min_rows, self._seed = max_ref, max_rows, min_rows, seed
        self._is_fitted = False

    @abstractmethod
    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        """Learn complete rows ``(n, d)`` of the reference, at most ``max_ref``."""

    @abstractmethod
    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        """Test complete rows ``(m, d)`` of a window, at most ``max_rows``."""

    @abstractmethod
    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What :meth:`_restore` needs: plain values and arrays."""

    @abstractmethod
    def _restore(
        self, columns: Sequence[ColumnReference], state: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """Be as :meth:`_learn` left it."""

    @property
    def meta(self) -> Meta:
        inner = self._columnwise.meta
        return Meta(self.detector_type, "drift", self._params, inner.features, inner.n_ref, self._min_rows)

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Learn from the complete rows of ``x_ref`` of shape ``(n_ref, d)``, of which at most ``max_ref`` are kept.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has another number of columns than ``features``.
        DetectorError : it has fewer than ``min_rows`` complete rows, or a package or the device is not there.
        """
        columnwise = TabularDrift(**self._columnwise.meta.params).fit(x_ref, features)
        rows = as_rows(x_ref)
        complete = thin(rows[np.isfinite(rows).all(axis=1)], self._max_ref, self._seed)
        if len(complete) < self._min_rows:
            raise DetectorError(
                f"the reference has {len(complete)} rows without missing values, at least {self._min_rows} are "
                "needed (min_rows): fill or drop the columns with most missing values"
            )
        self._learn(columnwise.columns, complete)
        self._columnwise, self._is_fitted = columnwise, True
        return self

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge the window ``x`` of shape ``(n, d)``.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        """
        self._need_fit()
        columns = self._columnwise.columns
        rows = as_rows(x, len(columns))
        by_column = self._columnwise.predict(rows)
        finite = np.isfinite(rows)
        complete = rows[finite.all(axis=1)]
        missing_p = self._missing_p(len(rows) - finite.sum(axis=0), len(rows)) if len(rows) >= self._min_rows else None
        if len(complete) < self._min_rows:
            return self._by_missing(by_column, missing_p)
        test = self._test(columns, thin(complete, self._max_rows, self._seed))
        p = test.p_val if missing_p is None else min(1.0, 2.0 * min(test.p_val, missing_p))
        alert = p <= self.level
        reasons = (*test.reasons, *by_column.reasons) or (_joint_reason(test),)
        return Verdict(
            "alert" if alert else "ok",
            len(rows),
            statistic=test.statistic,
            threshold=test.critical(self.level if missing_p is None else 0.5 * self.level),
            p_val=p,
            effect_size=test.effect_size,
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

    def _need_fit(self) -> None:
        if not self._is_fitted:
            raise NotFittedError(f"{self.detector_type} has no reference yet: call fit(x_ref) first")

    def to_parts(self) -> Parts:
        """The parameters, what the test needs of the reference, and each column's distinct values."""
        self._need_fit()
        inner = self._columnwise.to_parts()
        state, arrays = self._learnt()
        return Parts(self._params, {**state, "columns": dict(inner.state)}, {**arrays, **inner.arrays}, inner.features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        detector = cls(**parts.params)
        try:
            inner = Parts(detector._columnwise.meta.params, parts.state["columns"], parts.arrays, parts.features)
            detector._columnwise = TabularDrift.from_parts(inner)
            detector._restore(detector._columnwise.columns, parts.state, parts.arrays)
        except (KeyError, TypeError, IndexError) as error:
            raise DetectorError(f"the artefact cannot be used ({error!r}): fit the detector again") from None
        detector._is_fitted = True
        return detector


def thin(rows: Array, most: int, seed: int) -> Array:
    """At most so many rows, chosen at random, in their order."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng([seed, 1]).permutation(len(rows))[:most]
    return rows[np.sort(chosen)]


def _joint_reason(test: JointResult) -> Reason:
    told = "the columns' joint distribution changed, no single column did"
    return Reason("", "distribution", test.usual, test.statistic, told)
