"""Rows that are series: the values of some variables, moment after moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError, Feature
from detectors.outlier.coordinates import SMALLEST, Coordinates
from detectors.outlier.judging import check_whole
from detectors.outlier.scale import Scale

LEAST_MOMENTS = 4


def check_variables(n_features: int) -> None:
    """Raise :class:`DetectorError` unless it is a number of variables."""
    check_whole("n_features", n_features, 1, 10_000)


def moments(features: Sequence[Feature], n_features: int, detector_type: str) -> int:
    """How many moments a row has, of columns ``x_1, y_1, x_2, y_2, ...`` of ``n_features`` variables ``x, y``.

    Raises
    ------
    DetectorError : a column is categorical, or they are not some moments of as many variables each.
    """
    for feature in features:
        if feature.kind != "numeric":
            raise DetectorError(
                f"{detector_type} takes rows that are series of numbers, and {feature.name!r} is categorical"
            )
    steps, rest = divmod(len(features), n_features)
    if rest or steps < LEAST_MOMENTS:
        raise DetectorError(
            f"{detector_type} takes rows of at least {LEAST_MOMENTS} moments of {n_features} values each (n_features), "
            f"moment after moment; these have {len(features)} columns"
        )
    return steps


def series_scale(coordinates: Coordinates, rows: Array, n_features: int) -> Scale:
    """Standard deviations of each variable, of all its moments together, so that a series keeps its shape."""
    known = np.where(np.isfinite(rows), rows, coordinates.fill)
    inside = np.minimum(np.maximum(known, coordinates.low), coordinates.high)
    by_variable = inside.reshape(len(rows), -1, n_features)
    spread, centre = by_variable.std(axis=(0, 1)), by_variable.mean(axis=(0, 1))
    steps = by_variable.shape[1]
    scale = np.tile(1.0 / np.where(spread > SMALLEST, spread, 1.0), steps)
    return Scale(
        np.where(coordinates.used, scale, 0.0),
        np.tile(centre, steps),
        coordinates.low,
        coordinates.high,
        np.zeros(rows.shape[1], dtype=np.bool_),
    )


def bridged(points: Array, missing: npt.NDArray[np.bool_] | None, n_features: int) -> Array:
    """``(n, d)`` points of rows, missing moments on the line between their neighbours, at the ends as the nearest.

    >>> bridged(np.array([[1.0, 0.0, 0.0, 4.0]]), np.array([[False, True, True, False]]), 1).tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    """
    if missing is None:
        return points
    made: Array = points.copy()
    when = np.arange(points.shape[1] // n_features)
    for row in np.flatnonzero(missing.any(axis=1)):
        for variable in range(n_features):
            known = ~missing[row, variable::n_features]
            if known.any():
                told = points[row, variable::n_features]
                made[row, variable::n_features] = np.interp(when, when[known], told[known])
    return made
