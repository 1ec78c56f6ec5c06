"""What adversarial detectors share: the model's answers to rows, beside others to compare them with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.adversarial.columns import answer_columns, check_answers, check_shape
from detectors.adversarial.divergence import divergence
from detectors.base import Array, DetectorError, DetectorKind, Feature, Reason
from detectors.outlier.coordinates import FARTHEST, Coordinates, Reading
from detectors.outlier.deep import DeepDetector
from detectors.outlier.judging import Scores
from detectors.outlier.wording import MOST
from detectors.predictions import check_predictions, probabilities
from detectors.program import Program

_WORST_ROWS = 20


class AnsweringDetector(DeepDetector):
    """Scores how far a model's answers are from others to the same rows.

    The model's answers are columns of the rows (``outputs``), or asked of a program of it (``model``). A row whose
    answer is missing or no probability has the score NaN, and is not flagged.
    """

    kind: ClassVar[DetectorKind] = "adversarial"
    _said = "another"

    def __init__(
        self, share: float, threshold: float | None, training: Mapping[str, Any], answers: Mapping[str, Any], **own: Any
    ) -> None:
        outputs, shape = answers["outputs"], answers["input_shape"]
        check_answers(outputs, answers["model"])
        check_predictions(answers["preds_type"])
        check_shape(shape)
        listed = {"outputs": None if outputs is None else list(outputs), "input_shape": shape and list(shape)}
        super().__init__(share, threshold, training, **{**answers, **listed}, **own)
        self._inputs = self._answers = np.empty(0, dtype=np.intp)
        self._widths: list[int] = []
        self._program: Program | None = None

    @staticmethod
    def runs_code(params: Mapping[str, Any]) -> bool:
        """Whether one with these parameters runs code that is not ours."""
        return params.get("model") is not None

    @abstractmethod
    def _others(self, points: Any) -> list[Any]:
        """The other answers to torch's ``(n, d)`` points: ``(n, k)`` probabilities, then more of the program's."""

    @abstractmethod
    def _apart(self, told: Any, other: Any) -> Any:
        """``(n, k)`` parts of the score."""

    def _learn_all(self, rows: Array, features: tuple[Feature, ...]) -> None:
        self._place(features)
        super()._learn_all(rows, features)

    def _place(self, features: Sequence[Feature]) -> None:
        outputs, model = self._params["outputs"], self._params["model"]
        self._inputs, self._answers = answer_columns(features, outputs, model, self.detector_type)

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        if not coordinates.used[self._answers].all():
            raise DetectorError(f"{self.detector_type} needs rows without missing values in outputs")
        self._start()
        self._scale = self._learn_scale(coordinates, rows)
        self._widths = [part.shape[1] for part in self._parts(coordinates.read(rows[:1]))]
        super()._learn(coordinates, rows)

    def _start(self) -> None:
        super()._start()
        path = self._params["model"]
        if path is not None and self._program is None:
            self._program = Program.read(path, self._params["model_sha256"], self._params["input_shape"])
            self._program.start(self._torch, self._device)

    def _encode(self, reading: Reading) -> Array:
        return np.concatenate(self._parts(reading), axis=1)

    def _parts(self, reading: Reading) -> list[Array]:
        """``(n, d)`` points of the inputs, ``(n, k)`` the model's probabilities, and what its program tells more."""
        points = self._scaled().points(reading)[:, self._inputs]
        if self._program is None:
            return [points, self._given(reading)]
        with self._torch.no_grad():
            told = self._told(self._tensor(reading.values[:, self._inputs]))
        return [points, *(np.asarray(part.cpu().numpy()) for part in told)]

    def _given(self, reading: Reading) -> Array:
        shares = probabilities(reading.values[:, self._answers], self._params["preds_type"])
        for lost in (reading.missing, None if reading.excess is None else np.abs(reading.excess) >= FARTHEST):
            if lost is not None:
                shares = np.where(lost[:, self._answers].any(axis=1, keepdims=True), np.nan, shares)
        return shares

    def _told(self, values: Any) -> list[Any]:
        """Of torch's rows in the model's units: ``(n, k)`` probabilities, then further outputs by softmax."""
        assert self._program is not None
        answer, *more = self._program(values)
        return [self._shares(answer), *(part.softmax(dim=1) for part in more)]

    def _shares(self, answer: Any) -> Any:
        if self._params["preds_type"] == "logits":
            if answer.shape[1] == 1:
                answer = self._torch.cat([self._torch.zeros_like(answer), answer], dim=1)
            return answer.softmax(dim=1)
        both = self._torch.cat([1.0 - answer, answer], dim=1) if answer.shape[1] == 1 else answer
        return both / both.sum(dim=1, keepdim=True)

    def _compared(self, reading: Reading) -> tuple[list[Any], list[Any]]:
        """What the model told of rows, and the others."""
        with self._torch.no_grad():
            points, *told = self._tensor(self._encode(reading)).split(self._widths, dim=1)
            return told, self._others(points)

    def _score(self, reading: Reading) -> Scores:
        told, others = self._compared(reading)
        parts = np.asarray(self._apart(told[0], others[0]).cpu().numpy())
        instance = parts.sum(axis=1)
        for one, other in zip(told[1:], others[1:], strict=True):
            instance = instance + divergence(one, other).sum(dim=1).cpu().numpy()
        feature = np.full(reading.z.shape, np.nan)
        if self._answers.size:
            feature[:, self._inputs] = 0.0
            feature[:, self._answers] = parts if self._answers.size > 1 else parts.sum(axis=1, keepdims=True)
            feature[np.isnan(instance)] = np.nan
        return Scores(instance, feature)

    def _reasons(
        self,
        rows: Array,
        reading: Reading,  # noqa: ARG002 - a few rows are read again
        scores: Scores,
        flagged: npt.NDArray[np.intp],
    ) -> tuple[Reason, ...]:
        worst = flagged[np.argsort(-scores.instance[flagged], kind="stable")[:_WORST_ROWS]]
        found: dict[str, Reason] = {}
        for row in worst:
            (told, *_), (other, *_) = self._compared(self._fitted().read(rows[row : row + 1]))
            at = int(self._apart(told, other)[0].argmax())
            said, name = (float(told[0, at]), float(other[0, at])), self._class_name(at, told.shape[1])
            where = name if not self._answers.size else self._feature_of(at)
            text = f"{name}: the model says {said[0]:.2f}, {self._said} {said[1]:.2f}"
            found.setdefault(name, Reason(where, "distribution", said[1], said[0], text))
            if len(found) == MOST:
                break
        return tuple(found.values())

    def _feature_of(self, at: int) -> str:
        return self._features[int(self._answers[at if self._answers.size > 1 else 0])].name

    def _class_name(self, at: int, classes: int) -> str:
        if not self._answers.size:
            return f"class {at}"
        name = self._feature_of(at)
        return f"not {name}" if self._answers.size < classes and at == 0 else name

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = {**super()._to_arrays(), "widths": np.array(self._widths)}
        return arrays if self._program is None else {**arrays, "program": self._program.to_array()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._place(self._features)
        if self._params["model"] is not None:  # by these it was allowed to be run
            self._program = Program.from_array(arrays["program"], self._params["input_shape"])
        super()._from_arrays(arrays)
        self._widths = arrays["widths"].tolist()
        if self._program is not None:
            self._program.start(self._torch, self._device)
