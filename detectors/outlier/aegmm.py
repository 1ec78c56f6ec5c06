"""Autoencoder with a mixture of its codes: rows given back badly, or whose codes lie off the groups, are strange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array
from detectors.outlier.deep import DeepDetector, check_hidden, check_weights
from detectors.outlier.energy import Groups
from detectors.outlier.judging import check_whole
from detectors.outlier.whole_points import WholePoints

_TINY = 1e-12


class OutlierAEGMM(DeepDetector, WholePoints):
    """Energy of an autoencoder's codes under a mixture that is learnt with them. Needs torch:
    ``pip install "offpath[torch]"``.

    Numeric columns enter in standard deviations, moved into the reference's range, categorical ones in rarity
    (:mod:`detectors.outlier.coordinates`). An autoencoder squeezes a row ``x`` into a code and gives it back as
    ``x'``; beside the code stand the cosine of ``x`` and ``x'`` and ``|x - x'| / |x|``, both with a further column of
    ``sqrt(d)``: an ordinary row is near 0, and has no direction. A second network says to which of ``n_gmm`` groups
    such a ``z`` belongs. The loss is the mean of ``(x - x')^2``, plus ``w_energy`` times the mean
    energy, plus ``w_cov_diag`` times the sum of one over the groups' variances. The score is the energy,
    ``-log sum_k phi_k N(z; mu_k, S_k)`` (negative where the density is above 1), of the groups of all reference rows;
    what lies beyond the reference adds the square of its coordinate. ``feature_score`` (of rows above the threshold;
    NaN for others) is found by setting each column to its usual value; it adds up to the score.

    Parameters
    ----------
    n_gmm : number of groups.
    w_energy, w_cov_diag : weights of the loss's parts.
    hidden_gmm : units of the layers of the network that names the groups.
    share, threshold, hidden, latent_dim, epochs, batch_size, learning_rate, max_ref, seed, device : as of
        :class:`~detectors.outlier.autoencoder.OutlierAE`. Codes of a few numbers are best: a group of wide ones has
        many variances to learn.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-1, 1, 1000)
    >>> curve = np.column_stack([t, t**2, t**3])
    >>> detector = OutlierAEGMM(share=0.001, hidden=[16], epochs=10).fit(curve)
    >>> detector.predict([[0, 0, 0], [0, 1, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Zong, Song, Min, Cheng, Lumezanu, Cho & Chen (2018), Deep autoencoding Gaussian mixture model for unsupervised
    anomaly detection, ICLR.
    """

    detector_type = "OutlierAEGMM"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        n_gmm: int = 2,
        w_energy: float = 0.1,
        w_cov_diag: float = 0.005,
        hidden_gmm: Sequence[int] = (10,),
        hidden: Sequence[int] = (32, 16),
        latent_dim: int | None = 2,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        check_whole("n_gmm", n_gmm, 1, 100)
        check_weights(w_energy=w_energy, w_cov_diag=w_cov_diag)
        check_hidden(hidden_gmm, "hidden_gmm")
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
        own = {"n_gmm": n_gmm, "w_energy": w_energy, "w_cov_diag": w_cov_diag, "hidden_gmm": list(hidden_gmm)}
        super().__init__(share, threshold, training, **own)
        self._groups: Groups | None = None

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:
        hidden = self._params["hidden"]
        return {
            "encoder": [d, *hidden, latent],
            "decoder": [latent, *hidden[::-1], d],
            "membership": [latent + 2, *self._params["hidden_gmm"], self._params["n_gmm"]],
        }

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:  # noqa: ARG002 - the variational one draws
        code = self._networks["encoder"](x)
        given = self._networks["decoder"](code)
        return ((x - given) ** 2).mean() + self._mixture_loss(self._beside(x, code, given))

    def _mixture_loss(self, z: Any) -> Any:
        groups = self._groups_of(z)
        energy = groups.energy(z, self._torch).mean()
        return self._params["w_energy"] * energy + self._params["w_cov_diag"] * groups.narrowness()

    def _groups_of(self, z: Any) -> Groups:
        return Groups.of(z, self._networks["membership"](z).softmax(dim=1), self._torch)

    def _beside(self, x: Any, code: Any, given: Any) -> Any:
        """``(n, latent + 2)``: codes, and what says how well they gave the rows back."""
        d = x.shape[1]
        length, given_length = (self._torch.sqrt((v**2).sum(dim=1) + d) for v in (x, given))
        cosine = ((x * given).sum(dim=1) + d) / (length * given_length)
        off = self._torch.sqrt(((x - given) ** 2).sum(dim=1) + _TINY)  # whose slope at 0 is finite
        return self._torch.column_stack([code, cosine, off / length])

    def _after_training(self, x: Any, rng: np.random.Generator) -> None:  # noqa: ARG002 - the variational one draws
        code = self._networks["encoder"](x)
        self._groups = self._groups_of(self._beside(x, code, self._networks["decoder"](code)))

    def _strangeness(self, points: Array) -> Array:
        with self._torch.no_grad():
            x = self._tensor(points)
            return np.asarray(self._energy(x).cpu().numpy())

    def _energy(self, x: Any) -> Any:
        code = self._networks["encoder"](x)
        return self._energy_of(x, code)

    def _energy_of(self, x: Any, code: Any) -> Any:
        assert self._groups is not None
        return self._groups.energy(self._beside(x, code, self._networks["decoder"](code)), self._torch)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        assert self._groups is not None
        groups = {f"groups.{name}": tensor.cpu().numpy() for name, tensor in self._groups._asdict().items()}
        return {**super()._to_arrays(), **groups}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._from_arrays(arrays)
        self._groups = Groups(*(self._tensor(arrays[f"groups.{name}"]) for name in Groups._fields))
