"""Model distillation: rows to which a small copy of the model answers otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from detectors.adversarial.answering import AnsweringDetector
from detectors.adversarial.divergence import check_temperature, cross_entropy, divergence, sharpened
from detectors.base import DetectorError
from detectors.predictions import Predictions

Loss = Literal["kld", "xent"]


class ModelDistillation(AnsweringDetector):
    """Distance of a model's answers from those of a small copy. Needs torch: ``pip install "offpath[torch]"``.

    A network, the copy, learns the model's answers to the reference from its inputs. What moves the model's answer but
    not the copy's is suspect: an adversarial perturbation is made for the one and seldom works on the other. It also
    rises where the model does something of which the reference has no example, as does a broken one. The loss is the
    mean ``KL(M(x) || copy(x))``, or the cross-entropy; so is a row's score. ``feature_score`` is each class's part (on
    the columns of ``outputs``), and adds up to the score.

    Parameters
    ----------
    outputs : columns of the rows that hold the model's answers, a class each; a single one is that of the second of
        two classes. In a monitor: ``side: joined``.
    model : in place of ``outputs`` a file of ``torch.export``, of the model, which is asked. All columns are inputs.
    model_sha256 : digest that the file must have.
    input_shape : of a row as the model takes it, for example ``[1, 28, 28]``; default: the columns as they are.
    preds_type : answers are ``probs`` or ``logits``.
    loss_type : ``kld`` or ``xent`` (cross-entropy: its least value is the uncertainty of the model itself).
    temperature : of the model's answers, above 0; below 1 they are taken as surer than they are.
    hidden : units of the copy's layers.
    share, threshold, epochs, batch_size, learning_rate, max_ref, seed, device : as of
        :class:`~detectors.outlier.autoencoder.OutlierAE`.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there; ``fit`` : the answers are not
        there, or no probabilities.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 2))
    >>> yes = 1 / (1 + np.exp(-4 * x[:, :1]))
    >>> from detectors.base import Feature
    >>> features = [Feature("a"), Feature("b"), Feature("yes")]
    >>> detector = ModelDistillation(outputs=["yes"], hidden=[16], epochs=20).fit(np.hstack([x, yes]), features)
    >>> verdict = detector.predict([[1, 0, 0.98], [1, 0, 0.1]])
    >>> verdict.is_outlier.tolist(), verdict.reasons[0].text
    ([False, True], 'not yes: the model says 0.90, its copy 0.02')

    References
    ----------
    Hinton, Vinyals & Dean (2015), Distilling the knowledge in a neural network. Vacanti & Van Looveren (2020),
    Adversarial detection and correction by matching prediction distributions, for the distance.
    """

    detector_type = "ModelDistillation"
    _said = "its copy"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        outputs: Sequence[str] | None = None,
        model: str | None = None,
        model_sha256: str | None = None,
        input_shape: Sequence[int] | None = None,
        preds_type: Predictions = "probs",
        loss_type: Loss = "kld",
        temperature: float = 1.0,
        hidden: Sequence[int] = (32, 16),
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if loss_type not in get_args(Loss):
            raise DetectorError(f"loss_type must be one of {', '.join(get_args(Loss))}, got {loss_type!r}")
        check_temperature(temperature)
        training = {
            "hidden": hidden,
            "latent_dim": None,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "max_ref": max_ref,
            "seed": seed,
            "device": device,
        }
        answers = {
            "outputs": outputs,
            "model": model,
            "model_sha256": model_sha256,
            "input_shape": input_shape,
            "preds_type": preds_type,
        }
        super().__init__(share, threshold, training, answers, loss_type=loss_type, temperature=temperature)
        del self._params["latent_dim"]  # there is no code

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:  # noqa: ARG002 - of the inputs alone
        return {"copy": [len(self._inputs), *self._params["hidden"], *self._widths[1:2]]}

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 - others draw
        points, told, *_ = x.split(self._widths, dim=1)
        return self._apart(told, self._others(points)[0]).sum(dim=1).mean()

    def _others(self, points: Any) -> list[Any]:
        return [self._networks["copy"](points).softmax(dim=1)]

    def _apart(self, told: Any, other: Any) -> Any:
        parts = cross_entropy if self._params["loss_type"] == "xent" else divergence
        return parts(sharpened(told, self._params["temperature"]), other)
