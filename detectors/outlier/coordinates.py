"""How rows of mixed columns become comparable numbers for outlier detectors.

Every column is brought to one scale, on which 0 is ordinary and the square reads as twice the surprise in nats, so
that a rare category, an extreme number and an impossible number can be weighed against each other:

- **Numeric.** Within the reference's range, the normal score of the value's rank (nonparanormal; Liu, Lafferty &
  Wasserman 2009), so that a heavy tail in the reference does not hide everything else. Beyond the range it grows by 1
  per standard deviation (of the middle half of the reference: IQR / 1.349; of all of it if that is 0), without end up
  to :data:`FARTHEST`; infinities stand there.
- **Categorical.** ``sqrt(2 log(p_max / p))`` for a category of share ``p`` where the most frequent one has ``p_max``.
- **Never seen** in the reference (:data:`detectors.base.UNSEEN`, a code without rows, a code that is no whole number,
  or any other value of a column that was constant): that of a category seen half a time, plus :data:`BEYOND`.
- **Missing** (NaN): the reference's median or most frequent category. The row's other columns still count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from typing_extensions import Self

from detectors.base import UNSEEN, Array, DetectorError, Feature, ShapeError, default_features

FARTHEST = 1e6
"""No value is farther than so many standard deviations beyond the reference's range."""

BEYOND = 3.0
"""So much stranger than the rarest category is one that was never seen."""

MAX_CODES = 100_000
SMALLEST = 1e-140
_HUGE = 1e140  # beyond it, and below the smallest, squares and quotients overflow
_KNOTS = 33


