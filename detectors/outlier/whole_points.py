"""Algorithms that score a point as a whole, on the part of space that the reference holds."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from detectors.base import Array
from detectors.outlier.coordinates import Reading
from detectors.outlier.judging import Scores
from detectors.outlier.scale import ScaledDetector


class WholePoints(ScaledDetector):
    """Scores points in standard deviations (:mod:`detectors.outlier.scale`), moved into the reference's range.

    What lies beyond adds what the square of its coordinate is more than that of the range's end. A kernel is 0 far from
    everything, and a network says nothing of what it never saw: neither can tell an age of 190 from one of 500. Which
    columns made the score of a flagged row is found by occlusion: each column in turn is set to its usual value, and
    its part is what that takes away; what no column alone takes away is spread evenly.
    """

    @abstractmethod
    def _strangeness(self, points: Array) -> Array:
        """``(n,)`` scores of ``(n, d)`` points within the reference's range."""

    def _score(self, reading: Reading) -> Scores:
        points = self._scaled().points(reading)
        inside, beyond = self._strangeness(points), reading.beyond
        instance = inside + beyond.sum(axis=1)
        feature = np.full(points.shape, np.nan)
        flagged = np.flatnonzero(instance > self.threshold)
        if flagged.size:
            feature[flagged] = self._parts(points[flagged], inside[flagged]) + beyond[flagged]
        return Scores(instance, feature)

    def _parts(self, points: Array, inside: Array) -> Array:
        """``(n, d)`` parts of the scores of points; each row sums to its score."""
        taken = np.empty(points.shape)
        for j in range(points.shape[1]):
            without = points.copy()
            without[:, j] = 0.0
            taken[:, j] = inside - self._strangeness(without)
        taken += ((inside - taken.sum(axis=1)) / points.shape[1])[:, None]
        return taken
