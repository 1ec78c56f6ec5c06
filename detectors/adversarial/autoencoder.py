"""Adversarial autoencoder: rows whose answer does not survive being given back by a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.adversarial.answering import AnsweringDetector
from detectors.adversarial.divergence import check_temperature, divergence, sharpened
from detectors.base import Array, as_rows
from detectors.outlier.deep import check_weights
from detectors.predictions import Predictions


class AdversarialAE(AnsweringDetector):
    """Distance of a model's answers to rows and their reconstructions. Needs torch: ``pip install "offpath[torch]"``.

    An autoencoder gives a row ``x`` back as ``x'``, trained so that the model answers the same: on the mean
    ``KL(M(x) || M(x'))``. A small perturbation that was made to move the answer does not survive it. The score is the
    same distance, and :meth:`correct` answers ``M(x')``, which is often what the model would have said without it.

    ``M(x')`` takes the model itself: say ``model``. Where only its answers are at hand (``outputs``), a copy is learnt
    from them first, as by :class:`~detectors.adversarial.distillation.ModelDistillation`, and asked in its place;
    corrections are then the copy's. What lies beyond the reference's range is moved into it before it is given back.
    ``feature_score`` is each class's part (on the columns of ``outputs``), and adds up to the score.

    Parameters
    ----------
    outputs : columns of the rows that hold the model's answers, a class each; a single one is that of the second of
        two classes. In a monitor: ``side: joined``.
    model : in place of ``outputs`` a file of ``torch.export``, of the model, which is asked. All columns are inputs.
        If it has several outputs, the first is its answer, the others (hidden layers) are compared, too.
    model_sha256 : digest that the file must have.
    input_shape : of a row as the model takes it, for example ``[1, 28, 28]``; default: the columns as they are.
    preds_type : answers are ``probs`` or ``logits``.
    temperature : of the model's answers to rows, above 0; below 1 they are taken as surer than they are.
    w_hidden : weight of the hidden layers' distances in the loss.
    hidden, latent_dim : of the autoencoder (and ``hidden`` of the copy).
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
    >>> detector = AdversarialAE(outputs=["yes"], hidden=[16], epochs=20).fit(np.hstack([x, yes]), features)
    >>> attacked = [[1, 0, 0.1]]
    >>> detector.predict(attacked).is_outlier.tolist(), bool(detector.correct(attacked)[0, 1] > 0.9)
    ([True], True)

    References
    ----------
    Vacanti & Van Looveren (2020), Adversarial detection and correction by matching prediction distributions.
    """

    detector_type = "AdversarialAE"
    _said = "of the row given back"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        outputs: Sequence[str] | None = None,
        model: str | None = None,
        model_sha256: str | None = None,
        input_shape: Sequence[int] | None = None,
        preds_type: Predictions = "probs",
        temperature: float = 1.0,
        w_hidden: float = 1.0,
        hidden: Sequence[int] = (32, 16),
        latent_dim: int | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        check_temperature(temperature)
        check_weights(w_hidden=w_hidden)
        training = {
            "hidden": hidden,
            "latent_dim": latent_dim,
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
        super().__init__(share, threshold, training, answers, temperature=temperature, w_hidden=w_hidden)

    def correct(self, x: npt.ArrayLike) -> Array:
        """``(n, k)`` probabilities ``M(x')`` of the rows ``(n, d)`` given back; the answer is the largest one's class.

        Raises
        ------
        NotFittedError : ``fit`` has not been called.
        ShapeError : ``x`` is no matrix, or has another number of columns than the reference.
        """
        reading = self._fitted().read(as_rows(x, len(self._features)))
        found = [self._compared(part)[1][0].cpu().numpy() for part in reading.blocks(self._block)]
        return np.concatenate([*found, np.empty((0, self._widths[1]))])

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:  # noqa: ARG002 - of the inputs alone
        hidden, width = self._params["hidden"], len(self._inputs)
        copy = {} if self._program is not None else {"copy": [width, *hidden, *self._widths[1:2]]}
        return {**copy, "encoder": [width, *hidden, latent], "decoder": [latent, *hidden[::-1], width]}

    def _train(self, networks: Iterable[Any], loss: Callable[[Any], Any], x: Any, rng: np.random.Generator) -> None:
        if "copy" in self._networks:
            super()._train([self._networks["copy"]], self._copying, x, rng)
            networks = [network for name, network in self._networks.items() if name != "copy"]
        super()._train(networks, loss, x, rng)

    def _copying(self, x: Any) -> Any:
        points, told = x.split(self._widths, dim=1)
        return divergence(told, self._networks["copy"](points).softmax(dim=1)).sum(dim=1).mean()

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 - others draw
        points, told, *more = x.split(self._widths, dim=1)
        other, *others = self._others(points)
        loss = self._apart(told, other).sum(dim=1).mean()
        for one, another in zip(more, others, strict=True):
            loss = loss + self._params["w_hidden"] * divergence(one, another).sum(dim=1).mean()
        return loss

    def _others(self, points: Any) -> list[Any]:
        given = self._networks["decoder"](self._networks["encoder"](points))
        if self._program is None:
            return [self._networks["copy"](given).softmax(dim=1)]
        return self._told(self._in_units(given))

    def _in_units(self, points: Any) -> Any:
        """Torch's ``(n, d)`` points as the model takes rows, within the reference's range; constants are constant."""
        scale = self._scaled()
        varied = ~scale.levelled & (scale.scale > 0.0)
        size, centre, low, high = (
            self._tensor(np.where(varied, one, other))
            for one, other in (
                (1.0 / np.where(varied, scale.scale, 1.0), 0.0),
                (scale.centre, scale.centre),
                (scale.low, scale.centre),
                (scale.high, scale.centre),
            )
        )
        return self._torch.minimum(self._torch.maximum(points * size + centre, low), high)

    def _apart(self, told: Any, other: Any) -> Any:
        return divergence(sharpened(told, self._params["temperature"]), other)
