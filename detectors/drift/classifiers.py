"""Classifiers that tell a window's rows from the reference's, and the test of whether they can."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from detectors.base import Array
from detectors.extras import need

Score = Callable[[Array], Array]
"""``(n, e)`` coordinates to ``(n,)``: the larger, the more like the window."""

Bools = npt.NDArray[np.bool_]


def logistic(x: Array, of_window: Bools) -> Score:
    """Logistic regression on ``(n, e)`` coordinates, both samples weighing the same. Needs scikit-learn."""
    linear = need("sklearn.linear_model", "ClassifierDrift")
    fitted = linear.LogisticRegression(class_weight="balanced", max_iter=1000).fit(x, of_window)
    return lambda points: np.asarray(fitted.decision_function(points), dtype=np.float64)


def forest(x: Array, of_window: Bools, n_estimators: int, seed: int) -> Score:
    """A random forest, the same. Needs scikit-learn."""
    ensemble = need("sklearn.ensemble", "ClassifierDrift")
    made = ensemble.RandomForestClassifier(
        n_estimators, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=1
    )
    fitted = made.fit(x, of_window)
    return lambda points: np.asarray(fitted.predict_proba(points)[:, 1], dtype=np.float64)


class Separation(NamedTuple):
    """How well scores separate ``m`` rows of a window from ``n`` of the reference: ``auc``, 0.5 is not at all.

    ``deviation`` is the standard deviation of the AUC without drift.
    """

    auc: float
    deviation: float
    half: float
    """Half of the smallest step that the AUC can make."""

    @property
    def p_val(self) -> float:
        """Of the one-sided Mann-Whitney test, with ties, by the normal approximation with continuity correction."""
        if not self.deviation > 0.0:
            return 1.0
        return float(ndtr(-(self.auc - 0.5 - self.half) / self.deviation))

    def critical(self, level: float) -> float:
        """The AUC from which the p-value is at most the level."""
        return 0.5 + self.half + float(ndtri(1.0 - level)) * self.deviation


def separation(of_reference: Array, of_window: Array) -> Separation:
    """From the scores ``(n,)`` and ``(m,)`` of rows that the classifier has not seen.

    >>> found = separation(np.array([0.1, 0.4, 0.35, 0.2]), np.array([0.8, 0.3, 0.9]))
    >>> round(found.auc, 4), round(found.p_val, 4)
    (0.8333, 0.108)
    """
    n, m = len(of_reference), len(of_window)
    _, place, ties = np.unique(np.concatenate([of_reference, of_window]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - 0.5 * (ties - 1))[place.ravel()]
    auc = (float(ranks[n:].sum()) - m * (m + 1) / 2.0) / (n * float(m))
    total = float(n + m)
    tied = float(np.sum(ties.astype(np.float64) ** 3 - ties)) / (total * (total - 1.0))
    return Separation(auc, float(np.sqrt(max(total + 1.0 - tied, 0.0) / (12.0 * n * m))), 0.5 / (n * float(m)))
