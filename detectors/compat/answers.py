"""What alibi-detect's drift detectors answer, as numbers that verdicts are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array, DetectorError
from detectors.drift.correction import correct

_SMALLEST_P = 1e-300


class Answer(NamedTuple):
    """``p`` of the whole test, corrected; ``None`` if it is not known.

    ``by_column`` holds ``(m,)`` statistics and p-values if there was a test a column; each p-value is compared with
    ``threshold``. ``statistic`` and ``critical`` are those of a test of whole rows that tells them.
    """

    p: float | None
    drift: bool
    by_column: tuple[Array, Array] | None
    threshold: float
    statistic: float | None = None
    critical: float | None = None


def read(data: Mapping[str, Any], level: float, correction: str, n_permutations: int | None) -> Answer:
    """The ``data`` of an answer. Of ``k`` of ``P`` permutations the p-value is ``(k + 1) / (P + 1)``, never 0.

    >>> told = {"is_drift": 1, "p_val": np.array([0.001, 0.4]), "distance": np.array([0.5, 0.1]), "threshold": 0.025}
    >>> answer = read(told, 0.05, "bonferroni", None)
    >>> answer.p, answer.drift
    (0.002, True)
    """
    try:
        p = np.asarray(data["p_val"], dtype=np.float64)
        distance = np.asarray(data["distance"], dtype=np.float64)
        limits, drift = np.asarray(data["threshold"], dtype=np.float64), bool(data["is_drift"])
        threshold = float(limits.ravel()[0])
        critical = float(data.get("distance_threshold", math.nan))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DetectorError(f"alibi-detect's answer cannot be read: {error!r}") from None
    if p.ndim:
        known = p[~np.isnan(p)]
        if not known.size:
            return Answer(None, False, (distance, p), threshold)
        own, whole = correct(known, level, "bh" if correction == "fdr" else "bonferroni")
        # With the false discovery rate there is a threshold for each rank, where nothing drifted.
        return Answer(whole, drift, (distance, p), threshold if limits.size == 1 else own)
    if np.isnan(p) or np.isnan(distance):
        return Answer(None, False, None, threshold)
    one = float(p)
    if n_permutations:
        one = (round(one * n_permutations) + 1) / (n_permutations + 1)
    known_critical = None if math.isnan(critical) else critical
    return Answer(one, drift, None, threshold, float(distance), known_critical)


def surprise(p: float) -> float:
    """``-log10(p)``: larger is stranger."""
    return -math.log10(max(p, _SMALLEST_P)) + 0.0
