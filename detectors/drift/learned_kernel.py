"""Learned kernel: maximum mean discrepancy under the kernel that tells a window from the reference best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.device import check_device, import_torch
from detectors.drift.columns import ColumnReference
from detectors.drift.deep_kernel import DeepKernel
from detectors.drift.encoding import encode
from detectors.drift.holdout import check_train_size, part
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.kernel import discrepancies
from detectors.drift.permutation import Permuted, enough_permutations, labels


class LearnedKernelDrift(JointDrift):
    """Kernel two-sample test under a kernel learnt for each window. Needs torch: ``pip install "offpath[torch]"``.

    On one part of the reference and of the window a small network is trained, the features of which make the kernel:
    ``[(1 - eps) exp(-|f(x) - f(y)|^2 / (2 a^2)) + eps] exp(-|x - y|^2 / (2 b^2))``, so that the squared maximum mean
    discrepancy is as many of its standard deviations as possible. On the other parts its unbiased estimate is tested by
    permutation, ``(k + 1) / (P + 1)``. It finds narrow changes of the dependence that a Gaussian kernel on all columns
    alike misses, and pays for it with the rows it is trained on. Numeric columns are standardised by the
    reference, categorical ones become indicators.

    Parameters
    ----------
    n_permutations : default: 199, or as many as the level needs to be reached twice.
    train_size : share of the rows that it is trained on.
    epochs, learning_rate, batch_size : of the training. Small batches tell too little of a discrepancy to learn from.
    max_ref, max_rows : a larger reference or window is thinned to so many rows at random (seeded). They bound the
        memory: for ``N`` rows tested, ``8 N^2`` bytes a few times.
    device : ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict.
    ``effect_size`` is ``sqrt(MMD^2 / 2)`` under the kernel that was learnt: 0 none, 1 disjoint and far apart.

    References
    ----------
    Liu F. et al. (2020). Learning deep kernels for non-parametric two-sample tests. ICML.

    >>> import pytest; _ = pytest.importorskip("torch")
    >>> rng = np.random.default_rng(0)
    >>> detector = LearnedKernelDrift().fit(rng.normal(size=(500, 2)))
    >>> x = rng.normal(size=(300, 1))
    >>> verdict = detector.predict(np.hstack([x, x]))  # each column alone is as it was
    >>> verdict.state, verdict.p_val
    ('alert', 0.005)
    """

    detector_type = "LearnedKernelDrift"
    requires: ClassVar = ("torch",)
    """Packages that it needs beyond the core's, each an extra of the same name."""

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        n_permutations: int | None = None,
        train_size: float = 0.5,
        epochs: int = 40,
        learning_rate: float = 0.003,
        batch_size: int = 256,
        max_ref: int = 1000,
        max_rows: int = 1000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed)
        self._n_permutations = enough_permutations(n_permutations, self.level)
        check_train_size(train_size)
        for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 2)):
            if not isinstance(value, int) or not least <= value <= 100_000:
                raise DetectorError(f"{name} must be a whole number from {least} to 100000, got {value!r}")
        if not 0.0 < learning_rate < math.inf:
            raise DetectorError(f"learning_rate must be a positive number, got {learning_rate!r}")
        check_device(device)
        self._train_size, self._device = train_size, device
        self._training: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
        self._params |= {"n_permutations": self._n_permutations, "train_size": train_size, "device": device}
        self._params |= self._training
        self._reference: Array

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        import_torch(self.detector_type)  # what is not installed is told now
        self._reference = encode(columns, rows)

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        rng = np.random.default_rng([self._seed, 4])
        window = encode(columns, rows)
        (seen, x), (seen_of_window, y) = (part(points, self._train_size, rng) for points in (self._reference, window))
        kernel = DeepKernel(window.shape[1], np.concatenate([seen, seen_of_window]), self._seed, self._device)
        kernel.train(seen, seen_of_window, **self._training)
        found = self._permute(kernel.matrix(np.concatenate([x, y])), len(x), len(y))
        effect = math.sqrt(min(max(found.statistic, 0.0) / 2.0, 1.0))
        return JointResult(found.statistic, found.p_val, found.critical, effect, float(np.median(found.permuted)))

    def _permute(self, K: Any, n: int, m: int) -> Permuted:
        torch = import_torch(self.detector_type)
        found: list[Array] = []
        with torch.inference_mode():
            for block in labels(n, m, self._n_permutations, self._seed):
                W = torch.from_numpy(np.ascontiguousarray(block.T)).to(K.device)
                found.append(discrepancies(K, W, n, m).cpu().numpy())
        statistics = np.concatenate(found)
        return Permuted(float(statistics[0]), statistics[1:])

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {}, {"reference": self._reference}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],  # noqa: ARG002 - nothing is learnt before there is a window
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._reference = np.asarray(arrays["reference"], dtype=np.float64)
