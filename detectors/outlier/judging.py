"""What all outlier detectors share: learning a threshold, judging rows in blocks, wording, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import (
    Array,
    DetectorError,
    DetectorKind,
    Feature,
    Meta,
    NotFittedError,
    Parts,
    Reason,
    Verdict,
    as_rows,
)
from detectors.calibrate import infer_threshold
from detectors.outlier.coordinates import Coordinates, Reading, check_features
from detectors.outlier.wording import incomplete, reasons

MIN_REFERENCE = 10
"""Fewer reference rows say nothing about what is rare."""

FOLDS = 5
"""Parts of the reference that are left out in turns to learn the threshold, unless a type says another number."""

_MOST_SCORED = 50_000  # reference rows that the threshold is learnt from; evenly spaced if there are more

# Rows equal to the one that set the threshold may differ from it by rounding, according to the size of their batch.
_SLACK = 1e-9


class Scores(NamedTuple):
    """``(n,)`` scores, larger is stranger, and ``(n, d)`` contributions that add up to them (NaN: not known)."""

    instance: Array
    feature: Array


class OutlierDetector(ABC):
    """Fit, threshold and verdict around an algorithm that scores coordinates.

    Missing values count as the reference's median (or most frequent category); a row of nothing but missing values
    has the score NaN and is no outlier. Infinities are as strange as a number can be. Values never seen in the
    reference are stranger than the rarest category. Columns with such values have an entry in ``Verdict.features``
    that counts them. ``effect_size`` is the share of flagged rows, ``statistic`` the largest score.
    """

    detector_type: ClassVar[str]
    kind: ClassVar[DetectorKind] = "outlier"
    _block: int = 4096  # rows scored at once
    _folds: ClassVar[int] = FOLDS

    def __init__(self, share: float, threshold: float | None, **params: Any) -> None:
        if not isinstance(share, (int, float)) or not 0.0 <= share < 1.0:
            raise DetectorError(f"share must be at least 0 and below 1 (0.005 flags 1 clean row in 200), got {share!r}")
        if threshold is not None and not (isinstance(threshold, (int, float)) and np.isfinite(threshold)):
            raise DetectorError(f"threshold must be a finite number, or null to learn it from share, got {threshold!r}")
        self._params: dict[str, Any] = {**params, "share": share, "threshold": threshold}
        self._features: tuple[Feature, ...] = ()
        self._coordinates: Coordinates | None = None
        self._threshold = np.nan
        self._n_ref = 0
        self._beyond = (0, 0)

    @property
    def meta(self) -> Meta:
        return Meta(self.detector_type, self.kind, dict(self._params), self._features, self._n_ref)

    @property
    def threshold(self) -> float:
        """Scores above it are outliers: the given one, or the one learnt from the reference."""
        given = self._params["threshold"]
        return float(self._threshold if given is None else given)

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Learn what is normal, and the score that at most ``share`` of the reference rows exceed.

        Parameters
        ----------
        x_ref : ``(n_ref, d)``, any numeric dtype; NaN is missing. Below ``1 / share`` rows the threshold is the
            largest score of the reference. Rows with infinities are left out of it, so that they stay strange.
        features : one per column; default: all numeric.

        Raises
        ------
        DetectorError : fewer than 10 rows, no finite value at all, or a categorical column that looks like an id.
        ShapeError : ``x_ref`` is no matrix, or ``features`` are not one per column.
        """
        rows = as_rows(x_ref)
        chosen = check_features(features, rows.shape[1])
        if len(rows) < MIN_REFERENCE or not rows.shape[1]:
            raise DetectorError(
                f"{self.detector_type} needs a reference of at least {MIN_REFERENCE} rows and one column, "
                f"got {rows.shape[0]} x {rows.shape[1]}"
            )
        self._learn_all(rows, chosen)
        self._n_ref = len(rows)
        try:
            scores = self._held_out(rows)
        except DetectorError:  # too few rows to leave some out
            scores = self._scores_of(rows)
        if self._params["threshold"] is None:
            learnt = infer_threshold(scores, self._params["share"])
            self._threshold = learnt + _SLACK * max(1.0, abs(learnt))
        known = scores[~np.isnan(scores)]
        self._beyond = (int(np.count_nonzero(known > self.threshold)), len(known))
        return self

    def _learn_all(self, rows: Array, features: tuple[Feature, ...]) -> None:
        coordinates = Coordinates.learn(rows, features)
        if not coordinates.used.any():
            raise DetectorError(
                f"{self.detector_type} learns nothing from a reference in which no value is finite: "
                "give rows that hold numbers"
            )
        self._learn(coordinates, rows)
        self._features, self._coordinates = features, coordinates

    @property
    def beyond(self) -> tuple[int, int]:
        """Of how many scored reference rows how many lie above the threshold: ``(above, scored)``.

        Each was scored by a detector that learnt from the others, so that new clean rows are like them: of ``n`` new
        rows the number above it has a beta-binomial distribution.
        """
        return self._beyond

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge ``(n, d)`` rows: ``instance_score``, ``feature_score`` and reasons for the flagged ones.

        Raises
        ------
        NotFittedError : ``fit`` has not been called.
        ShapeError : ``x`` is no matrix, or has another number of columns than the reference.
        """
        coordinates = self._fitted()
        rows = as_rows(x, len(self._features))
        threshold = self.threshold
        if not len(rows):
            return Verdict(
                "insufficient_data", 0, None, threshold, instance_score=np.empty(0), feature_score=np.empty(rows.shape)
            )
        reading = coordinates.read(rows)
        scores = self._blockwise(reading)
        instance, feature = scores
        notes = incomplete(rows, reading, self._features)
        if reading.missing is not None:
            blank = np.all(reading.missing, axis=1)
            instance, feature = np.where(blank, np.nan, instance), np.where(blank[:, None], np.nan, feature)
        if np.isnan(instance).all():
            return Verdict("insufficient_data", len(rows), None, threshold, None, None, notes, (), instance, feature)
        flagged = np.flatnonzero(instance > threshold)
        return Verdict(
            state="alert" if flagged.size else "ok",
            n=len(rows),
            statistic=float(np.fmax.reduce(instance)),
            threshold=threshold,
            effect_size=flagged.size / len(rows),
            features=notes,
            reasons=self._reasons(rows, reading, Scores(instance, feature), flagged),
            instance_score=instance,
            feature_score=feature,
        )

    def _reasons(
        self, rows: Array, reading: Reading, scores: Scores, flagged: npt.NDArray[np.intp]
    ) -> tuple[Reason, ...]:
        """Why rows were flagged, the strangest first."""
        return reasons(rows, reading, scores, flagged, self._features, self._fitted())

    def to_parts(self) -> Parts:
        """Everything learnt; raises :class:`NotFittedError` before ``fit``."""
        coordinates = self._fitted()
        state = {"threshold": self.threshold, "n_ref": self._n_ref, "beyond": list(self._beyond)}
        return Parts(self._params, state, {**coordinates.to_arrays(), **self._to_arrays()}, self._features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """The detector that :meth:`to_parts` was called on."""
        made = cls(**parts.params)
        made._coordinates = Coordinates.from_arrays(parts.arrays)
        made._features = parts.features
        made._threshold = float(parts.state["threshold"])
        made._n_ref = int(parts.state["n_ref"])
        above, scored = parts.state["beyond"]
        made._beyond = (int(above), int(scored))
        made._from_arrays(parts.arrays)
        return made

    @abstractmethod
    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        """Learn the algorithm's own part from the reference."""

    @abstractmethod
    def _score(self, reading: Reading) -> Scores:
        """Score some rows; at most ``_block`` of them."""

    @abstractmethod
    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]: ...

    @abstractmethod
    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None: ...

    def _fitted(self) -> Coordinates:
        if self._coordinates is None:
            raise NotFittedError(f"{self.detector_type} has learnt nothing yet: call fit(x_ref) first")
        return self._coordinates

    def _held_out(self, rows: Array) -> Array:
        """Scores of reference rows, each by what the others teach: to the final detector they are usual."""
        some = rows[:: -(-len(rows) // _MOST_SCORED)]
        scorable = self._scorable(some)
        fold = np.random.default_rng(0).permutation(len(some)) % self._folds  # at random: rows may have a rhythm
        scores = []
        for k in range(self._folds):
            made = type(self)(**self._params)
            made._learn_all(some[fold != k], self._features)
            scores.append(made._scores_of(some[scorable[fold[scorable] == k]]))
        found = np.concatenate(scores)
        return found[~np.isnan(found)]

    def _scorable(self, rows: Array) -> npt.NDArray[np.intp]:
        """Which rows the threshold is learnt from: none with infinities, if there are others."""
        index = np.arange(0, len(rows), -(-len(rows) // _MOST_SCORED))
        finite = index[~np.isinf(rows[np.ix_(index, np.flatnonzero(self._fitted().used))]).any(axis=1)]
        return finite if finite.size else index

    def _scores_of(self, rows: Array) -> Array:
        reading = self._fitted().read(rows)
        return self._without_blank(self._blockwise(reading).instance, reading)

    @staticmethod
    def _without_blank(scores: Array, reading: Reading) -> Array:
        """``(n,)`` scores; NaN for rows of nothing but missing values."""
        if reading.missing is None:
            return scores
        known: Array = np.where(np.all(reading.missing, axis=1), np.nan, scores)
        return known

    def _blockwise(self, reading: Reading) -> Scores:
        if len(reading.z) <= self._block:
            return self._score(reading)
        parts = [self._score(part) for part in reading.blocks(self._block)]
        return Scores(np.concatenate([p.instance for p in parts]), np.concatenate([p.feature for p in parts]))


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise :class:`DetectorError` unless ``value`` is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise DetectorError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
