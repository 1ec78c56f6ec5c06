"""A classifier's outputs as probabilities."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from detectors.base import Array, DetectorError

Predictions = Literal["probs", "logits"]


def check_predictions(preds_type: object) -> None:
    """Raises :class:`DetectorError` if there is no such type."""
    if preds_type not in get_args(Predictions):
        raise DetectorError(f"preds_type must be one of {', '.join(get_args(Predictions))}, got {preds_type!r}")


def probabilities(outputs: Array, preds_type: Predictions) -> Array:
    """``(n, k)`` from finite outputs ``(n, k)``; a single column is that of the second of two classes, ``(n, 2)``.

    Probabilities are divided by their sum, so that shares and percentages will do; a row with a negative one, or of
    nothing but zeros, is NaN. Those of a single column must not be above 1. Logits are taken by softmax, a single one
    by the logistic function.

    >>> probabilities(np.array([[1.0, 3.0]]), "probs").tolist(), probabilities(np.array([[0.0]]), "logits").tolist()
    ([[0.25, 0.75]], [[0.5, 0.5]])
    """
    if preds_type == "logits":
        scores = np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs
        with np.errstate(over="ignore", under="ignore"):  # the difference of two huge ones is infinite: a share of 0
            raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Array = raised / raised.sum(axis=1, keepdims=True)
        return shares
    if outputs.shape[1] == 1:
        outputs = np.hstack([1.0 - outputs, outputs])
    largest = outputs.max(axis=1, initial=0.0, keepdims=True)
    usable = (outputs >= 0.0).all(axis=1, keepdims=True) & (largest > 0.0)
    scaled = np.divide(outputs, largest, out=np.full_like(outputs, np.nan), where=usable)
    divided: Array = scaled / scaled.sum(axis=1, keepdims=True)
    return divided
