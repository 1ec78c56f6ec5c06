"""Classifier two-sample test: can a classifier tell the window's rows from the reference's?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.device import check_device
from detectors.drift.classifiers import Bools, Score, forest, logistic, separation
from detectors.drift.columns import ColumnReference
from detectors.drift.encoding import encode
from detectors.drift.holdout import check_train_size, part
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.perceptron import perceptron

Model = Literal["forest", "logistic", "mlp"]


class ClassifierDrift(JointDrift):
    """Can a classifier, trained on one part of the reference and the window, tell their other parts apart?

    The statistic is the area under its ROC curve on rows it has not seen: 0.5 if it cannot, 1 if it can without a
    mistake. The p-value is that of the one-sided Mann-Whitney test. Rows are parted once: where folds take turns and
    their scores are pooled, each pair of rows counts twice, and a level of 0.05 comes to about 0.1.
    Numeric columns are standardised by the reference, categorical ones become indicators.

    Parameters
    ----------
    model : ``forest`` (random forest) finds changes of any kind; ``logistic`` (regression) of means and shares only, in
        a tenth of the time; both need ``pip install "offpath[sklearn]"``. ``mlp`` (a neural network with two hidden
        layers) needs ``pip install "offpath[torch]"``, and suits many columns and large windows.
    train_size : share of the rows that it is trained on.
    n_estimators : trees of a ``forest``.
    epochs, learning_rate, batch_size : of the training of ``mlp``.
    device : of ``mlp``: ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict.
    ``effect_size`` is ``2 AUC - 1``: 0 none, 1 disjoint.

    References
    ----------
    Lopez-Paz D., Oquab M. (2017). Revisiting classifier two-sample tests. ICLR.

    >>> import pytest; _ = pytest.importorskip("sklearn")
    >>> rng = np.random.default_rng(0)
    >>> detector = ClassifierDrift(n_estimators=30).fit(rng.normal(size=(1000, 2)))
    >>> x = rng.normal(size=(400, 1))
    >>> verdict = detector.predict(np.hstack([x, x]))  # each column alone is as it was
    >>> verdict.state, round(verdict.statistic, 1)
    ('alert', 1.0)
    """

    detector_type = "ClassifierDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        model: Model = "forest",
        train_size: float = 0.5,
        n_estimators: int = 100,
        epochs: int = 20,
        learning_rate: float = 0.001,
        batch_size: int = 64,
        max_ref: int = 5000,
        max_rows: int = 5000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed)
        if model not in get_args(Model):
            raise DetectorError(f"model must be one of {', '.join(get_args(Model))}, got {model!r}")
        check_train_size(train_size)
        for name, value in (("n_estimators", n_estimators), ("epochs", epochs), ("batch_size", batch_size)):
            if not isinstance(value, int) or not 1 <= value <= 100_000:
                raise DetectorError(f"{name} must be a whole number from 1 to 100000, got {value!r}")
        if not 0.0 < learning_rate < math.inf:
            raise DetectorError(f"learning_rate must be a positive number, got {learning_rate!r}")
        check_device(device)
        self._own: dict[str, Any] = {
            "model": model,
            "train_size": train_size,
            "n_estimators": n_estimators,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "device": device,
        }
        self._params |= self._own
        self._reference: Array

    @classmethod
    def required(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Packages that it needs beyond the core's with these parameters, each an extra of the same name."""
        return ("torch",) if params.get("model") == "mlp" else ("sklearn",)

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        self._reference = encode(columns, rows)
        self._trained(self._reference[:2], np.array([False, True]))  # what is not installed is told now

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        rng = np.random.default_rng([self._seed, 4])
        window = encode(columns, rows)
        parted = [part(points, self._own["train_size"], rng) for points in (self._reference, window)]
        seen, unseen = zip(*parted, strict=True)
        score = self._trained(np.concatenate(seen), np.repeat([False, True], [len(points) for points in seen]))
        found = separation(*(score(points) for points in unseen))
        return JointResult(found.auc, found.p_val, found.critical, max(2.0 * found.auc - 1.0, 0.0), 0.5)

    def _trained(self, x: Array, of_window: Bools) -> Score:
        own = self._own
        if own["model"] == "logistic":
            return logistic(x, of_window)
        if own["model"] == "forest":
            return forest(x, of_window, own["n_estimators"], self._seed)
        return perceptron(
            x, of_window, own["epochs"], own["learning_rate"], own["batch_size"], self._seed, own["device"]
        )

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {}, {"reference": self._reference}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],  # noqa: ARG002 - nothing is learnt before there is a window
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._reference = np.asarray(arrays["reference"], dtype=np.float64)
