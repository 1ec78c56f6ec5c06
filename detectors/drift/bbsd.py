"""Black-box shift detection: did the distribution of a classifier's outputs change?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from detectors.base import Array, DetectorError, Feature
from detectors.drift.correction import Correction
from detectors.drift.derived import DerivedDrift
from detectors.predictions import Predictions, check_predictions, probabilities

Outputs = Literal["soft", "hard", "both"]


class BBSDDrift(DerivedDrift):
    """Black-box shift detection: the rows are a classifier's outputs, one column a class, named as the class.

    Each class's probability is tested by Kolmogorov and Smirnov's test (``soft``), the label that has the largest by
    a chi-squared test (``hard``), corrected for their number. It needs no access to the model, works however wide its
    inputs are, and tells by which classes. It finds changes of the classes' shares, even by a mediocre model, and of
    the inputs as far as they reach the outputs. A single column is that of the second of two classes.

    Parameters
    ----------
    outputs : ``soft``, ``hard`` or ``both``.
    preds_type : ``probs`` (divided by their sum; a row with a negative one counts as missing) or ``logits``.
    correction : across the tests: ``none``, ``bonferroni``, ``holm``, ``bh``, ``by``.

    See :class:`~detectors.drift.derived.DerivedDrift` for the other parameters, missing values, and the verdict.

    References
    ----------
    Lipton Z., Wang Y.-X., Smola A. (2018). Detecting and correcting for label shift with black box predictors. ICML.
    Rabanser S., Guennemann S., Lipton Z. (2019). Failing loudly: an empirical study of methods for detecting dataset
    shift. NeurIPS.

    >>> rng = np.random.default_rng(0)
    >>> pets = [Feature("cat"), Feature("dog")]
    >>> detector = BBSDDrift().fit(rng.dirichlet([2, 2], size=2000), pets)
    >>> for reason in detector.predict(rng.dirichlet([2, 1], size=500)).reasons:
    ...     print(reason.text)
    cat: mean 0.51 -> 0.68
    dog: mean 0.49 -> 0.32
    predicted: share of dog 47 % -> 22 %
    """

    detector_type = "BBSDDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        outputs: Outputs = "both",
        preds_type: Predictions = "probs",
        correction: Correction = "bonferroni",
        min_rows: int = 20,
        worst: int = 3,
    ) -> None:
        check_predictions(preds_type)
        if outputs not in get_args(Outputs):
            raise DetectorError(f"outputs must be one of {', '.join(get_args(Outputs))}, got {outputs!r}")
        super().__init__(p_val, ert, min_rows, worst, correction, outputs=outputs, preds_type=preds_type)
        self._params["correction"] = correction
        self._preds_type, self._outputs = preds_type, outputs

    def _made(self, features: Sequence[Feature]) -> list[Feature]:
        made = [] if self._outputs == "hard" else [Feature(feature.name) for feature in features]
        if self._outputs != "soft":
            labels = tuple(feature.name for feature in features)
            labels = (f"not {labels[0]}", *labels) if len(labels) == 1 else labels
            made.append(Feature("predicted label" if "predicted" in labels else "predicted", "categorical", labels))
        return made

    def _make(self, rows: Array) -> Array:
        shares = probabilities(rows, self._preds_type)
        unknown = np.isnan(shares).any(axis=1)
        label = np.where(unknown, np.nan, np.nan_to_num(shares).argmax(axis=1).astype(np.float64))
        soft = shares[:, 1:] if rows.shape[1] == 1 else shares
        parts = {"soft": [soft], "hard": [label[:, None]], "both": [soft, label[:, None]]}[self._outputs]
        return np.concatenate(parts, axis=1)
