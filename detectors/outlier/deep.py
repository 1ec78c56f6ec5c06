"""What the outlier detectors on networks share: their parameters, training, and where they compute."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.device import find_device, import_torch
from detectors.network import Network, train
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.judging import check_whole
from detectors.outlier.neighbours import chosen
from detectors.outlier.scale import Scale, ScaledDetector

MOST_LAYERS, MOST_UNITS = 10, 10_000

_CELLS = 2_000_000  # of the widest layer's outputs that are made at once


class DeepDetector(ScaledDetector):
    """Networks trained on points in standard deviations. The parameters are those of :class:`OutlierAE`."""

    requires: ClassVar = ("torch",)
    _folds = 2  # each is a training; networks that learnt from half the rows flag rather too few than too many
    _draws = 1  # points are scored so many times over

    def __init__(self, share: float, threshold: float | None, training: Mapping[str, Any], **params: Any) -> None:
        hidden, latent_dim = training["hidden"], training["latent_dim"]
        check_hidden(hidden)
        if latent_dim is not None:
            check_whole("latent_dim", latent_dim, 1, MOST_UNITS)
        check_whole("epochs", training["epochs"], 1, 100_000)
        check_whole("batch_size", training["batch_size"], 2, 1_000_000)
        check_whole("max_ref", training["max_ref"], 10, 10_000_000)
        check_whole("seed", training["seed"], 0, 2**63)
        if not 0.0 < training["learning_rate"] <= 1.0:
            raise DetectorError(f"learning_rate must be above 0 and at most 1, got {training['learning_rate']!r}")
        if not isinstance(training["device"], str):
            raise DetectorError(f"device must be cpu, cuda or auto, got {training['device']!r}")
        super().__init__(share, threshold, **params, **{**training, "hidden": list(hidden)})
        self._networks: dict[str, Any] = {}
        self._torch: Any = None
        self._device: Any = None

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:
        """The inputs, hidden units and outputs of each perceptron among the networks, for ``d`` columns."""
        raise NotImplementedError

    @abstractmethod
    def _loss(self, x: Any, rng: np.random.Generator) -> Any:
        """The loss of a batch ``(n, d)`` of torch's."""

    def _encode(self, reading: Reading) -> Array:
        """``(n, d)`` that the networks take of rows."""
        return self._scaled().points(reading)

    def _learn_scale(self, coordinates: Coordinates, rows: Array) -> Scale:
        return Scale.learn(coordinates, rows)

    def _create(self, d: int, rng: np.random.Generator) -> dict[str, Any]:
        """The networks, untrained."""
        sizes = self._sizes(d, self._params.get("latent_dim") or -(-d // 3))
        return {name: Network.create(size, self._torch, self._device, rng) for name, size in sizes.items()}

    def _load(self, d: int, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """The networks that were saved."""
        names = self._sizes(d, 1)
        return {name: Network.from_arrays(name, arrays, self._torch, self._device) for name in names}

    def _after_training(self, x: Any, rng: np.random.Generator) -> None:
        """Learn what is to be learnt of all reference points with the trained networks."""

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        self._start()
        rng = np.random.default_rng(self._params["seed"])
        self._scale = self._learn_scale(coordinates, rows)
        kept = chosen(len(rows), self._params["max_ref"], self._params["seed"])
        encoded = self._encode(coordinates.read(rows[kept]))
        known = np.isfinite(encoded).all(axis=1)
        if known.sum() < 2:
            raise DetectorError(
                f"{self.detector_type} can learn from {known.sum()} rows of the reference: 2 are the least"
            )
        x = self._tensor(encoded[known])
        self._networks = self._create(rows.shape[1], rng)
        self._train(self._networks.values(), lambda batch: self._loss(batch, rng), x, rng)
        with self._torch.no_grad():
            self._after_training(x, rng)
        self._set_block(rows.shape[1])

    def _train(self, networks: Iterable[Any], loss: Callable[[Any], Any], x: Any, rng: np.random.Generator) -> None:
        parameters = [tensor for network in networks for tensor in network.parameters]
        settings = [self._params[name] for name in ("epochs", "batch_size", "learning_rate")]
        train(self._torch, parameters, loss, x, rng, *settings)

    def _start(self) -> None:
        self._torch = import_torch(self.detector_type)
        self._device = find_device(self._torch, self._params["device"])

    def _set_block(self, d: int) -> None:
        self._block = max(16, _CELLS // (self._draws * max([d, *self._params["hidden"]])))

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        return self._torch.tensor(array, device=self._device)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = self._scaled().to_arrays()
        for name, network in self._networks.items():
            arrays.update(network.to_arrays(name))
        return arrays

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._start()
        self._scale = Scale.from_arrays(arrays)
        d = len(self._scale.scale)
        self._networks = self._load(d, arrays)
        self._set_block(d)


def check_hidden(hidden: object, name: str = "hidden") -> None:
    """Raise :class:`DetectorError` unless it is a short list of numbers of units."""
    if not isinstance(hidden, (list, tuple)) or len(hidden) > MOST_LAYERS:
        raise DetectorError(f"{name} must be a list of at most {MOST_LAYERS} numbers of units, got {hidden!r}")
    for units in hidden:
        check_whole(f"each of {name}", units, 1, MOST_UNITS)


def check_weights(**weights: float) -> None:
    """Raise :class:`DetectorError` unless each is a number of at least 0."""
    for name, value in weights.items():
        if not 0.0 <= value < np.inf:
            raise DetectorError(f"{name} must be a number of at least 0, got {value!r}")


def top_mean(errors: Array, percent: float) -> Array:
    """``(n, d)`` parts of the mean of each row's largest ``percent`` % of ``(n, d)`` errors; others are 0.

    >>> top_mean(np.array([[1.0, 4.0, 2.0]]), 60).tolist()
    [[0.0, 2.0, 1.0]]
    """
    d = errors.shape[1]
    k = max(1, int(np.ceil(d * percent / 100.0 - 1e-9)))
    if k == d:
        return np.asarray(errors / d)
    least = np.argsort(errors, axis=1, kind="stable")[:, : d - k]
    parts = errors / k
    np.put_along_axis(parts, least, 0.0, axis=1)
    return np.asarray(parts)


def check_percent(percent: float) -> None:
    """Raise :class:`DetectorError` unless it is a percentage of at least something."""
    if not 0.0 < percent <= 100.0:
        raise DetectorError(f"outlier_perc must be above 0 and at most 100, got {percent!r}")
