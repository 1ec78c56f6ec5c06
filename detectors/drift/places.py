"""A place among the reference's coordinates, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detectors.base import Array, Reason
from detectors.drift.columns import ColumnReference

_NAMED = 3  # columns
_CLEAR = 0.1  # standard deviations from the mean, or as much of a category's indicator


class _Part(NamedTuple):
    size: float
    feature: str
    before: float
    after: float
    text: str


def middle(columns: Sequence[ColumnReference]) -> Array:
    """``(e,)``: the reference's mean in its coordinates, of categories their shares."""
    return np.concatenate([np.zeros(1) if c.feature.kind == "numeric" else _shares(c) for c in columns])


def _shares(column: ColumnReference) -> Array:
    return np.append(column.counts, column.unseen) / max(column.n, 1)


def tell_place(columns: Sequence[ColumnReference], place: Array, more: bool) -> Reason:
    """Where rows are more, or fewer, by the columns in which a place is furthest from the reference's mean.

    ``place`` ``(e,)`` is as seen from the :func:`middle`. ``before`` and ``after`` are the reference's mean and the
    place in the first of them; of a category its share.
    """
    parts = sorted(_parts(columns, place), key=lambda p: -p.size)
    named = [p for p in parts if p.size >= _CLEAR][:_NAMED]
    how = "more" if more else "fewer"
    if not named:
        return Reason("", "distribution", math.nan, math.nan, f"{how} rows near the reference's mean")
    told = ", ".join(p.text for p in named)
    return Reason(named[0].feature, "distribution", named[0].before, named[0].after, f"{how} rows near {told}")


def _parts(columns: Sequence[ColumnReference], place: Array) -> Iterator[_Part]:
    at = 0
    for column in columns:
        name = column.feature.name
        if column.feature.kind == "numeric":
            mean, std = column.moments
            value = mean + float(place[at]) * (std or 1.0)
            yield _Part(abs(float(place[at])), name, mean, value, f"{name} = {value:.3g} (mean {mean:.3g})")
            at += 1
            continue
        shares = _shares(column)
        block = place[at : at + len(shares)]
        best = int(np.abs(block).argmax())
        label = column.feature.categories[best] if best < len(column.values) else "a value not in the reference"
        text = f"{name} {'=' if block[best] > 0.0 else 'other than'} {label}"
        before = float(shares[best])
        yield _Part(abs(float(block[best])), name, before, before + float(block[best]), text)
        at += len(shares)
