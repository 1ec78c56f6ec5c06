"""What changed in the columns of a window, for detectors that compare sums rather than rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from detectors.base import Array, Feature, Parts, Reason
from detectors.drift.columns import ColumnReference, to_arrays
from detectors.drift.proportions import share_p
from detectors.drift.tabular import TabularDrift
from detectors.drift.words import categorical_reason, missing_reason, numeric_reason

_CLEAR = 0.01
"""Level from which a change of a column, or of its share of missing values, is told."""


def explain(
    references: Sequence[ColumnReference], n_ref: int, window: Array, columns: Sequence[int]
) -> tuple[Reason, ...]:
    """What changed in these columns, most important first, of the rows ``(w, d)`` of a window."""
    return tuple(reason for j in columns for reason in _of(references[j], n_ref, window[:, j]))


def explain_jointly(
    references: Sequence[ColumnReference], features: Sequence[Feature], n_ref: int, window: Array
) -> tuple[Reason, ...]:
    """Which columns of a window changed by themselves, or that none did, of rows that drift as a whole."""
    tested = [[c.feature.name, c.feature.kind, list(c.feature.categories)] for c in references]
    params = TabularDrift(p_val=_CLEAR, min_rows=2).meta.params
    state = {"n_ref": n_ref, "tested": tested}
    by_column = TabularDrift.from_parts(Parts(params, state, to_arrays(references), tuple(features)))
    told = "the columns' joint distribution changed, no single column did"
    return by_column.predict(window).reasons or (Reason("", "distribution", math.nan, math.nan, told),)


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
