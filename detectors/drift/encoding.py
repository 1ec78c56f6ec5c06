"""Columns of both kinds as coordinates, so that distances between rows mean something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Array
from detectors.drift.cells import cell_of
from detectors.drift.columns import ColumnReference

_FAR = 1e4  # standard deviations; what lies beyond is equally far, and squares stay exact


def encode(columns: Sequence[ColumnReference], rows: Array) -> Array:
    """``rows`` of shape ``(n, d)`` without missing values as coordinates of shape ``(n, e)``.

    Numeric columns are centred and scaled by the reference's mean and standard deviation (1 if that is 0);
    categorical ones become one indicator per category and one for unseen values. Two rows drawn from the
    reference then differ by about the same in a column of either kind.
    """
    parts = []
    for column, x in zip(columns, rows.T, strict=True):
        if column.feature.kind == "numeric":
            mean, std = column.moments
            std = std or 1.0
            parts.append(np.clip(x / std - mean / std, -_FAR, _FAR)[:, None])
        else:
            parts.append(np.eye(len(column.values) + 1)[cell_of(column, x)])
    return np.concatenate(parts, axis=1)


def encode_filled(columns: Sequence[ColumnReference], rows: Array) -> Array:
    """The same of rows that may have missing values: they count as the reference's mean, or as no category."""
    filled = rows.copy()
    for j, column in enumerate(columns):
        mean = column.moments[0] if column.feature.kind == "numeric" else np.nan
        filled[~np.isfinite(filled[:, j]), j] = mean
    return encode(columns, filled)
