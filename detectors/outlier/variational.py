"""Variational autoencoder: what its codes, drawn many times, cannot give back is strange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.network import noise
from detectors.outlier.autoencoder import OutlierAE
from detectors.outlier.deep import check_weights
from detectors.outlier.judging import check_whole


class OutlierVAE(OutlierAE):
    """Reconstruction error of a variational autoencoder. Needs torch: ``pip install "offpath[torch]"``.

    As :class:`~detectors.outlier.autoencoder.OutlierAE`, but the code is drawn from a normal distribution that the
    encoder gives, and the codes of all rows are held near the standard normal one. The loss is the mean of
    ``-log N(x; x', sim I) + beta KL(q(z|x), N(0, I))``. The error of a row is the mean over ``samples`` draws, which
    are the same for every row: the same row always has the same score.

    Parameters
    ----------
    samples : draws of the code a row.
    beta : weight of the codes' distance from the standard normal distribution; more: smoother, less exact.
    sim : variance of a column around its reconstruction.
    share, threshold, outlier_perc, hidden, latent_dim, epochs, batch_size, learning_rate, max_ref, seed, device :
        as of OutlierAE.

    Raises
    ------
    DetectorError : a parameter is out of range, or torch or the device is not there.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-1, 1, 1000)
    >>> curve = np.column_stack([t, t**2, t**3])
    >>> OutlierVAE(share=0.001, hidden=[16], epochs=60).fit(curve).predict([[0, 0, 0], [0, 1, 0]]).is_outlier.tolist()
    [False, True]

    References
    ----------
    Kingma & Welling (2014), Auto-encoding variational Bayes. An & Cho (2015), Variational autoencoder based anomaly
    detection using reconstruction probability. Higgins et al. (2017), beta-VAE.
    """

    detector_type = "OutlierVAE"

    def __init__(
        self,
        share: float = 0.005,
        threshold: float | None = None,
        outlier_perc: float = 100.0,
        samples: int = 10,
        beta: float = 1.0,
        sim: float = 0.05,
        hidden: Sequence[int] = (32, 16),
        latent_dim: int | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        max_ref: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            share, threshold, outlier_perc, hidden, latent_dim, epochs, batch_size, learning_rate, max_ref, seed, device
        )
        check_whole("samples", samples, 1, 1000)
        check_weights(beta=beta)
        check_variance(sim)
        self._params |= {"samples": samples, "beta": beta, "sim": sim}
        self._draws = samples
        self._noise: Any = None

    def _sizes(self, d: int, latent: int) -> Mapping[str, Sequence[int]]:
        hidden = self._params["hidden"]
        return {"encoder": [d, *hidden, 2 * latent], "decoder": [latent, *hidden[::-1], d]}

    def _loss(self, x: Any, rng: np.random.Generator) -> Any:
        mean, log_var = self._networks["encoder"](x).chunk(2, dim=1)
        drawn = noise(mean.shape, self._torch, self._device, rng)
        given = self._networks["decoder"](draw(mean, log_var, drawn))
        return negative_elbo(x, given, mean, log_var, self._params["sim"], self._params["beta"])

    def _after_training(self, x: Any, rng: np.random.Generator) -> None:  # noqa: ARG002 - that of mixtures looks at x
        latent = self._networks["decoder"].parameters[0].shape[0]
        self._noise = noise((self._params["samples"], latent), self._torch, self._device, rng)

    def _errors(self, points: Array) -> Array:
        with self._torch.no_grad():
            x = self._tensor(points)
            mean, log_var = self._networks["encoder"](x).chunk(2, dim=1)
            total = self._torch.zeros_like(x)
            for drawn in self._noise:
                total += (x - self._networks["decoder"](draw(mean, log_var, drawn))) ** 2
            return np.asarray((total / len(self._noise)).cpu().numpy())

    def _to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._to_arrays(), "noise": self._noise.cpu().numpy()}

    def _from_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._from_arrays(arrays)
        self._noise = self._tensor(arrays["noise"])


def draw(mean: Any, log_var: Any, drawn: Any) -> Any:
    """Codes ``(n, latent)`` from standard normal numbers."""
    return mean + (0.5 * log_var).exp() * drawn


def negative_elbo(x: Any, given: Any, mean: Any, log_var: Any, sim: float, beta: float) -> Any:
    """Mean of ``-log N(x; given, sim I) + beta KL(N(mean, var), N(0, I))``, less the constant of the density."""
    fit = ((x - given) ** 2).sum(dim=1) / (2.0 * sim)
    apart = 0.5 * (mean**2 + log_var.exp() - 1.0 - log_var).sum(dim=1)
    return (fit + beta * apart).mean()


def check_variance(sim: float) -> None:
    """Raise :class:`DetectorError` unless it is a positive number."""
    if not 0.0 < sim < np.inf:
        raise DetectorError(f"sim must be a positive number, got {sim!r}")
