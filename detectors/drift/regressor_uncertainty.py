"""Regressor uncertainty: do an ensemble's predictions differ more, or less, than on the reference?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.base import Array, Feature
from detectors.drift.derived import DerivedDrift


class RegressorUncertaintyDrift(DerivedDrift):
    """Did the uncertainty of a regressor's predictions change? The rows are several predictions of the same target.

    One column a member of an ensemble, or a draw with dropout left on; their standard deviation, row by row, is the
    uncertainty, and is tested by Kolmogorov and Smirnov's test. A model that tells its uncertainty itself, as one
    column, is watched by :class:`~detectors.drift.ks.KSDrift`.

    See :class:`~detectors.drift.derived.DerivedDrift` for parameters, missing values, and the verdict.

    References
    ----------
    Lakshminarayanan B., Pritzel A., Blundell C. (2017). Simple and scalable predictive uncertainty estimation using
    deep ensembles. NeurIPS. Gal Y., Ghahramani Z. (2016). Dropout as a Bayesian approximation. ICML.

    >>> rng = np.random.default_rng(0)
    >>> detector = RegressorUncertaintyDrift().fit(rng.normal(50, 1, size=(1000, 5)))
    >>> detector.predict(rng.normal(50, 2, size=(200, 5))).reasons[0].text
    'deviation: mean 0.84 -> 1.68'
    """

    detector_type = "RegressorUncertaintyDrift"
    least_columns = 2

    def __init__(
        self, p_val: float | None = None, ert: float | None = None, min_rows: int = 20, worst: int = 3
    ) -> None:
        super().__init__(p_val, ert, min_rows, worst)

    def _made(self, features: Sequence[Feature]) -> list[Feature]:  # noqa: ARG002 - always the one
        return [Feature("deviation")]

    def _make(self, rows: Array) -> Array:
        scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0, keepdims=True), 1e-300)
        deviation: Array = scale * (rows / scale).std(axis=1, keepdims=True)  # the squares of huge ones are no numbers
        return deviation
