"""What changed in the columns of a window, for detectors that compare sums rather than rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detectors.base import Array, Reason
from detectors.drift.columns import ColumnReference
from detectors.drift.proportions import share_p
from detectors.drift.words import categorical_reason, missing_reason, numeric_reason

_CLEAR = 0.01
"""Level from which a change of the share of missing values is told."""


def explain(
    references: Sequence[ColumnReference], n_ref: int, window: Array, columns: Sequence[int]
) -> tuple[Reason, ...]:
    """What changed in these columns, most important first, of the rows ``(w, d)`` of a window."""
    return tuple(reason for j in columns for reason in _of(references[j], n_ref, window[:, j]))


def _of(column: ColumnReference, n_ref: int, values: Array) -> Iterator[Reason]:
    present = values[np.isfinite(values)]
    missing = len(values) - len(present)
    if share_p(column.missing, n_ref, missing, len(values)) <= _CLEAR:
        yield missing_reason(column, missing, len(values), n_ref)
    if not (len(present) and column.n):
        return
    if column.feature.kind == "numeric":
        yield numeric_reason(column, present)
    else:
        counts = [np.count_nonzero(present == value) for value in column.values]
        yield categorical_reason(column, np.array([*counts, len(present) - sum(counts)], dtype=np.float64))
