"""Variational autoencoder with a mixture of its codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.network import noise
from detectors.outlier.aegmm import OutlierAEGMM
from detectors.outlier.deep import check_weights
from detectors.outlier.judging import check_whole
from detectors.outlier.variational import check_variance, draw, negative_elbo


class OutlierVAEGMM(OutlierAEGMM):
    """Energy of a variational autoencoder's codes. Needs torch: ``pip install "offpath[torch]"``.

    As :class:`~detectors.outlier.aegmm.OutlierAEGMM`, but the code is drawn from a normal distribution that the encoder
    gives. The loss is ``w_recon`` times that of :class:`~detectors.outlier.variational.OutlierVAE`, plus the weighted
    energy and narrowness. The score is the mean energy over ``samples`` draws, which are the same for every row.

    Parameters
    ----------
    samples : draws of the code a row.
    beta, sim : as of OutlierVAE.
    w_recon, w_energy, w_cov_diag : weights of the loss's parts.
    share, threshold, n_gmm, hidden_gmm, hidden, latent_dim, epochs, batch_size, learning_rate, max_ref, seed, device :
        as of OutlierAEGMM.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-1, 1, 1000)
    >>> curve = np.column_stack([t, t**2, t**3])
    >>> detector = OutlierVAEGMM(share=0.001, hidden=[16], latent_dim=1, epochs=15, learning_rate=0.01).fit(curve)
    >>> detector.predict([[0, 0, 0], [0, 1, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Zong et al. (2018), Deep autoencoding Gaussian mixture model for unsupervised anomaly detection, ICLR. Kingma &
    Welling (2014), Auto-encoding variational Bayes.
    """

    detector_type = "OutlierVAEGMM"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        n_gmm: int = 2,
        samples: int = 10,
        beta: float = 1.0,
        sim: float = 0.05,
        w_recon: float = 0.1,
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
        super().__init__(
            share, threshold, n_gmm, w_energy, w_cov_diag, hidden_gmm, hidden, latent_dim, epochs, batch_size,
            learning_rate, max_ref, seed, device,
        )  # fmt: skip
        check_whole("samples", samples, 1, 1000)
        check_weights(beta=beta, w_recon=w_recon)
        check_variance(sim)
        self._params |= {"samples": samples, "beta": beta, "sim": sim, "w_recon": w_recon}
        self._draws = samples
        self._noise: Any = None

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:
        sizes = dict(super()._sizes(d, latent))
        return {**sizes, "encoder": [*sizes["encoder"][:-1], 2 * latent]}

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:
        mean, log_var = self._networks["encoder"](x).chunk(2, dim=1)
        code = draw(mean, log_var, noise(mean.shape, self._torch, self._device, rng))
        given = self._networks["decoder"](code)
        elbo = negative_elbo(x, given, mean, log_var, self._params["sim"], self._params["beta"])
        return self._params["w_recon"] * elbo + self._mixture_loss(self._beside(x, code, given))

    def _after_training(self, x: Any, rng: np.random.Generator) -> None:
        mean, log_var = self._networks["encoder"](x).chunk(2, dim=1)
        code = draw(mean, log_var, noise(mean.shape, self._torch, self._device, rng))
        self._groups = self._groups_of(self._beside(x, code, self._networks["decoder"](code)))
        self._noise = noise((self._params["samples"], mean.shape[1]), self._torch, self._device, rng)

    def _energy(self, x: Any) -> Any:
        mean, log_var = self._networks["encoder"](x).chunk(2, dim=1)
        total = sum(self._energy_of(x, draw(mean, log_var, drawn)) for drawn in self._noise)
        return total / len(self._noise)

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._to_arrays(), "noise": self._noise.cpu().numpy()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._from_arrays(arrays)
        self._noise = self._tensor(arrays["noise"])
