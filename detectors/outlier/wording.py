"""Why a row was flagged, in words: which column, which value, and how the reference compares; what was missing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Feature, FeatureVerdict, Reason, State
from detectors.outlier.coordinates import Coordinates, Reading

MOST = 5
"""So many reasons at most."""

_NOTABLE = 2.0  # a coordinate below it is an ordinary value: then the combination is the reason
_WORST_ROWS = 20


def reasons(
    rows: Array,
    reading: Reading,
    scores: tuple[Array, Array],
    flagged: npt.NDArray[np.intp],
    features: tuple[Feature, ...],
    coordinates: Coordinates,
) -> tuple[Reason, ...]:
    """One reason a column, from the strangest flagged rows: its column with the largest part of the score."""
    if not flagged.size:
        return ()
    instance, feature = scores
    worst = flagged[np.argsort(-instance[flagged], kind="stable")[:_WORST_ROWS]]
    found: dict[int, Reason] = {}
    for row in worst:
        parts = feature[row]
        if np.isnan(parts).all():
            continue
        column = int(np.nanargmax(parts))
        if column not in found:
            usual = float(coordinates.fill[column])
            value = float(rows[row, column])
            text = _words(value, features[column], float(reading.z[row, column]), column, coordinates)
            found[column] = Reason(features[column].name, "distribution", usual, value, text)
        if len(found) == MOST:
            break
    return tuple(found.values())


def _words(value: float, feature: Feature, z: float, column: int, coordinates: Coordinates) -> str:
    said = f"{feature.name} = {label(value, feature)}"
    if z >= coordinates.never[column]:
        return f"{said}, never seen in the reference"
    if np.isnan(value) or abs(z) < _NOTABLE:
        return f"{said}, unusual beside the row's other values"
    if feature.kind == "categorical":
        return f"{said}, rare in the reference"
    low, high = coordinates.low[column], coordinates.high[column]
    if not low <= value <= high:
        return f"{said}, outside the reference's {low:.6g} to {high:.6g}"
    return f"{said}, unusually {'high' if z > 0 else 'low'} (usual: {coordinates.fill[column]:.6g})"


def incomplete(rows: Array, reading: Reading, features: tuple[Feature, ...]) -> tuple[FeatureVerdict, ...]:
    """An entry for every column with missing, unseen or infinite values; most batches have none."""
    infinite = np.isinf(rows)
    if reading.missing is None and reading.unseen is None and not infinite.any():
        return ()
    nothing = np.zeros(rows.shape, dtype=np.bool_)
    missing = (nothing if reading.missing is None else reading.missing).sum(axis=0)
    unseen = (nothing if reading.unseen is None else reading.unseen).sum(axis=0)
    notes = []
    for j, feature in enumerate(features):
        counts = {
            "missing, taken as the reference's usual value": int(missing[j]),
            "never seen in the reference": int(unseen[j]),
            "infinite": int(infinite[:, j].sum()),
        }
        if not any(counts.values()):
            continue
        note = "; ".join(f"{count} {what}" for what, count in counts.items() if count)
        state: State = "insufficient_data" if missing[j] == len(rows) else "ok"
        n = len(rows) - int(missing[j])
        notes.append(
            FeatureVerdict(
                feature.name, feature.kind, state, None, None, None, None, n, int(missing[j]), int(unseen[j]), note
            )
        )
    return tuple(notes)


def label(value: float, feature: Feature) -> str:
    """The category of a code, or the number.

    >>> label(1.0, Feature("sex", "categorical", ("F", "M"))), label(190.0, Feature("age"))
    ('M', '190')
    """
    if np.isnan(value):
        return "missing"
    if feature.kind == "categorical":
        if np.isfinite(value) and value == int(value) and 0 <= value < len(feature.categories):
            return feature.categories[int(value)]
        return "a value outside the categories" if value < 0 or feature.categories else f"{value:g}"
    return f"{value:.6g}"
