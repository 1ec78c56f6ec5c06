"""What all detectors share that test column by column: parameters, fitting, missing values, correction, verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy.typing as npt
from typing_extensions import Self

from detectors.base import (
    DetectorError,
    Feature,
    FeatureKind,
    Meta,
    NotFittedError,
    Parts,
    ShapeError,
    Verdict,
    as_rows,
    default_features,
)
from detectors.drift.columns import ColumnReference, from_arrays, summarise, to_arrays
from detectors.drift.correction import CORRECTIONS, Correction
from detectors.drift.counting import Counting, coarse
from detectors.drift.grouped import CellTest, ColumnTest
from detectors.drift.judging import Fitted, Rule, judge


def level_of(p_val: float | None, ert: float | None) -> float:
    """The level of the test of one window; 0.05 if neither is given.

    >>> level_of(None, 400)
    0.0025
    """
    if p_val is not None and ert is not None:
        raise DetectorError("give ert or p_val, not both: ert is 1 / p_val")
    if p_val is not None and not 0.0 < p_val < 1.0:
        raise DetectorError(f"p_val must be between 0 and 1, got {p_val!r}")
    if ert is not None and not 1.0 < ert < math.inf:
        raise DetectorError(f"ert must be a number of windows above 1, got {ert!r}")
    return p_val or (1.0 / ert if ert else 0.05)


class ColumnwiseDrift:
    """A test per column, and a verdict on all of them.

    Parameters
    ----------
    p_val : level of the test of one window: the probability of an alert on a clean one; 0.05 if ``ert`` is not given.
    ert : expected run time, instead of ``p_val``: clean windows between two false alarms, so that the level is
        ``1 / ert``. It holds for windows that share no rows, and a reference much larger than a window.
    correction : across columns: ``none``, ``bonferroni``, ``holm``, ``bh``, ``by``; see
        :func:`~detectors.drift.correction.correct`.
    min_rows : present values that a column, and rows that a window, must at least have to be judged.
    worst : so many columns, smallest p-values first, come with a histogram, and those of them that are in
        alert with effect sizes that have an interval (:mod:`detectors.drift.effects`).

    Verdict
    -------
    ``p_val`` is the smallest p-value of the columns after correction; ``statistic`` is its ``-log10`` (at most 300) and
    ``threshold`` the ``-log10`` of the level, so that the window is an alert exactly if the statistic reaches the
    threshold. ``effect_size`` is the largest of the tested columns. In ``features``, ``statistic`` and ``effect_size``
    are those of the column's test, ``p_val`` is uncorrected, and ``threshold`` is what the p-value must not exceed,
    correction included. ``reasons`` are given for columns in alert, smallest p-value first.

    Missing values (NaN, infinities) are left out of a column's test, and the change of their share is a test of its
    own (two proportions, or Fisher's where counts are small). Where a column has missing values in the reference or
    in the window, its p-value is twice the smaller of the two (Bonferroni), at most 1. A column with fewer than
    ``min_rows`` present values in either is judged by its missing values alone: an alert, or else insufficient data.
    A column that is constant in the reference is tested as any other, and noted.

    ``predict`` answers for float and integer input of any width; rows are never changed, nor is the detector.
    """

    detector_type: ClassVar[str]
    takes: ClassVar[Literal["numeric", "categorical", "both"]]

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        correction: Correction = "bonferroni",
        min_rows: int = 20,
        worst: int = 3,
    ) -> None:
        if correction not in CORRECTIONS:
            raise DetectorError(f"correction must be one of {', '.join(CORRECTIONS)}, got {correction!r}")
        for name, value, least in (("min_rows", min_rows, 2), ("worst", worst, 0)):
            if not isinstance(value, int) or value < least:
                raise DetectorError(f"{name} must be a whole number of at least {least}, got {value!r}")
        self.level = level_of(p_val, ert)
        self._params = {
            "p_val": None if ert else self.level,
            "ert": ert,
            "correction": correction,
            "min_rows": min_rows,
            "worst": worst,
        }
        self._rule = Rule(self.level, correction, min_rows, worst)
        self._fitted: Fitted | None = None
        self._counting: Counting | None = None

    @property
    def meta(self) -> Meta:
        fitted, least = self._fitted, self._rule.min_rows
        features, n_ref = ((), 0) if fitted is None else (fitted.features, fitted.n_ref)
        return Meta(self.detector_type, "drift", self._params, features, n_ref, least)

    def _tests(self, columns: Sequence[ColumnReference]) -> list[ColumnTest]:
        raise NotImplementedError

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Learn each column's distribution from ``x_ref`` of shape ``(n_ref, d)``.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has another number of columns than ``features``.
        DetectorError : it has fewer than ``min_rows`` rows or no column, or a column is not of the kind the test takes.
        """
        rows = as_rows(x_ref)
        described = default_features(rows.shape[1]) if features is None else tuple(features)
        if len(described) != rows.shape[1]:
            raise ShapeError(f"{len(described)} features are described, but the rows have {rows.shape[1]} columns")
        if not described:
            raise ShapeError("the reference has no column")
        least = self._rule.min_rows
        if len(rows) < least:
            raise DetectorError(f"the reference has {len(rows)} rows, at least {least} are needed (min_rows)")
        columns = tuple(summarise(rows[:, j], feature, self._kind(feature)) for j, feature in enumerate(described))
        self._fitted, self._counting = Fitted(columns, described, len(rows), self._tests(columns), least), None
        return self

    def _counted(self, columns: Sequence[ColumnReference]) -> CellTest | None:  # noqa: ARG002 - for those who can
        """The test of all columns by counts alone, ``None`` if it needs the rows."""
        return None

    def counting(self) -> Counting | None:
        """How parts of a window are counted, and judged once their counts are added up; ``None``: only rows are."""
        if self._counting is None:
            fitted = self._need_fit()
            test = self._counted([coarse(column) for column in fitted.columns])
            if test is None:
                return None
            self._counting = Counting(fitted, self._rule, test)
        return self._counting

    def _kind(self, feature: Feature) -> FeatureKind:
        if self.takes == "both":
            return feature.kind
        if self.takes == "numeric" and feature.kind != "numeric":
            raise DetectorError(
                f"{self.detector_type} tests numeric columns, and {feature.name!r} is categorical: "
                "use TabularDrift for both kinds, or ChiSquareDrift"
            )
        return self.takes

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge the window ``x`` of shape ``(n, d)``.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        """
        fitted = self._need_fit()
        return judge(fitted, self._rule, as_rows(x, len(fitted.columns)))

    @property
    def columns(self) -> tuple[ColumnReference, ...]:
        """What is kept of each column of the reference; empty before :meth:`fit`."""
        return self._fitted.columns if self._fitted else ()

    def _need_fit(self) -> Fitted:
        if self._fitted is None:
            raise NotFittedError(f"{self.detector_type} has no reference yet: call fit(x_ref) first")
        return self._fitted

    def to_parts(self) -> Parts:
        """The parameters, and each column's distinct values with their counts; no rows."""
        fitted = self._need_fit()
        tested = [[c.feature.name, c.feature.kind, list(c.feature.categories)] for c in fitted.columns]
        return Parts(
            self._params, {"n_ref": fitted.n_ref, "tested": tested}, to_arrays(fitted.columns), fitted.features
        )

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        detector = cls(**parts.params)
        try:
            tested = [Feature(name, kind, tuple(labels)) for name, kind, labels in parts.state["tested"]]
            n_ref = int(parts.state["n_ref"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorError(f"the artefact's state cannot be used ({error!r}): fit the detector again") from None
        columns = from_arrays(parts.arrays, tested)
        tests = detector._tests(columns)
        detector._fitted = Fitted(columns, tuple(parts.features), n_ref, tests, detector._rule.min_rows)
        return detector
