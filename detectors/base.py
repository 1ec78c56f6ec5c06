"""What every detector takes and answers: features, verdicts, protocols and errors.

Rows are ``float64`` matrices of shape ``(n, d)``. A categorical column holds codes: ``i`` stands for
``categories[i]``, :data:`UNSEEN` for a value outside them; ``NaN`` is a missing value in any column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

Array = npt.NDArray[np.float64]
FeatureKind = Literal["numeric", "categorical"]
DetectorKind = Literal["drift", "outlier", "adversarial"]
State = Literal["ok", "alert", "insufficient_data"]

UNSEEN = -1.0
"""The code of a categorical value that is in none of the feature's categories."""


class DetectorError(ValueError):
    """A detector cannot do what it was asked; the message says what was wrong and what to do."""


class NotFittedError(DetectorError):
    """``predict`` came before ``fit``."""


class ShapeError(DetectorError):
    """Rows have another number of columns, or of dimensions, than the detector was fitted on."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column: its name, its kind and, if categorical, the labels of the codes 0, 1, ...

    >>> Feature("sex", "categorical", ("Female", "Male")).categories[1]
    'Male'
    """

    name: str
    kind: FeatureKind = "numeric"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """What a detector is. ``min_rows`` is the smallest window on which it will speak."""

    detector_type: str
    kind: DetectorKind
    params: Mapping[str, Any]
    features: tuple[Feature, ...] = ()
    n_ref: int = 0
    min_rows: int = 1


@dataclass(frozen=True, slots=True)
class Reason:
    """What changed in one column, in the column's units. ``text`` is one sentence fragment for people.

    ``change`` is one of ``mean``, ``scale``, ``share``, ``missing``, ``distribution``; ``before`` and
    ``after`` are the values in the reference and in the judged rows.
    """

    feature: str
    change: str
    before: float
    after: float
    text: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of the reference and of the judged rows in the same bins; each sums to 1 (or to 0 if empty).

    Numeric: ``labels`` is empty and ``edges`` has one more entry than the shares. Categorical: ``edges`` is
    empty and ``labels`` has one entry per share.
    """

    reference: tuple[float, ...]
    window: tuple[float, ...]
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """The size of a change of one column, and its 95 % interval: ``psi``, ``jensen_shannon`` or ``wasserstein``.

    :mod:`detectors.drift.effects` says what they are.
    """

    name: str
    value: float
    low: float
    high: float


class FeatureVerdict(NamedTuple):
    """The verdict on one column. ``state`` is its own: one unusable column never aborts the others.

    ``note`` says why a column is not ``ok``/``alert`` (for example ``"constant in the reference"``).
    """

    name: str
    kind: FeatureKind
    state: State
    statistic: float | None
    p_val: float | None
    threshold: float | None
    effect_size: float | None
    n: int
    missing: int = 0
    unseen: int = 0
    note: str = ""
    histogram: Histogram | None = None
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The answer of a detector.

    Parameters
    ----------
    state : ``ok``, ``alert`` or ``insufficient_data``; a window below the minimum is never ``ok``.
    statistic, threshold : what was compared; larger is stranger. ``None`` when there was too little data.
    p_val : probability of a statistic at least as large without drift; ``None`` for detectors without one.
    effect_size : size of the change on a scale from 0 (none); its meaning is the detector's.
    n : number of rows judged.
    features : per-column verdicts (drift), in column order.
    reasons : what changed, most important first.
    instance_score : outlier and adversarial detectors: ``(n,)`` scores, larger is stranger.
    feature_score : ``(n, d)`` contributions to the score, where the detector knows them.

    >>> Verdict("ok", n=3, instance_score=np.array([0.1, 0.9, 0.2]), threshold=0.5).is_outlier.tolist()
    [False, True, False]
    """

    state: State
    n: int
    statistic: float | None = None
    threshold: float | None = None
    p_val: float | None = None
    effect_size: float | None = None
    features: tuple[FeatureVerdict, ...] = ()
    reasons: tuple[Reason, ...] = ()
    instance_score: Array | None = field(default=None, repr=False)
    feature_score: Array | None = field(default=None, repr=False)

    @property
    def is_outlier(self) -> npt.NDArray[np.bool_]:
        """``(n,)``: rows whose score is above the threshold. A score of NaN (a row with missing values) is not."""
        if self.instance_score is None or self.threshold is None:
            return np.zeros(self.n, dtype=np.bool_)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.instance_score > self.threshold, dtype=np.bool_)

    @property
    def is_drift(self) -> bool:
        return self.state == "alert"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; arrays as lists, NaN and infinities as ``None``."""
        return {f.name: to_json(getattr(self, f.name)) for f in fields(self)}


def to_json(value: Any) -> Any:
    """``value`` (dataclasses, arrays, numbers, mappings, sequences) as plain JSON values; not finite is ``None``."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, FeatureVerdict):
        return to_json(value._asdict())
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [to_json(v) for v in value]
    return value


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a fitted detector is: JSON values and arrays. What :mod:`detectors.artifact` writes and reads."""

    params: Mapping[str, Any]
    state: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]
    features: tuple[Feature, ...]


@runtime_checkable
class Detector(Protocol):
    """Judges rows. ``predict`` mutates neither ``x`` nor the detector; same input, same answer."""

    @property
    def meta(self) -> Meta: ...

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge ``x`` of shape ``(n, d)``; raises :class:`ShapeError` on another ``d``."""
        ...


@runtime_checkable
class Fittable(Detector, Protocol):
    """Learns what is normal from a reference."""

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Learn from ``x_ref`` of shape ``(n_ref, d)``; ``features`` default to numeric ``x0, x1, ...``."""
        ...


@runtime_checkable
class Saveable(Detector, Protocol):
    """Can be written to an artefact and read back with an identical next verdict."""

    def to_parts(self) -> Parts: ...

    @classmethod
    def from_parts(cls, parts: Parts) -> Self: ...


def default_features(d: int) -> tuple[Feature, ...]:
    """Numeric features ``x0`` to ``x{d-1}``."""
    return tuple(Feature(f"x{i}") for i in range(d))


def as_rows(x: npt.ArrayLike, d: int | None = None) -> Array:
    """``x`` as a ``float64`` matrix, copied only where its dtype demands it.

    Raises
    ------
    ShapeError : ``x`` is not two-dimensional, not numeric, or has not ``d`` columns.

    >>> as_rows([[1, 2], [3, 4]]).dtype
    dtype('float64')
    """
    try:
        rows = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"rows must be numeric, of shape (n, d): {error}") from None
    if rows.ndim != 2:
        raise ShapeError(f"rows must have the shape (n, d), got {rows.shape}; one row is x[None, :]")
    if d is not None and rows.shape[1] != d:
        raise ShapeError(f"the detector was fitted on {d} columns, these rows have {rows.shape[1]}")
    return rows
