"""Autoencoder: what a narrow network cannot give back is strange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.base import Array
from detectors.outlier.coordinates import Reading
from detectors.outlier.deep import DeepDetector, check_percent, top_mean
from detectors.outlier.judging import Scores


class OutlierAE(DeepDetector):
    """Reconstruction error of an autoencoder. Needs torch: ``pip install "offpath[torch]"``.

    Numeric columns enter in standard deviations, moved into the reference's range, categorical ones in rarity
    (:mod:`detectors.outlier.coordinates`). A network squeezes a row ``x`` into ``latent_dim`` numbers and gives it
    back as ``x'``; it is trained on the mean of ``(x - x')^2``. A column's error is ``(x - x')^2``, plus, beyond the
    reference, what the square of its coordinate is more than that of the range's end; the score is the mean of the
    largest ``outlier_perc`` % of a row's errors. ``feature_score`` is each counted error over their number, and adds
    up to the score.

    Parameters
    ----------
    share : share of clean rows that may be flagged; the threshold is learnt from it.
    threshold : flag scores above this one instead.
    outlier_perc : so many percent of the columns, those with the largest errors, make the score. Few of them for
        errors in single columns, 100 for rows strange as a whole.
    hidden : units of the encoder's layers; the decoder has them in reverse.
    latent_dim : width of the code; default: a third of the columns, rounded up.
    epochs, batch_size, learning_rate : of the training by Adam.
    max_ref : reference rows to train on, a random choice when there are more.
    seed : of that choice, the weights and the order of batches.
    device : ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-1, 1, 1000)
    >>> curve = np.column_stack([t, t**2, t**3])
    >>> OutlierAE(share=0.001, hidden=[16], epochs=60).fit(curve).predict([[0, 0, 0], [0, 1, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Hawkins, He, Williams & Baxter (2002), Outlier detection using replicator neural networks.
    """

    detector_type = "OutlierAE"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        outlier_perc: float = 100.0,
        hidden: Sequence[int] = (32, 16),
        latent_dim: int | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        check_percent(outlier_perc)
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
        super().__init__(share, threshold, training, outlier_perc=outlier_perc)

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:
        hidden = self._params["hidden"]
        return {"encoder": [d, *hidden, latent], "decoder": [latent, *hidden[::-1], d]}

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 - the variational one draws
        return ((x - self._reconstruct(x)) ** 2).mean()

    def _reconstruct(self, x: Any) -> Any:
        return self._networks["decoder"](self._networks["encoder"](x))

    def _errors(self, points: Array) -> Array:
        """``(n, d)`` squared errors of points."""
        with self._torch.no_grad():
            x = self._tensor(points)
            return np.asarray(((x - self._reconstruct(x)) ** 2).cpu().numpy())

    def _score(self, reading: Reading) -> Scores:
        errors = self._errors(self._scaled().points(reading)) + reading.beyond
        parts = top_mean(errors, self._params["outlier_perc"])
        return Scores(parts.sum(axis=1), parts)
