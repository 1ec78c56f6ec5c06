"""Sequence to sequence: moments of a series that a recurrent network, told what went before, gives back badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Feature
from detectors.network import Network
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.deep import DeepDetector, check_percent, top_mean
from detectors.outlier.judging import Scores
from detectors.outlier.scale import Scale
from detectors.outlier.series import bridged, check_variables, moments, series_scale
from detectors.recurrent import Recurrent

_MOST_AVERAGED = 5000  # reference rows whose states are all held at once


class OutlierSeq2Seq(DeepDetector):
    """Reconstruction error of rows that are time series. Needs torch: ``pip install "offpath[torch]"``.

    A row holds the last moments of one variable, oldest first (or of several: ``x_1, y_1, x_2, y_2, ...``). An encoder
    (long short-term memory) reads the row; a decoder, which begins where the encoder ended, is told each moment and
    gives back the next one, ``x'``; a further network estimates from the decoder's state how large ``(x - x')^2``
    usually is there. All are trained together, on the mean of ``(x - x')^2`` and that of the squared difference
    between it and its estimate; then the estimates are moved to have the errors' mean. A value's score is
    ``(x - x')^2`` less the estimate; a row's is the mean of the largest ``outlier_perc`` % of them, and may be below 0.
    Values beyond the reference's range are moved into it, and add what the square of their coordinate
    (:mod:`detectors.outlier.coordinates`) is more than that of the range's end. Missing ones are taken to lie on the
    line between their neighbours.
    ``feature_score`` is each counted value's part, and adds up to the score.

    Parameters
    ----------
    n_features : variables of a moment.
    outlier_perc : so many percent of a row's values, the strangest, make its score. Few for spikes, 100 for rows
        strange as a whole.
    latent_dim : units of the encoder and the decoder.
    hidden : units of the layers of the network that estimates the error.
    share, threshold, epochs, batch_size, learning_rate, max_ref, seed, device : as of
        :class:`~detectors.outlier.autoencoder.OutlierAE`.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there; ``fit`` : a column is
        categorical, or rows are no whole series.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> start = rng.uniform(0, 2 * np.pi, (500, 1))
    >>> waves = np.sin(start + np.arange(12) / 2) + rng.normal(0, 0.05, (500, 12))
    >>> broken = waves[0].copy()
    >>> broken[6] *= -1
    >>> detector = OutlierSeq2Seq(outlier_perc=10, latent_dim=8, epochs=10, learning_rate=0.02).fit(waves)
    >>> detector.predict([waves[0], broken]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Malhotra et al. (2016), LSTM-based encoder-decoder for multi-sensor anomaly detection. Park, Hoshi & Kemp (2018), A
    multimodal anomaly detector for robot-assisted feeding using an LSTM-based variational autoencoder, for thresholds
    that depend on the state. Sutskever, Vinyals & Le (2014), Sequence to sequence learning with neural networks.
    """

    detector_type = "OutlierSeq2Seq"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        n_features: int = 1,
        outlier_perc: float = 100.0,
        latent_dim: int = 16,
        hidden: Sequence[int] = (10,),
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 0.005,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        check_variables(n_features)
        check_percent(outlier_perc)
        training = {
            "latent_dim": latent_dim,
            "hidden": hidden,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "max_ref": max_ref,
            "seed": seed,
            "device": device,
        }
        super().__init__(share, threshold, training, n_features=n_features, outlier_perc=outlier_perc)
        self._draws = 4 * latent_dim  # so many outputs a value
        self._offset = 0.0

    def _learn_all(self, rows: Array, features: tuple[Feature, ...]) -> None:
        moments(features, self._params["n_features"], self.detector_type)
        super()._learn_all(rows, features)

    def _learn_scale(self, coordinates: Coordinates, rows: Array) -> Scale:
        return series_scale(coordinates, rows, self._params["n_features"])

    def _encode(self, reading: Reading) -> Array:
        return bridged(super()._encode(reading), reading.missing, self._params["n_features"])

    def _create(self, d: int, rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG002 - it takes any length
        width, units, where = self._params["n_features"], self._params["latent_dim"], (self._torch, self._device, rng)
        return {
            "encoder": Recurrent.create(width, units, *where),
            "decoder": Recurrent.create(width, units, *where),
            "given": Network.create([units, width], *where),
            "estimate": Network.create([units, *self._params["hidden"], width], *where),
        }

    def _load(self, d: int, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:  # noqa: ARG002 - as above
        kinds: dict[str, Any] = {"encoder": Recurrent, "decoder": Recurrent, "given": Network, "estimate": Network}
        return {name: kind.from_arrays(name, arrays, self._torch, self._device) for name, kind in kinds.items()}

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 - others draw
        error, estimate = self._errors(x)
        return error.mean() + ((error.detach() - estimate) ** 2).mean()

    def _after_training(self, x: Any, rng: np.random.Generator) -> None:  # noqa: ARG002 - as above
        error, estimate = self._errors(x[:: -(-len(x) // _MOST_AVERAGED)])
        self._offset = float((error - estimate).mean())

    def _errors(self, x: Any) -> tuple[Any, Any]:
        """Squared errors of ``(n, d)`` rows, and their estimates, each ``(n, s, n_features)``."""
        series = x.reshape(len(x), -1, self._params["n_features"])
        before = self._torch.cat([self._torch.zeros_like(series[:, :1]), series[:, :-1]], dim=1)
        _, state = self._networks["encoder"](series)
        states, _ = self._networks["decoder"](before, state)
        return (series - self._networks["given"](states)) ** 2, self._networks["estimate"](states)

    def _score(self, reading: Reading) -> Scores:
        points = self._encode(reading)
        with self._torch.no_grad():
            error, estimate = self._errors(self._tensor(points))
            found = np.asarray((error - estimate - self._offset).reshape(points.shape).cpu().numpy())
        parts = top_mean(found + reading.beyond, self._params["outlier_perc"])
        return Scores(parts.sum(axis=1), parts)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._to_arrays(), "offset": np.array(self._offset)}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._from_arrays(arrays)
        self._offset = float(arrays["offset"])
