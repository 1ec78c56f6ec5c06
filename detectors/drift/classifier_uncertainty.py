"""Classifier uncertainty: is the model less, or more, sure of itself than on the reference?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import entr

from detectors.base import Array, DetectorError, Feature
from detectors.drift.derived import DerivedDrift
from detectors.predictions import Predictions, check_predictions, probabilities

Uncertainty = Literal["entropy", "margin"]


class ClassifierUncertaintyDrift(DerivedDrift):
    """Did the uncertainty of a classifier's predictions change? The rows are its outputs, one column a class.

    It sees what harms the model, and no change of the inputs that does not reach its outputs; a model that is wrong and
    sure of it is not seen. A single column is the probability (or logit) of the second of two classes.

    Parameters
    ----------
    preds_type : ``probs`` (divided by their sum; a row with a negative one counts as missing) or ``logits``.
    uncertainty_type : ``entropy`` of the probabilities, in nats, by a Kolmogorov-Smirnov test; ``margin``: the share of
        rows whose two largest probabilities are at most ``margin_width`` apart, by a chi-squared test.
    margin_width : with ``margin``.

    See :class:`~detectors.drift.derived.DerivedDrift` for the other parameters, missing values, and the verdict.

    References
    ----------
    Sethi T. S., Kantardzic M. (2017). On the reliable detection of concept drift from streaming unlabeled data. Expert
    Systems with Applications 82.

    >>> rng = np.random.default_rng(0)
    >>> detector = ClassifierUncertaintyDrift().fit(rng.dirichlet([0.2, 0.2, 0.2], size=1000))
    >>> detector.predict(rng.dirichlet([2.0, 2.0, 2.0], size=200)).reasons[0].text
    'entropy: mean 0.42 -> 0.95'
    """

    detector_type = "ClassifierUncertaintyDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        preds_type: Predictions = "probs",
        uncertainty_type: Uncertainty = "entropy",
        margin_width: float = 0.1,
        min_rows: int = 20,
        worst: int = 3,
    ) -> None:
        check_predictions(preds_type)
        if uncertainty_type not in get_args(Uncertainty):
            known = ", ".join(get_args(Uncertainty))
            raise DetectorError(f"uncertainty_type must be one of {known}, got {uncertainty_type!r}")
        if not 0.0 < margin_width < 1.0:
            raise DetectorError(f"margin_width must be between 0 and 1, got {margin_width!r}")
        own: dict[str, Any] = {
            "preds_type": preds_type,
            "uncertainty_type": uncertainty_type,
            "margin_width": margin_width,
        }
        super().__init__(p_val, ert, min_rows, worst, **own)
        self._preds_type, self._width = preds_type, margin_width
        self._by_margin = uncertainty_type == "margin"

    def _made(self, features: Sequence[Feature]) -> list[Feature]:  # noqa: ARG002 - always the one
        if self._by_margin:
            return [Feature("margin", "categorical", ("clear", "narrow"))]
        return [Feature("entropy")]

    def _make(self, rows: Array) -> Array:
        shares = probabilities(rows, self._preds_type)
        if not self._by_margin:
            entropy: Array = entr(shares).sum(axis=1, keepdims=True)
            return entropy
        ordered = np.sort(shares, axis=1)
        margin = ordered[:, -1:] - ordered[:, -2:-1]
        return np.where(np.isnan(margin), np.nan, (margin <= self._width).astype(np.float64))
