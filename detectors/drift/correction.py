"""Corrections for testing many columns at once: what a p-value must be below, and the corrected smallest p-value."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from detectors.base import Array

Correction = Literal["none", "bonferroni", "holm", "bh", "by"]
CORRECTIONS: tuple[str, ...] = get_args(Correction)


def correct(p: Array, level: float, method: str) -> tuple[float, float]:
    """The threshold that ``p <= threshold`` rejects exactly what ``method`` rejects, and the smallest adjusted p.

    ``bonferroni`` and ``holm`` hold the probability of any false alarm under ``level``, ``bh`` (independent or
    positively dependent columns) and ``by`` (any dependence) the expected share of false alarms among the alarms;
    where nothing drifted, all four hold the first. ``none`` holds it for each column alone.

    Parameters
    ----------
    p : ``(m,)`` p-values, ``m >= 1``.
    level : of the whole family.
    method : ``none``, ``bonferroni``, ``holm`` (1979), ``bh`` (Benjamini & Hochberg 1995) or ``by`` (Benjamini &
        Yekutieli 2001).

    >>> threshold, smallest = correct(np.array([0.001, 0.015, 0.2, 0.9]), 0.05, "bh")
    >>> round(threshold, 4), round(smallest, 4)
    (0.025, 0.004)
    """
    m = p.size
    if method == "none":
        return level, float(p.min())
    if method == "bonferroni" or m == 1:
        return level / m, min(1.0, m * float(p.min()))
    rank = np.arange(1, m + 1)
    ordered = np.sort(p)
    if method == "holm":
        kept = np.flatnonzero(ordered > level / (m - rank + 1))
        threshold = level / (m - int(kept[0])) if kept.size else level
        return threshold, min(1.0, m * float(ordered[0]))
    if method == "by":
        level = level / float(np.sum(1.0 / rank))
        scale = m * float(np.sum(1.0 / rank))
    else:
        scale = float(m)
    rejected = np.flatnonzero(ordered <= level * rank / m)
    threshold = level * (int(rejected[-1]) + 1 if rejected.size else 1) / m
    return threshold, min(1.0, float(np.min(scale * ordered / rank)))