class Reading(NamedTuple):
    """Rows in coordinates; ``missing``, ``unseen`` and ``excess`` are ``None`` where no value is.

    ``values`` ``(n, d)`` : as given, finite, missing ones filled; ``z`` ``(n, d)`` : coordinates; ``excess`` ``(n, d)``
    : the part of ``z`` beyond all that the reference holds, :data:`BEYOND` for a value never seen.
    """

    values: Array
    z: Array
    missing: npt.NDArray[np.bool_] | None
    unseen: npt.NDArray[np.bool_] | None
    excess: Array | None

    @property
    def inside(self) -> Array:
        """``(n, d)`` coordinates of the nearest values that the reference might hold."""
        return self.z if self.excess is None else self.z - self.excess

    @property
    def beyond(self) -> Array:
        """``(n, d)``: by how much the square of a coordinate is more than :attr:`inside` allows; mostly 0."""
        return np.zeros(self.z.shape) if self.excess is None else self.excess * (2.0 * self.z - self.excess)

    def blocks(self, size: int) -> Iterator[Reading]:
        """The same rows, at most so many at a time."""
        for start in range(0, len(self.z), size):
            part = slice(start, start + size)
            missing, unseen = (None if mask is None else mask[part] for mask in (self.missing, self.unseen))
            excess = None if self.excess is None else self.excess[part]
            yield Reading(self.values[part], self.z[part], missing, unseen, excess)


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """What was learnt from the reference; see the module. All arrays but the knots are ``(d,)``.

    ``fill`` replaces missing values; ``low`` and ``high`` are the ends of the knots, ``unit`` the standard deviation
    that counts beyond them; ``never`` is the coordinate of a value never seen (infinite for numeric columns);
    ``levelled`` marks columns judged by levels (categorical or constant); ``used`` those with any value.

    >>> rows = np.array([[20.0, 0], [30, 0], [40, 0], [50, 1]])
    >>> ages = Coordinates.learn(rows, (Feature("age"), Feature("sex", "categorical", ("F", "M"))))
    >>> ages.read(np.array([[35.0, 0], [90.0, 1], [np.nan, -1]])).z.round(2).tolist()
    [[0.0, 0.0], [4.75, 1.48], [0.0, 4.89]]
    """

    fill: Array
    low: Array
    high: Array
    unit: Array
    never: Array
    levelled: npt.NDArray[np.bool_]
    used: npt.NDArray[np.bool_]
    knots: Array
    heights: Array

    @classmethod
    def learn(cls, rows: Array, features: Sequence[Feature]) -> Self:
        """Learn from reference rows ``(n_ref, d)``; infinities in them are left out."""
        columns = [_column(rows[:, j], feature) for j, feature in enumerate(features)]
        singles = {
            name: np.array([getattr(c, name) for c in columns])
            for name in ("fill", "low", "high", "unit", "never", "levelled", "used")
        }
        # Every column's knots are squeezed into [2j, 2j + 1], so that one np.interp reads all columns.
        squeezed = [2.0 * j + (c.knots - c.low) / (c.high - c.low) for j, c in enumerate(columns)]
        return cls(**singles, knots=np.concatenate(squeezed), heights=np.concatenate([c.heights for c in columns]))

    def read(self, rows: Array) -> Reading:
        """Bring ``(n, d)`` rows to coordinates; ``rows`` is left as it is."""
        values, missing = self._finite(rows)
        inside = np.minimum(np.maximum(values, self.low), self.high)
        squeezed = inside - self.low
        squeezed /= self.high - self.low
        squeezed += 2.0 * np.arange(len(self.low))
        # Column after column: np.interp starts its search at the neighbour it found last.
        z = np.interp(squeezed.T.ravel(), self.knots, self.heights).reshape(squeezed.T.shape).T
        excess = None
        if (inside != values).any():
            beyond = np.clip((values - inside) / self.unit, -FARTHEST, FARTHEST)
            z = z + beyond
            excess = beyond
            measured = np.isfinite(self.unit)  # a level has no distance to the others, nor has a column without values
            moved = inside + beyond * np.where(measured, self.unit, 0.0)
            values = np.where(measured | ~self.used, moved, values)
        unseen = z >= self.never
        if not unseen.any():
            return Reading(values, z, missing, None, excess)
        excess = np.where(unseen, BEYOND, 0.0 if excess is None else excess)
        return Reading(values, z, missing, unseen, excess)

    def _finite(self, rows: Array) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        flat = rows.ravel()
        with np.errstate(invalid="ignore", over="ignore"):
            if flat @ flat < _HUGE * _HUGE:  # false for NaN, too
                return rows, None
        missing = np.isnan(rows)
        filled = np.clip(np.where(missing, self.fill, rows), -_HUGE, _HUGE)
        return filled, missing if missing.any() else None

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {f"coordinates.{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        return cls(**{f.name: arrays[f"coordinates.{f.name}"] for f in fields(cls)})


class _Column(NamedTuple):
    fill: float
    low: float
    high: float
    unit: float
    never: float
    levelled: bool
    used: bool
    knots: Array
    heights: Array


def check_features(features: Sequence[Feature] | None, d: int) -> tuple[Feature, ...]:
    """``features``, or the default ones; raises :class:`ShapeError` if they are not ``d``."""
    chosen = default_features(d) if features is None else tuple(features)
    if len(chosen) != d:
        raise ShapeError(f"{len(chosen)} features describe rows of {d} columns; give one feature per column")
    return chosen


def _column(column: Array, feature: Feature) -> _Column:
    known = column[np.isfinite(column) & (np.abs(column) < _HUGE)]
    if not known.size:  # nothing is known about this column, so nothing in it is strange
        flat = np.zeros(2)
        return _Column(0.0, 0.0, 1.0, np.inf, np.inf, False, False, np.array([0.0, 1.0]), flat)
    if feature.kind == "categorical":
        return _categorical(known, feature)
    if known.min() == known.max():
        return _constant(float(known[0]), known.size)
    return _numeric(known)


def _numeric(known: Array) -> _Column:
    values, counts = np.unique(known, return_counts=True)
    scores = ndtri((np.cumsum(counts) - counts / 2.0) / known.size)
    if len(values) > _KNOTS:
        wanted = np.searchsorted(scores, np.linspace(scores[0], scores[-1], _KNOTS))
        chosen = np.unique(np.clip(wanted, 0, len(values) - 1))
        values, scores = values[chosen], scores[chosen]
    quarter, median, three = np.percentile(known, [25, 50, 75])
    unit = (three - quarter) / 1.349 or float(known.std())
    low, high = float(values[0]), float(values[-1])
    unit = max(unit, SMALLEST)
    return _Column(float(median), low, high, unit, np.inf, False, True, values, scores)


def _never_seen(n: int, largest_share: float) -> float:
    return float(np.sqrt(2.0 * np.log(largest_share * 2.0 * n)) + BEYOND)


def _constant(value: float, n: int) -> _Column:
    never, slack = _never_seen(n, 1.0), 1e-9 * max(abs(value), 1.0)
    knots = np.array([value - slack, value, value + slack])
    return _Column(value, knots[0], knots[2], np.inf, never, True, True, knots, np.array([never, 0.0, never]))


def _categorical(known: Array, feature: Feature) -> _Column:
    """Three knots a code: what lies between two codes was never seen."""
    whole = known[(known == np.rint(known)) & (known >= UNSEEN)].astype(np.int64)
    top = max(len(feature.categories), int(whole.max(initial=-1)) + 1)
    if top > MAX_CODES:
        raise DetectorError(
            f"column {feature.name!r} is categorical with codes up to {top - 1}: looks like an id; "
            f"leave it out, or declare it numeric (at most {MAX_CODES} categories)"
        )
    # Codes -1 (UNSEEN), 0 ... top - 1, and top for everything above.
    counts = np.bincount(whole + 1, minlength=top + 2)
    share = counts / max(known.size, 1)
    largest = float(share.max()) or 1.0
    never = _never_seen(known.size, largest)
    with np.errstate(divide="ignore"):
        height = np.where(counts > 0, np.sqrt(2.0 * np.log(largest / share)), never)
    codes = np.arange(-1.0, top + 1)
    knots = (codes[:, None] + [-1e-6, 0.0, 1e-6]).ravel()
    heights = np.column_stack([np.full_like(height, never), height, np.full_like(height, never)]).ravel()
    mode = float(codes[int(counts.argmax())])
    return _Column(mode, knots[0], knots[-1], np.inf, never, True, True, knots, heights)
