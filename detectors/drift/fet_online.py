"""Fisher's exact test for drift of yes/no columns, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError
from detectors.drift.channels import Channel, Share
from detectors.drift.columns import ColumnReference
from detectors.drift.online import OnlineDrift

Alternative = Literal["two-sided", "greater", "less"]
ALTERNATIVES: tuple[str, ...] = ("two-sided", "greater", "less")


class FETDriftOnline(OnlineDrift):
    """Fisher's exact test of the last rows of every column of two values against the reference, at every row.

    The statistic of a window is ``-log10`` of the p-value that the second value's share is the reference's; the effect
    size is the change of that share. A third value is a statistic of its own: how often it comes.

    Parameters
    ----------
    alternative : whether the second value's share may have become ``greater`` or ``less``, or either (``two-sided``).

    See :class:`~detectors.drift.online.OnlineDrift` for the other parameters, missing values, and the verdict.

    References
    ----------
    Fisher R. A. (1922). On the interpretation of chi-squared from contingency tables. J. R. Stat. Soc. 85(1).
    Cobb O., Van Looveren A., Klaise J. (2022). Sequential multivariate change detection with calibrated and memoryless
    false detection rates. AISTATS.

    >>> rng = np.random.default_rng(0)
    >>> detector = FETDriftOnline(ert=1000, n_bootstraps=50).fit(rng.random((1000, 1)) < 0.1)
    >>> verdict = detector.predict(rng.random((500, 1)) < 0.5)
    >>> verdict.state, verdict.n < 50, verdict.reasons[0].text[:13]
    ('alert', True, 'x0: share of ')
    """

    detector_type = "FETDriftOnline"
    takes = "categorical"

    def __init__(
        self,
        ert: float = 1000.0,
        window_sizes: Sequence[int] = (20, 80),
        alternative: Alternative = "two-sided",
        n_bootstraps: int = 200,
        seed: int = 0,
    ) -> None:
        if alternative not in ALTERNATIVES:
            raise DetectorError(f"alternative must be one of {', '.join(ALTERNATIVES)}, got {alternative!r}")
        super().__init__(ert, window_sizes, n_bootstraps, seed, alternative=alternative)

    def _channels(self, columns: Sequence[ColumnReference], rows: Array) -> list[Channel]:  # noqa: ARG002 - MMD needs them
        made: list[Channel] = []
        for j, column in enumerate(columns):
            if len(column.values) > 2:
                raise DetectorError(
                    f"FETDriftOnline tests columns of two values, and {column.feature.name!r} has {len(column.values)}"
                )
            if column.n:
                made += [Second(j, column, str(self._params["alternative"])), Other(j, column)]
        return made


class Second(Share):
    """The second of a column's two values."""

    def __init__(self, j: int, column: ColumnReference, alternative: str) -> None:
        super().__init__(j, int(column.counts[-1]), column.n, alternative)
        self._value = column.values[-1]

    def happens(self, values: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(values == self._value)


class Other(Share):
    """Any value but a column's two."""

    def __init__(self, j: int, column: ColumnReference) -> None:
        super().__init__(j, column.unseen, column.n)
        self._values = column.values

    def happens(self, values: Array) -> npt.NDArray[np.bool_]:
        return np.isfinite(values) & ~np.isin(values, self._values)
