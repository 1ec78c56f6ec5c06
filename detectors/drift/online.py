"""What all online drift detectors share: fitting, the calibration of the threshold, runs, saving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import (
    Array,
    DetectorError,
    Feature,
    FeatureKind,
    Meta,
    NotFittedError,
    Parts,
    Reason,
    ShapeError,
    Verdict,
    as_rows,
    default_features,
)
from detectors.drift.channels import Channel, missing_shares
from detectors.drift.columns import ColumnReference, from_arrays, summarise, to_arrays
from detectors.drift.explaining import explain
from detectors.drift.online_run import Gauge, OnlineRun
from detectors.drift.run_length import SCALING_STREAMS, calibrate


class OnlineDrift(ABC):
    """Online drift detection: every row is judged as it comes, on the last rows in windows of several sizes.

    Parameters
    ----------
    ert : expected run time: rows between two false alarms.
    window_sizes : rows; small windows find large changes soon, large ones small changes at all.
    n_bootstraps : simulated streams from which the threshold is learnt. 200 make the run time right within 10 % or so.
    seed : of the simulation.

    Verdict
    -------
    ``statistic`` is the largest of all columns and window sizes, each divided by its own 99 % point on streams of the
    reference; ``threshold`` is what it exceeds once in ``ert`` rows without drift. The detector alarms at the row at
    which that happens, and begins anew after it. ``effect_size`` is that of the column and window with the largest
    statistic. There is no p-value. In ``features`` stand each column's largest statistic and its state. Nothing is
    judged before the smallest window is full; until then, and where there are fewer rows, the state is
    ``insufficient_data``. Missing values are left out of a column's statistic, and how often they come is a statistic
    of its own.

    ``predict`` judges rows as the beginning of a stream, up to the first alarm.
    """

    detector_type: ClassVar[str]
    takes: ClassVar[FeatureKind | None] = None
    """The kind of column that it takes; both, if there is none."""

    def __init__(self, ert: float, window_sizes: Sequence[int], n_bootstraps: int, seed: int, **params: Any) -> None:
        if not 1.0 < ert < math.inf:
            raise DetectorError(f"ert must be a number of rows above 1, got {ert!r}")
        sizes = list(window_sizes) if isinstance(window_sizes, (list, tuple)) else []
        if not sizes or not all(isinstance(w, int) and 2 <= w <= 10_000 for w in sizes):
            raise DetectorError(f"window_sizes must be a list of whole numbers from 2 to 10000, got {window_sizes!r}")
        if not isinstance(n_bootstraps, int) or n_bootstraps < SCALING_STREAMS:
            raise DetectorError(f"n_bootstraps must be a whole number from {SCALING_STREAMS} on, got {n_bootstraps!r}")
        if not isinstance(seed, int) or seed < 0:
            raise DetectorError(f"seed must be a whole number of at least 0, got {seed!r}")
        self._params = {"ert": ert, "window_sizes": sizes, "n_bootstraps": n_bootstraps, "seed": seed, **params}
        self._windows = sorted(set(sizes))
        self._features: tuple[Feature, ...] = ()
        self._columns: tuple[ColumnReference, ...] = ()
        self._n_ref = 0
        self._gauge: Gauge | None = None

    def _prepare(self, columns: Sequence[ColumnReference], rows: Array) -> None:  # noqa: B027 - most have nothing
        """Learn what stays as it is in the simulation, where the rest is learnt of each simulated reference."""

    @abstractmethod
    def _channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:
        """The statistics against a reference; missing values have channels already."""

    def _streams(self, rows: Array, rng: np.random.Generator, length: int) -> tuple[Array, Array]:
        """A reference and a stream of so many rows without drift between them; here: both drawn with replacement."""
        n = len(rows)
        return rows[rng.integers(0, n, n)], rows[rng.integers(0, n, length)]

    @property
    def meta(self) -> Meta:
        return Meta(self.detector_type, "drift", self._params, self._features, self._n_ref, self._windows[0])

    @property
    def memory(self) -> int:
        return int(self._windows[-1]) - 1

    def fit(
        self,
        x_ref: npt.ArrayLike,
        features: Sequence[Feature] | None = None,
        progress: Callable[[float], object] = lambda _: None,
    ) -> Self:
        """Learn the reference ``x_ref`` of shape ``(n_ref, d)``, and the threshold. ``progress`` is told 0 to 1.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has another number of columns than ``features``.
        DetectorError : it has fewer rows than twice the largest window, no column, or a column of the wrong kind.
        """
        rows = as_rows(x_ref)
        described = default_features(rows.shape[1]) if features is None else tuple(features)
        if len(described) != rows.shape[1]:
            raise ShapeError(f"{len(described)} features are described, but the rows have {rows.shape[1]} columns")
        if not described:
            raise ShapeError("the reference has no column")
        least = 2 * self._windows[-1]
        if len(rows) < least:
            raise DetectorError(f"the reference has {len(rows)} rows, twice the largest window are needed, {least}")
        columns = self._summarise(rows, described)
        self._prepare(columns, rows)
        scales, threshold = self._calibrated(rows, described, progress)
        self._features, self._columns, self._n_ref = described, columns, len(rows)
        self._gauge = Gauge(self._all_channels(columns, rows), self._windows, scales, threshold)
        return self

    def _summarise(self, rows: Array, features: Sequence[Feature]) -> tuple[ColumnReference, ...]:
        made = []
        for j, feature in enumerate(features):
            kind = self.takes or feature.kind
            if kind == "numeric" and feature.kind != "numeric":
                raise DetectorError(f"{self.detector_type} tests numeric columns, and {feature.name!r} is categorical")
            made.append(summarise(rows[:, j], feature, kind))
        return tuple(made)

    def _calibrated(
        self, rows: Array, features: Sequence[Feature], progress: Callable[[float], object]
    ) -> tuple[Array, float]:
        """Each statistic's scale, and the threshold of the largest."""

        def simulate(rng: np.random.Generator, length: int) -> Array:
            reference, stream = self._streams(rows, rng, length)
            channels = self._all_channels(self._summarise(reference, features), reference)
            found = [channel.measure(channel.encode(stream), length, self._windows) for channel in channels]
            return np.stack(found, axis=1)

        floors = np.array([channel.floor for channel in self._all_channels(self._summarise(rows, features), rows)])
        ert, n, seed = (self._params[name] for name in ("ert", "n_bootstraps", "seed"))
        return calibrate(simulate, floors, float(ert), self._windows[-1], int(n), int(seed), progress)

    def _all_channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:
        return [*self._channels(columns, rows), *missing_shares(columns, len(rows))]

    def start(self) -> OnlineRun:
        """Begin with a stream. Raises :class:`NotFittedError`."""
        return OnlineRun(self._need_fit(), self._features, self._explain)

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge ``x`` of shape ``(n, d)`` as the beginning of a stream, up to the first alarm.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        """
        gauge = self._need_fit()
        rows = as_rows(x, len(self._features))
        return OnlineRun(gauge, self._features, self._explain).push(rows)[1]

    def _explain(self, window: Array, columns: Sequence[int]) -> tuple[Reason, ...]:
        """What changed in these columns, of the rows of the window that alarmed."""
        return explain(self._columns, self._n_ref, window, columns)

    def _need_fit(self) -> Gauge:
        if self._gauge is None:
            raise NotFittedError(f"{self.detector_type} has no reference yet: call fit(x_ref) first")
        return self._gauge

    def to_parts(self) -> Parts:
        """The parameters, each column's distinct values with their counts, the scales and the threshold."""
        gauge = self._need_fit()
        tested = [[c.feature.name, c.feature.kind, list(c.feature.categories)] for c in self._columns]
        state = {"n_ref": self._n_ref, "tested": tested, "threshold": gauge.threshold}
        return Parts(self._params, state, {**to_arrays(self._columns), "scales": gauge.scales}, self._features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        detector = cls(**parts.params)
        try:
            tested = [Feature(name, kind, tuple(labels)) for name, kind, labels in parts.state["tested"]]
            detector._n_ref, threshold = int(parts.state["n_ref"]), float(parts.state["threshold"])
            scales = np.asarray(parts.arrays["scales"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorError(f"the artefact's state cannot be used ({error!r}): fit the detector again") from None
        detector._features, detector._columns = tuple(parts.features), from_arrays(parts.arrays, tested)
        channels = detector._restored(parts)
        detector._gauge = Gauge(channels, detector._windows, scales, threshold)
        return detector

    def _restored(self, parts: Parts) -> list[Channel]:  # noqa: ARG002 - for those that keep rows
        """The channels of a detector that was saved."""
        return [*self._channels(self._columns, np.empty((0, 0))), *missing_shares(self._columns, self._n_ref)]
