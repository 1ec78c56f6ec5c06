"""What all detectors share that test columns made of a model's outputs, in place of the outputs themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    ShapeError,
    Verdict,
    as_rows,
    default_features,
)
from detectors.drift.correction import Correction
from detectors.drift.tabular import TabularDrift


class DerivedDrift(ABC):
    """Tests columns that are made of the rows' columns, all numeric, by :class:`~detectors.drift.tabular.TabularDrift`.

    Parameters
    ----------
    p_val, ert : the level of the test of one window, or the windows between two false alarms (level ``1 / ert``).
    min_rows : usable rows below which a window is insufficient data.
    worst : so many columns come with a histogram.

    Verdict
    -------
    As that of :class:`~detectors.drift.columnwise.ColumnwiseDrift`, on the columns that were made; ``features`` and
    ``reasons`` name those. Of a row that has a missing value, all of them are missing.
    """

    detector_type: ClassVar[str]
    least_columns: ClassVar[int] = 1

    def __init__(
        self,
        p_val: float | None,
        ert: float | None,
        min_rows: int,
        worst: int,
        correction: Correction = "bonferroni",
        **params: Any,
    ) -> None:
        self._inner = TabularDrift(p_val, ert, correction, min_rows, worst)
        own = {name: self._inner.meta.params[name] for name in ("p_val", "ert", "min_rows", "worst")}
        self._params: dict[str, Any] = {**own, **params}
        self._features: tuple[Feature, ...] = ()

    @abstractmethod
    def _made(self, features: Sequence[Feature]) -> list[Feature]:
        """The columns that are made of these."""

    @abstractmethod
    def _make(self, rows: Array) -> Array:
        """``(n, k)`` values of them, from finite ``rows`` ``(n, d)``; NaN where one cannot be made."""

    @property
    def meta(self) -> Meta:
        inner = self._inner.meta
        return Meta(self.detector_type, "drift", self._params, self._features, inner.n_ref, inner.min_rows)

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Learn from ``x_ref`` of shape ``(n_ref, d)``.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has another number of columns than ``features``.
        DetectorError : it has fewer than ``min_rows`` usable rows, too few columns, or one that is categorical.
        """
        rows = as_rows(x_ref)
        described = default_features(rows.shape[1]) if features is None else tuple(features)
        if len(described) != rows.shape[1]:
            raise ShapeError(f"{len(described)} features are described, but the rows have {rows.shape[1]} columns")
        self._check(described)
        made = self._values(rows)
        usable, least = int(np.isfinite(made).all(axis=1).sum()), self.meta.min_rows
        if usable < least:
            raise DetectorError(
                f"the reference has {usable} rows without missing values or values out of range, at least {least} are "
                f"needed (min_rows): {self.detector_type} takes the outputs of a model"
            )
        self._inner = TabularDrift(**self._inner.meta.params).fit(made, self._made(described))
        self._features = described
        return self

    def _check(self, features: Sequence[Feature]) -> None:
        if len(features) < self.least_columns:
            raise ShapeError(f"{self.detector_type} needs at least {self.least_columns} columns, got {len(features)}")
        for feature in features:
            if feature.kind != "numeric":
                raise DetectorError(f"{self.detector_type} takes numeric columns, and {feature.name!r} is categorical")

    def _values(self, rows: Array) -> Array:
        finite = np.isfinite(rows).all(axis=1)
        if finite.all():
            return self._make(rows)
        made = self._make(rows[finite])
        values = np.full((len(rows), made.shape[1]), np.nan)
        values[finite] = made
        return values

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge the window ``x`` of shape ``(n, d)``.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        """
        self._need_fit()
        return self._inner.predict(self._values(as_rows(x, len(self._features))))

    def _need_fit(self) -> None:
        if not self._features:
            raise NotFittedError(f"{self.detector_type} has no reference yet: call fit(x_ref) first")

    def to_parts(self) -> Parts:
        """The parameters, and the distinct values of each column that was made, with their counts."""
        self._need_fit()
        inner = self._inner.to_parts()
        return Parts(self._params, inner.state, inner.arrays, self._features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        detector = cls(**parts.params)
        made = tuple(detector._made(parts.features))
        inner = Parts(detector._inner.meta.params, parts.state, parts.arrays, made)
        detector._inner, detector._features = TabularDrift.from_parts(inner), tuple(parts.features)
        return detector
