"""Spot the difference: where does a window have more rows than the reference, or fewer?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError, Reason
from detectors.drift.classifiers import separation
from detectors.drift.columns import ColumnReference
from detectors.drift.distances import median_distance, squared_distances
from detectors.drift.encoding import encode
from detectors.drift.holdout import check_train_size, part
from detectors.drift.jointly import JointDrift, JointResult
from detectors.drift.places import middle, tell_place
from detectors.drift.witness import find_witness

_SOME = 1000  # rows from which the bandwidth is learnt


class SpotTheDiffDrift(JointDrift):
    """A classifier two-sample test that says where: its only inputs are how near a row is to a few places.

    On one part of the reference and the window places are sought, and weights of a Gaussian kernel around each, that
    tell the samples apart by logistic regression. On the other parts the area under the ROC curve is tested, as in
    :class:`~detectors.drift.classifier.ClassifierDrift`. ``reasons`` name the places, in the columns' units, and
    whether the window has more rows there or fewer. Coordinates of a place that tell nothing are the reference's mean,
    and are not named. Numeric columns are standardised by the reference, categorical ones become indicators.

    Parameters
    ----------
    n_diffs : places.
    sigma : bandwidth of the kernels; default: the median distance between reference rows.
    l1_reg : the larger, the fewer columns take part in a place.
    train_size : share of the rows in which places are sought.

    See :class:`~detectors.drift.jointly.JointDrift` for the other parameters, missing values, and the verdict. The
    statistic is the AUC on rows not seen; ``effect_size`` is ``2 AUC - 1``: 0 none, 1 disjoint.

    References
    ----------
    Jitkrittum W. et al. (2016). Interpretable distribution features with maximum testing power. NeurIPS.
    Lopez-Paz D., Oquab M. (2017). Revisiting classifier two-sample tests. ICLR.

    >>> rng = np.random.default_rng(0)
    >>> detector = SpotTheDiffDrift(sigma=1.0).fit(rng.normal(size=(2000, 3)))
    >>> x = rng.normal(size=(600, 3))
    >>> x[:100, :2] = rng.normal([2.0, -2.0], 0.3, size=(100, 2))
    >>> verdict = detector.predict(x)
    >>> verdict.state, verdict.reasons[0].text.split(" = ")[0]
    ('alert', 'more rows near x1')
    """

    detector_type = "SpotTheDiffDrift"

    def __init__(
        self,
        p_val: float | None = None,
        ert: float | None = None,
        n_diffs: int = 1,
        sigma: float | None = None,
        l1_reg: float = 0.01,
        train_size: float = 0.5,
        max_ref: int = 5000,
        max_rows: int = 5000,
        min_rows: int = 20,
        worst: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(p_val, ert, max_ref, max_rows, min_rows, worst, seed)
        if not isinstance(n_diffs, int) or not 1 <= n_diffs <= 20:
            raise DetectorError(f"n_diffs must be a whole number from 1 to 20, got {n_diffs!r}")
        if sigma is not None and not 0.0 < sigma < math.inf:
            raise DetectorError(f"sigma must be a positive number, got {sigma!r}")
        if not 0.0 <= l1_reg < math.inf:
            raise DetectorError(f"l1_reg must be a number of at least 0, got {l1_reg!r}")
        check_train_size(train_size)
        self._n_diffs, self._l1_reg, self._train_size, self._given = n_diffs, l1_reg, train_size, sigma
        self._params |= {"n_diffs": n_diffs, "sigma": sigma, "l1_reg": l1_reg, "train_size": train_size}
        self._reference: Array
        self._sigma = 0.0

    def _learn(self, columns: Sequence[ColumnReference], rows: Array) -> None:
        self._reference = encode(columns, rows)
        some = self._reference[:_SOME]
        self._sigma = self._given or median_distance(squared_distances(some, some))

    def _test(self, columns: Sequence[ColumnReference], rows: Array) -> JointResult:
        rng = np.random.default_rng([self._seed, 4])
        both = (points - middle(columns) for points in (self._reference, encode(columns, rows)))
        seen, unseen = zip(*(part(points, self._train_size, rng) for points in both), strict=True)
        of_window = np.repeat([False, True], [len(points) for points in seen])
        witness = find_witness(np.concatenate(seen), of_window, self._n_diffs, self._sigma, self._l1_reg, rng)
        found = separation(*(witness(points) for points in unseen))
        reasons = self._places(columns, witness.places, witness.weights)
        return JointResult(found.auc, found.p_val, found.critical, max(2.0 * found.auc - 1.0, 0.0), 0.5, reasons)

    def _places(self, columns: Sequence[ColumnReference], places: Array, weights: Array) -> tuple[Reason, ...]:
        order = np.argsort(-np.abs(weights), kind="stable").tolist()
        return tuple(tell_place(columns, places[j], bool(weights[j] > 0.0)) for j in order if weights[j])

    def _learnt(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {"sigma": self._sigma}, {"reference": self._reference}

    def _restore(
        self,
        columns: Sequence[ColumnReference],  # noqa: ARG002 - the reference is kept as coordinates
        state: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._reference = np.asarray(arrays["reference"], dtype=np.float64)
        self._sigma = float(state["sigma"])
