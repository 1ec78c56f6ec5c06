"""Likelihood ratio: rows that fit the reference little better than they fit its background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.autoregressive import Autoregressive
from detectors.base import Array, DetectorError, Feature
from detectors.outlier.cells import Cells
from detectors.outlier.coordinates import Coordinates, Reading
from detectors.outlier.deep import DeepDetector
from detectors.outlier.judging import Scores, check_whole


class LLR(DeepDetector):
    """Ratio of two likelihoods. Needs torch: ``pip install "offpath[torch]"``.

    Numeric columns are cut into ``n_bins`` steps of their coordinate (:mod:`detectors.outlier.coordinates`), categories
    are taken as they are. Two networks learn the probability of each column given those before it: one that of the
    reference, ``p_s``, the other that of the reference with values replaced at random, ``p_b``, which keeps what is
    usual in each column alone. The score is ``-(log p_s - log p_b)``; mostly below 0. Unlike a plain likelihood it does
    not call a row strange for what varies in every row. What lies beyond the reference adds what the square of its
    coordinate is more than that of the range's end. ``feature_score`` is each column's part, given
    those before it, and adds up to the score (a part may be negative).

    Parameters
    ----------
    mutation_rate : share of the values that are replaced for the background, each by any of its column's cells.
    n_bins : steps of a numeric column.
    hidden : units of the networks' layers.
    share, threshold, epochs, batch_size, learning_rate, max_ref, seed, device : as of
        :class:`~detectors.outlier.autoencoder.OutlierAE`.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there; ``fit`` : a column has more than
        1,000 categories.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> wet = rng.integers(0, 2, 1000)
    >>> weather = np.column_stack([wet, wet ^ (rng.random(1000) < 0.01), rng.integers(0, 2, 1000)])
    >>> features = [Feature(name, "categorical", ("no", "yes")) for name in ("rain", "umbrellas", "Sunday")]
    >>> detector = LLR(share=0.02, hidden=[16], epochs=10, learning_rate=0.01).fit(weather, features)
    >>> detector.predict([[1, 1, 0], [1, 0, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Ren, Liu, Fertig, Snoek, Poplin, DePristo, Dillon & Lakshminarayanan (2019), Likelihood ratios for
    out-of-distribution detection, NeurIPS. Germain et al. (2015), MADE, ICML, for the networks.
    """

    detector_type = "LLR"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        mutation_rate: float = 0.2,
        n_bins: int = 20,
        hidden: Sequence[int] = (64,),
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not 0.0 < mutation_rate <= 1.0:
            raise DetectorError(f"mutation_rate must be above 0 and at most 1, got {mutation_rate!r}")
        check_whole("n_bins", n_bins, 2, 1000)
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
        super().__init__(share, threshold, training, mutation_rate=mutation_rate, n_bins=n_bins)
        del self._params["latent_dim"]  # there is no code
        self._cells: Cells | None = None
        self._described: tuple[Feature, ...] = ()

    def _learn_all(self, rows: Array, features: tuple[Feature, ...]) -> None:
        self._described = features
        super()._learn_all(rows, features)

    def _learn(self, coordinates: Coordinates, rows: Array) -> None:
        self._cells = Cells.learn(coordinates, self._described, rows, self._params["n_bins"])
        super()._learn(coordinates, rows)

    def _encode(self, reading: Reading) -> Array:
        assert self._cells is not None
        return self._cells.read(reading).astype(np.float64)

    def _create(self, d: int, rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG002 - the cells say it
        return {
            name: Autoregressive.create(self._counts(), self._params["hidden"], self._torch, self._device, rng)
            for name in _NETWORKS
        }

    def _load(self, d: int, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:  # noqa: ARG002 - as above
        return {
            name: Autoregressive.from_arrays(name, arrays, self._counts(), self._torch, self._device)
            for name in _NETWORKS
        }

    def _counts(self) -> list[int]:
        assert self._cells is not None
        return [int(count) for count in self._cells.counts]

    def _set_block(self, d: int) -> None:
        self._draws = -(-sum(self._counts()) // d)
        super()._set_block(d)

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:
        cells = x.long()
        shown = {"semantic": cells, "background": self._mutated(cells, rng)}
        return -sum(self._networks[name].log_likelihood(rows).sum(dim=1).mean() for name, rows in shown.items())

    def _mutated(self, cells: Any, rng: np.random.Generator) -> Any:
        replaced = rng.random(tuple(cells.shape)) < self._params["mutation_rate"]
        drawn = np.floor(rng.random(tuple(cells.shape)) * self._counts()).astype(np.int64)
        return self._torch.where(self._tensor(replaced), self._tensor(drawn), cells)

    def _score(self, reading: Reading) -> Scores:
        with self._torch.no_grad():
            cells = self._tensor(self._encode(reading)).long()
            semantic, background = (self._networks[name].log_likelihood(cells) for name in _NETWORKS)
            parts = np.asarray((background - semantic).cpu().numpy()) + reading.beyond
        return Scores(parts.sum(axis=1), parts)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        assert self._cells is not None
        return {**super()._to_arrays(), **self._cells.to_arrays()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._cells = Cells.from_arrays(arrays)
        super()._from_arrays(arrays)


_NETWORKS = ("semantic", "background")
