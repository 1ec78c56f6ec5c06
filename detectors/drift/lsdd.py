"""Least-squares density difference: did the joint density of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.drift.columns import ColumnReference
from detectors.drift.density import DensityDifference
from detectors.drift.encoding import encode
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.permutation import enough_permutations


class LSDDDrift(JointDrift):
    """Two-sample test on whole rows, by permutation, of the squared distance between two densities.

    The difference of the densities is fitted by least squares, as a sum of Gaussian kernels
    ``exp(-d^2 / (2 sigma^2))`` around some rows of the reference, which are set apart and tested no more. The statistic
    is the integral of its square, times ``(pi sigma^2)^(e / 2)`` for ``e`` coordinates, which makes it free of units.
    Numeric columns are standardised by the reference, categorical ones become indicators. The p-value is
    ``(k + 1) / (P + 1)`` for ``k`` of ``P`` permutations with a statistic at least as large.

    Parameters
    ----------
    n_permutations : default: 199, or as many as the level needs to be reached twice.
    sigma : bandwidth of the kernels; default: the median distance between reference rows.
    n_kernel_centers : kernels; default: a tenth of the reference's rows, 10 at least and 200 at most.
    lambda_rd_max : how far, relative to it, regularisation may move the estimate, on average over random halves of the
        reference. Larger is smoother: better where changes are broad, worse where they are narrow.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict.
    ``effect_size`` is the square root of the statistic, less what it is without drift, over what it would be of
    densities that do not overlap: 0 none, 1 disjoint.

    References
    ----------
    Sugiyama M. et al. (2013). Density-difference estimation. Neural Computation 25(10).
    Bu L., Alippi C., Zhao D. (2018). A pdf-free change detection test based on density difference estimation. IEEE
    Trans. Neural Netw. Learn. Syst. 29(2).

    >>> rng = np.random.default_rng(0)
    >>> detector = LSDDDrift().fit(rng.normal(size=(1000, 2)))
    >>> x = rng.normal(size=(300, 1))
    >>> verdict = detector.predict(np.hstack([x, x]))  # each column alone is as it was
    >>> verdict.state, verdict.p_val
    ('alert', 0.005)
    """

    detector_type = "LSDDDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        n_permutations: int | None = None,
        sigma: float | None = None,
        n_kernel_centers: int | None = None,
        lambda_rd_max: float = 0.2,
        max_ref: int = 5000,
        max_rows: int = 5000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed)
        if sigma is not None and not 0.0 < sigma < math.inf:
            raise DetectorError(f"sigma must be a positive number, got {sigma!r}")
        if n_kernel_centers is not None and (not isinstance(n_kernel_centers, int) or n_kernel_centers < 1):
            raise DetectorError(f"n_kernel_centers must be a whole number of at least 1, got {n_kernel_centers!r}")
        if not 0.0 < lambda_rd_max < 1.0:
            raise DetectorError(f"lambda_rd_max must be between 0 and 1, got {lambda_rd_max!r}")
        self._n_permutations = enough_permutations(n_permutations, self.level)
        self._params |= {
            "n_permutations": self._n_permutations,
            "sigma": sigma,
            "n_kernel_centers": n_kernel_centers,
            "lambda_rd_max": lambda_rd_max,
        }
        self._sigma, self._rd_max, self._n_centers = sigma, lambda_rd_max, n_kernel_centers
        self._difference: DensityDifference

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        points, n = encode(columns, rows), len(rows)
        most = n // 2
        wanted = min(max(10, n // 10), 200, most) if self._n_centers is None else self._n_centers
        if wanted > most:
            raise DetectorError(f"n_kernel_centers must be at most half the {n} rows of the reference, got {wanted}")
        order = np.random.default_rng([self._seed, 3]).permutation(n)
        centers, rest = points[np.sort(order[:wanted])], points[np.sort(order[wanted:])]
        self._difference = DensityDifference.learn(rest, centers, self._sigma, self._rd_max, self._seed)

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        difference = self._difference
        found, largest = difference.permute(encode(columns, rows), self._n_permutations, self._seed)
        usual = float(found.permuted.mean())
        excess = max(found.statistic - usual, 0.0)
        effect = math.sqrt(min(excess / largest, 1.0)) if largest > 0.0 else 0.0
        return JointResult(found.statistic, found.p_val, found.critical, effect, usual)

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        kept = self._difference
        return {"sigma": kept.sigma, "lambda": kept.penalty}, {"reference": kept.reference, "centers": kept.centers}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        reference, centers = (np.asarray(arrays[name], dtype=np.float64) for name in ("reference", "centers"))
        self._difference = DensityDifference(reference, centers, float(state["sigma"]), float(state["lambda"]))
