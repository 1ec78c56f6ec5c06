"""What changed in a column, in the column's units: reasons for people."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Reason
from detectors.drift.columns import ColumnReference, moments
from detectors.drift.sparse import terms

_CLEAR = 3.0  # standard errors from which a change of mean or scale is named as such
_SAME_SCALE = 0.05  # a smaller relative change of scale explains nothing


def missing_reason(column: ColumnReference, missing: int, rows: int, n_ref: int) -> Reason:
    """The share of missing values changed."""
    before, after = column.missing / n_ref, missing / rows
    name = column.feature.name
    return Reason(name, "missing", before, after, f"{name}: missing {_shares(before, after)}")


def categorical_reason(column: ColumnReference, counts: Array) -> Reason:
    """The category whose change says most; ``counts`` are the window's, the last one being unseen values."""
    before = np.append(column.counts, column.unseen) / max(column.n, 1)
    after = counts / max(counts.sum(), 1.0)
    pooled = counts + np.append(column.counts, column.unseen)
    part = counts.sum() / max(pooled.sum(), 1.0)
    worst = int(terms(counts, pooled, float(part)).argmax())
    name = column.feature.name
    label = column.feature.categories[worst] if worst < len(column.values) else "values not in the reference"
    old, new = float(before[worst]), float(after[worst])
    return Reason(name, "share", old, new, f"{name}: share of {label} {_shares(old, new)}")


def numeric_reason(column: ColumnReference, x: Array) -> Reason:
    """The mean if it changed clearly, else the scale, else where the distributions are furthest apart.

    A window of one value only is told as such: a mean and a deviation of 0 would hide it.
    """
    name, (mean_ref, std_ref), (mean, std) = column.feature.name, column.moments, moments(x)
    if x.min() == x.max():
        return _constant(column, float(x[0]))
    # A window that happens to hold nothing of a long tail seems exact: the reference says how far it may be off.
    root = math.sqrt(len(x))
    error = math.hypot(std_ref / math.sqrt(column.n), max(std, std_ref) / root)
    if abs(mean - mean_ref) > _CLEAR * error:
        return Reason(name, "mean", mean_ref, mean, f"{name}: mean {_numbers(mean_ref, mean)}")
    error = max(_scale_error(x, mean, std), _scale_error(column.values, mean_ref, std_ref, column.counts)) / root
    if abs(std - std_ref) > max(_CLEAR * error, _SAME_SCALE * std_ref):
        return Reason(name, "scale", std_ref, std, f"{name}: standard deviation {_numbers(std_ref, std)}")
    return _widest_gap(column, x)


def unexplained(column: ColumnReference) -> Reason:
    """A change of which no value is at hand: all rows of the sample miss the column."""
    name, before = column.feature.name, column.moments[0]
    return Reason(name, "distribution", before, math.nan, f"{name}: the distribution of its few values changed")


def _constant(column: ColumnReference, value: float) -> Reason:
    """A column that is the same in every row of the window."""
    name, mean = column.feature.name, column.moments[0]
    share = float(column.counts[column.values == value].sum()) / column.n
    if share:
        return Reason(name, "share", share, 1.0, f"{name}: constant at {value:.10g}, share {_shares(share, 1.0)}")
    return Reason(name, "mean", mean, value, f"{name}: constant, mean {_numbers(mean, value)}")


def _scale_error(x: Array, mean: float, std: float, counts: npt.NDArray[np.int64] | None = None) -> float:
    """What one value adds to the error of a standard deviation, from the fourth moment."""
    if not std:
        return 0.0
    with np.errstate(over="ignore"):  # then the error is infinite, and the change of scale is not clear
        spread = np.average(np.square(np.square(x / std - mean / std) - 1.0), weights=counts)
    return 0.5 * std * math.sqrt(float(spread))


def _widest_gap(column: ColumnReference, x: Array) -> Reason:
    name = column.feature.name
    x = np.sort(x)
    points = np.unique(np.concatenate([x, column.values]))
    before = column.cumulative[np.searchsorted(column.values, points, side="right")]
    after = np.searchsorted(x, points, side="right") / len(x)
    worst = int(np.abs(before - after).argmax())
    old, new = float(before[worst]), float(after[worst])
    return Reason(name, "distribution", old, new, f"{name}: share up to {points[worst]:.4g} {_shares(old, new)}")


def _shares(before: float, after: float) -> str:
    """As percentages, with enough digits that they differ.

    >>> _shares(0.334, 0.8412), _shares(0.001, 0.004)
    ('33 % -> 84 %', '0.1 % -> 0.4 %')
    """
    for digits in range(6):
        texts = [f"{100.0 * share:.{digits}f} %" for share in (before, after)]
        if abs(after - before) >= 3.0 * 10.0 ** (-digits - 2) or digits == 5:
            break
    return " -> ".join(texts)


def _numbers(before: float, after: float) -> str:
    """With two digits or more of their difference.

    >>> _numbers(38.61, 22.94), _numbers(1077.2, 48000.1), _numbers(0.512, 0.5629)
    ('38.6 -> 22.9', '1077 -> 48000', '0.512 -> 0.563')
    """
    size = abs(after - before)
    if not 1e-6 < size < 1e15:
        return f"{before:.6g} -> {after:.6g}"
    digits = 0 if size >= 100.0 else 1 if size >= 1.0 else 1 - math.floor(math.log10(size))
    return f"{before:.{digits}f} -> {after:.{digits}f}"
