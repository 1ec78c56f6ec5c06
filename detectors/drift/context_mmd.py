"""Context-aware drift: did the columns change by more than their context explains?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError, Reason, Verdict
from detectors.drift.columns import ColumnReference
from detectors.drift.conditional import Features, best_penalty, distances
from detectors.drift.distances import median_distance, squared_distances
from detectors.drift.encoding import encode
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.permutation import Permuted, enough_permutations
from detectors.drift.propensity import propensity

_SOME = 1000  # rows from which bandwidths are learnt


class ContextMMDDrift(JointDrift):
    """Did the distribution of the other columns change, given those of ``context``? The context itself may change.

    More traffic by night is no drift where nights are as they were: hour is the context. The statistic is the squared
    distance between the kernel means of both samples given the context, estimated by kernel ridge regression, on
    average over contexts of the window that were held out (MMD-ADiTT). It is compared with labels drawn anew, each
    row's by the probability that a row of its context is the window's, which a kernel logistic regression tells; the
    p-value is ``(k + 1) / (P + 1)``. Numeric columns are standardised by the reference, categorical ones become
    indicators. Where the window's contexts are none of the reference's nothing can be compared: its p-value is large.

    Parameters
    ----------
    context : names of the columns that may change.
    n_permutations : default: 199, or as many as the level needs to be reached twice.
    prop_c_held : share of the window's rows, the contexts of which the statistic is averaged over.
    n_landmarks : rows of the reference by which the kernels are approximated; they are set apart and tested no more.
        At most a third of the reference.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict.
    ``effect_size`` is the square root of the statistic, less what it is without drift, over what it would be of samples
    with nothing in common: 0 none, 1 disjoint.

    References
    ----------
    Cobb O., Van Looveren A. (2022). Context-aware drift detection. ICML.
    Williams C., Seeger M. (2000). Using the Nystroem method to speed up kernel machines. NeurIPS.

    >>> rng = np.random.default_rng(0)
    >>> def rows(n, night, slope=1.0):
    ...     hour = (rng.random(n) < night) * 12.0 + rng.normal(size=n)
    ...     return np.stack([hour, slope * hour + rng.normal(size=n)], axis=1)
    >>> detector = ContextMMDDrift(context=["x0"]).fit(rows(1000, 0.5))
    >>> detector.predict(rows(400, 0.8)).state, detector.predict(rows(400, 0.5, slope=1.1)).state
    ('ok', 'alert')
    """

    detector_type = "ContextMMDDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        context: Sequence[str] | None = None,
        n_permutations: int | None = None,
        prop_c_held: float = 0.25,
        n_landmarks: int = 100,
        max_ref: int = 1000,
        max_rows: int = 1000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed)
        names = list(context) if isinstance(context, (list, tuple)) else context
        if names is not None and not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            raise DetectorError(f"context must be a list of names of columns, got {context!r}")
        self._n_permutations = enough_permutations(n_permutations, self.level)
        if not 0.05 <= prop_c_held <= 0.9:
            raise DetectorError(f"prop_c_held must be from 0.05 to 0.9, got {prop_c_held!r}")
        if not isinstance(n_landmarks, int) or not 1 <= n_landmarks <= 1000:
            raise DetectorError(f"n_landmarks must be a whole number from 1 to 1000, got {n_landmarks!r}")
        self._names, self._held, self._n_landmarks = names or [], prop_c_held, n_landmarks
        own = {"context": names, "n_permutations": self._n_permutations}
        self._params |= {**own, "prop_c_held": prop_c_held, "n_landmarks": n_landmarks}
        self._reference: Array
        self._contexts: Features
        self._values: Features
        self._penalty = 0.0

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        is_context = self._places(columns)
        points, n = encode(columns, rows), len(rows)
        order = np.random.default_rng([self._seed, 3]).permutation(n)
        apart = min(self._n_landmarks, n // 3)
        landmarks, self._reference = points[np.sort(order[:apart])], points[np.sort(order[apart:])]
        some = points[:_SOME]
        sigmas = [median_distance(squared_distances(of, of)) for of in (some[:, is_context], some[:, ~is_context])]
        self._contexts = Features(landmarks[:, is_context], sigmas[0], constant=True)
        self._values = Features(landmarks[:, ~is_context], sigmas[1])
        self._penalty = best_penalty(*self._as_features(is_context, self._reference))

    def _places(self, columns: Sequence[ColumnReference]) -> npt.NDArray[np.bool_]:
        """``(e,)``: which coordinates are the context's."""
        names = [column.feature.name for column in columns]
        if not self._names:
            raise DetectorError("ContextMMDDrift needs context: the names of the columns that may change")
        unknown = [name for name in self._names if name not in names]
        if unknown:
            raise DetectorError(f"context names {unknown[0]!r}, which is none of the columns: {', '.join(names)}")
        if set(names) <= set(self._names):
            raise DetectorError("context names every column, which leaves none to test")
        widths = [1 if c.feature.kind == "numeric" else len(c.values) + 1 for c in columns]
        return np.repeat([name in self._names for name in names], widths)

    def _as_features(self, is_context: npt.NDArray[np.bool_], points: Array) -> tuple[Array, Array]:
        return self._contexts(points[:, is_context]), self._values(points[:, ~is_context])

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        rng, is_context = np.random.default_rng([self._seed, 4]), self._places(columns)
        window = encode(columns, rows)
        order = rng.permutation(len(window))
        n_held = min(max(round(self._held * len(window)), 1), len(window) - 1)
        held = self._contexts(window[order[:n_held]][:, is_context])
        rest = np.concatenate([self._reference, window[order[n_held:]]])
        contexts, values = self._as_features(is_context, rest)
        observed = np.repeat([0.0, 1.0], [len(self._reference), len(rest) - len(self._reference)])
        found, largest = distances(contexts, values, held, self._penalty, self._labels(contexts, observed, rng))
        permuted = Permuted(float(found[0]), found[1:])
        usual = float(np.median(permuted.permuted))
        excess = max(permuted.statistic - usual, 0.0)
        effect = math.sqrt(min(excess / largest, 1.0)) if largest > 0.0 else 0.0
        return JointResult(permuted.statistic, permuted.p_val, permuted.critical, effect, usual)

    def _labels(self, contexts: Array, observed: Array, rng: np.random.Generator) -> Iterator[Array]:
        """As they came, then drawn by how likely each row is the window's."""
        yield observed
        likely = propensity(contexts, observed)
        for _ in range(self._n_permutations):
            yield (rng.random(len(likely)) < likely).astype(np.float64)

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """As :meth:`JointDrift.predict <detectors.drift.jointly.JointDrift.predict>`; of a column of the context
        only a change of its missing values counts."""
        verdict = super().predict(x)
        features = tuple(
            f._replace(state="ok", note="context, which may change")
            if f.name in self._names and f.state == "alert"
            else f
            for f in verdict.features
        )
        reasons = tuple(r for r in verdict.reasons if r.feature not in ("", *self._names) or r.change == "missing")
        if verdict.is_drift and not reasons:
            told = f"given {', '.join(self._names)}, the distribution of the other columns changed"
            reasons = (Reason("", "distribution", math.nan, math.nan, told),)
        return replace(verdict, features=features, reasons=reasons)

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        state = {"sigma_context": self._contexts.sigma, "sigma": self._values.sigma, "penalty": self._penalty}
        landmarks = {"context_landmarks": self._contexts.landmarks, "landmarks": self._values.landmarks}
        return state, {"reference": self._reference, **landmarks}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        kept = [np.asarray(arrays[name], np.float64) for name in ("reference", "context_landmarks", "landmarks")]
        self._reference = kept[0]
        self._contexts = Features(kept[1], float(state["sigma_context"]), constant=True)
        self._values = Features(kept[2], float(state["sigma"]))
        self._penalty = float(state["penalty"])
