"""Maximum mean discrepancy: did the joint distribution of all columns change?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.device import check_device
from detectors.drift.columns import ColumnReference
from detectors.drift.encoding import encode
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.kernel import KernelTest
from detectors.drift.permutation import enough_permutations


class MMDDrift(JointDrift):
    """Kernel two-sample test on whole rows, by permutation. Needs torch: ``pip install "offpath[torch]"``.

    The statistic is the unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel
    ``exp(-d^2 / (2 bandwidth^2))``. Numeric columns are standardised by the reference, categorical ones become
    indicators. The p-value is ``(k + 1) / (P + 1)`` for ``k`` of ``P`` permutations with a statistic at least as large.

    Parameters
    ----------
    n_permutations : default: 199, or as many as the level needs to be reached twice.
    bandwidth : of the kernel; default: the median distance between reference rows.
    max_ref, max_rows : a larger reference or window is thinned to so many rows at random (seeded). They bound the
        memory: for their sum ``N``, ``8 N^2`` bytes (32 MB by default), and ``8 N n_permutations`` twice.
    device : ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict.
    ``effect_size`` is ``sqrt(MMD^2 / 2)``: 0 none, 1 disjoint and far apart.

    References
    ----------
    Gretton A. et al. (2012). A kernel two-sample test. JMLR 13.
    Phipson B., Smyth G. (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9(1).

    >>> rng = np.random.default_rng(0)
    >>> detector = MMDDrift().fit(rng.normal(size=(500, 2)))
    >>> x = rng.normal(size=(200, 1))
    >>> verdict = detector.predict(np.hstack([x, x]))  # each column alone is as it was
    >>> verdict.state, verdict.p_val
    ('alert', 0.005)
    """

    detector_type = "MMDDrift"
    requires: ClassVar = ("torch",)
    """Packages that it needs beyond the core's, each an extra of the same name."""

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        n_permutations: int | None = None,
        bandwidth: float | None = None,
        max_ref: int = 1000,
        max_rows: int = 1000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed, bandwidth=bandwidth, device=device)
        self._n_permutations = enough_permutations(n_permutations, self.level)
        self._params["n_permutations"] = self._n_permutations
        if bandwidth is not None and not 0.0 < bandwidth < math.inf:
            raise DetectorError(f"bandwidth must be a positive number, got {bandwidth!r}")
        check_device(device)
        self._bandwidth, self._device = bandwidth, device
        self._kernel: KernelTest

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        self._kernel = KernelTest(encode(columns, rows), self._bandwidth, self._device)

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        found = self._kernel.permute(encode(columns, rows), self._n_permutations, self._seed)
        effect = math.sqrt(min(max(found.statistic, 0.0) / 2.0, 1.0))
        return JointResult(found.statistic, found.p_val, found.critical, effect, float(np.median(found.permuted)))

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {"bandwidth": self._kernel.bandwidth}, {"reference": self._kernel.reference}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        reference = np.asarray(arrays["reference"], dtype=np.float64)
        self._kernel = KernelTest(reference, float(state["bandwidth"]), self._device)
