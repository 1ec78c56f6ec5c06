"""Which columns of rows are the model's answers, and which it was asked with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectors.base import DetectorError, Feature

Index = npt.NDArray[np.intp]


def answer_columns(
    features: Sequence[Feature], outputs: Sequence[str] | None, model: str | None, detector_type: str
) -> tuple[Index, Index]:
    """Places of the inputs and of the answers. With a ``model`` all columns are inputs.

    Raises
    ------
    DetectorError : neither ``outputs`` nor ``model`` is given; a named column is not there, or categorical; there are
        no inputs; or a model would be asked with categories.

    >>> both = answer_columns([Feature("age"), Feature("yes")], ["yes"], None, "ModelDistillation")
    >>> [places.tolist() for places in both]
    [[0], [1]]
    """
    names = [feature.name for feature in features]
    if model is not None:
        wrong = [feature.name for feature in features if feature.kind != "numeric"]
        if wrong:
            raise DetectorError(f"model takes numbers only, and {wrong[0]!r} is categorical: say outputs in its place")
        return np.arange(len(names)), np.empty(0, dtype=np.intp)
    if outputs is None:
        raise DetectorError(
            f"{detector_type} compares a model's answers: name the columns that hold them as outputs (in a monitor: "
            "with side: joined), or a program of torch.export as model"
        )
    lost = [name for name in outputs if name not in names]
    if lost:
        raise DetectorError(f"outputs names {', '.join(lost)}, and the columns are {', '.join(names)[:500]}")
    answers = np.array([names.index(name) for name in outputs], dtype=np.intp)
    wrong = [names[i] for i in answers if features[i].kind != "numeric"]
    if wrong:
        raise DetectorError(f"outputs are probabilities or logits, and {wrong[0]!r} is categorical")
    inputs = np.setdiff1d(np.arange(len(names)), answers)
    if not inputs.size:
        raise DetectorError(
            "outputs names every column: what the model was asked with must be there too (side: joined)"
        )
    return inputs, answers


def check_answers(outputs: object, model: object) -> None:
    """Raise :class:`DetectorError` unless at most one is given, and outputs are names."""
    if outputs is None:
        return
    names = list(outputs) if isinstance(outputs, (list, tuple)) else []
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise DetectorError(f"outputs must be a list of names of columns, each once, got {outputs!r}")
    if model is not None:
        raise DetectorError("give outputs or model, not both: model is asked for its answers")


def check_shape(shape: object) -> None:
    """Raise :class:`DetectorError` unless it is a list of sizes, or none."""
    if shape is None:
        return
    sizes = list(shape) if isinstance(shape, (list, tuple)) else []
    if not sizes or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
        raise DetectorError(f"input_shape must be a list of sizes of at least 1, such as [1, 28, 28], got {shape!r}")
