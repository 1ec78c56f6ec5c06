"""From the columns of a window to a verdict: missing values, correction across columns, states and reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array, Effect, Feature, FeatureVerdict, Histogram, Reason, State, Verdict
from detectors.drift.columns import ColumnReference
from detectors.drift.correction import correct
from detectors.drift.effects import effects_of
from detectors.drift.grouped import Bools, CellTest, ColumnTest, Measured
from detectors.drift.proportions import share_p
from detectors.drift.words import categorical_reason, missing_reason, numeric_reason, unexplained

_SMALLEST_P = 1e-300


@dataclass(frozen=True, slots=True)
class Rule:
    """When a window is an alert, and how much is told about it."""

    level: float
    correction: str
    min_rows: int
    worst: int


class Fitted:
    """The reference, ready for testing."""

    def __init__(
        self,
        columns: Sequence[ColumnReference],
        features: tuple[Feature, ...],
        n_ref: int,
        tests: Sequence[ColumnTest],
        min_rows: int,
    ) -> None:
        self.columns, self.features, self.n_ref = tuple(columns), features, n_ref
        self.tests = [test for test in tests if len(test.positions)]
        self.any_missing = any(column.missing for column in columns)
        self.usable = np.array([column.n >= min_rows for column in columns])
        self.notes = [_note(column, min_rows) for column in columns]
        self.place = {int(j): (group, k) for group, test in enumerate(self.tests) for k, j in enumerate(test.positions)}


def _note(column: ColumnReference, min_rows: int) -> str:
    if column.n < min_rows:
        return f"{column.n} values in the reference, at least {min_rows} needed"
    return "constant in the reference" if column.is_constant else ""


def judge(fitted: Fitted, rule: Rule, rows: Array) -> Verdict:
    """The verdict on ``rows`` of shape ``(n, d)``."""
    finite = np.isfinite(rows)
    missing = None if finite.all() else ~finite
    gone: list[int] = [0] * len(fitted.columns) if missing is None else missing.sum(axis=0).tolist()
    if len(rows) < rule.min_rows:
        return _too_few(fitted, rule, len(rows), gone)
    return _Window(fitted, rule, _measure(fitted, rows, missing), len(rows), gone, rows, missing).verdict()


def judge_counts(fitted: Fitted, rule: Rule, counts: Array, n: int, sample: Array) -> Verdict:
    """The verdict on ``n`` rows of which there are the counts of all cells, and some rows, for the words.

    ``fitted`` has a single test, which counts every column in cells.
    """
    (test,) = fitted.tests
    assert isinstance(test, CellTest)
    gone = [0] * len(fitted.columns)
    for j, absent in zip(test.positions.tolist(), counts[test.layout.ends].tolist(), strict=True):
        gone[j] = int(absent)
    if n < rule.min_rows:
        return _too_few(fitted, rule, n, gone)
    missing = ~np.isfinite(sample) if any(gone) else None
    found = _found(fitted, [(test.measured(counts), counts)])
    return _Window(fitted, rule, found, n, gone, sample, missing).verdict()


class Found(NamedTuple):
    """What the tests of a window found, column by column, and what histograms are made of, test by test."""

    measured: Measured
    evidence: list[Any]
    unseen: list[int]


def _measure(fitted: Fitted, x: Array, missing: Bools | None) -> Found:
    return _found(fitted, [test.measure(x, missing) for test in fitted.tests])


def _found(fitted: Fitted, results: Sequence[tuple[Measured, Any]]) -> Found:
    d = len(fitted.columns)
    table, evidence, unseen = np.empty((4, d)), [], [0] * d
    for test, (measured, counted) in zip(fitted.tests, results, strict=True):
        for row, values in zip(table, measured, strict=True):
            row[test.positions] = values
        evidence.append(counted)
        others = test.unseen(counted)
        if others is not None:
            for k in np.flatnonzero(others).tolist():
                unseen[test.positions[k]] = int(others[k])
    return Found(Measured(*table), evidence, unseen)


def _too_few(fitted: Fitted, rule: Rule, n: int, gone: Sequence[int]) -> Verdict:
    note = f"{n} rows, at least {rule.min_rows} needed"
    return Verdict(
        "insufficient_data",
        n,
        features=tuple(
            FeatureVerdict(f.name, f.kind, "insufficient_data", None, None, None, None, n - absent, absent, 0, note)
            for f, absent in zip(fitted.features, gone, strict=True)
        ),
    )


class _Window:
    """One window on its way to a verdict. Columns are indexed by ``j``."""

    def __init__(
        self,
        fitted: Fitted,
        rule: Rule,
        found: Found,
        n: int,
        gone: list[int],
        x: Array,
        missing: Bools | None,
    ) -> None:
        self.fitted, self.rule, self.x, self.missing, self.gone = fitted, rule, x, missing, gone
        self.n, self.d = n, len(gone)
        self.found, self.evidence, self.unseen = found
        self.tested = fitted.usable
        if missing is not None:
            self.tested = fitted.usable & (self.found.n >= rule.min_rows)
        self.missing_p: dict[int, float] = {}
        self.p = self.found.p_val if self.tested.all() else np.where(self.tested, self.found.p_val, np.nan)
        if missing is not None or fitted.any_missing:
            self._count_missing_in()

    def _count_missing_in(self) -> None:
        self.p = self.p.copy()
        for j, column in enumerate(self.fitted.columns):
            if column.missing or self.gone[j]:
                own = share_p(column.missing, self.fitted.n_ref, self.gone[j], self.n)
                self.missing_p[j] = min(1.0, 2.0 * own)
                self.p[j] = min(1.0, 2.0 * float(np.fmin(self.p[j], own)))

    def verdict(self) -> Verdict:
        level = self.rule.level
        known = self.p[~np.isnan(self.p)]
        threshold, smallest = correct(known, level, self.rule.correction) if known.size else (0.0, 1.0)
        alert = smallest <= level
        if not (alert or self.tested.any()):
            features = self._features([None] * self.d, [None] * self.d, 0.0, {}, {})
            return Verdict("insufficient_data", self.n, features=features)
        p, effects = self.p.tolist(), np.where(self.tested, self.found.effect_size, np.nan).tolist()
        order = sorted(range(len(p)), key=lambda j: _rank(p[j], effects[j]))
        worst = order[: self.rule.worst]
        histograms = {j: self._histogram(j) for j in worst}
        # Of columns in alert only: they take as long as the tests of some columns.
        sizes = {j: self._sizes(j, histograms[j]) for j in worst if p[j] <= threshold}
        features = self._features(p, effects, threshold, histograms, sizes)
        return Verdict(
            "alert" if alert else "ok",
            self.n,
            -math.log10(max(smallest, _SMALLEST_P)) + 0.0,
            -math.log10(level),
            smallest,
            max((effect for effect in effects if effect == effect), default=None),
            features,
            tuple(reason for j in order if p[j] <= threshold for reason in self._reasons(j, threshold)),
        )

    def _features(
        self,
        p: Sequence[float | None],
        effects: Sequence[float | None],
        threshold: float,
        histograms: dict[int, Histogram | None],
        sizes: dict[int, tuple[Effect, ...]],
    ) -> tuple[FeatureVerdict, ...]:
        statistics, present, tested = self.found.statistic.tolist(), self.found.n.tolist(), self.tested.tolist()
        made = []
        for j, feature in enumerate(self.fitted.features):
            own, n, note = p[j], int(present[j]), self.fitted.notes[j]
            known = own is not None and own == own
            state: State = (
                "alert" if own is not None and own <= threshold else "ok" if tested[j] else "insufficient_data"
            )
            if state == "insufficient_data" and not note:
                note = f"{n} values present, at least {self.rule.min_rows} needed"
            made.append(
                FeatureVerdict(
                    feature.name,
                    feature.kind,
                    state,
                    statistics[j] if tested[j] else None,
                    own if known else None,
                    threshold if known else None,
                    effects[j] if tested[j] else None,
                    n,
                    self.gone[j],
                    self.unseen[j],
                    note,
                    histograms.get(j),
                    sizes.get(j, ()),
                )
            )
        return tuple(made)

    def _histogram(self, j: int) -> Histogram | None:
        group, k = self.fitted.place[j]
        return self.fitted.tests[group].histogram(self.evidence[group], k)

    def _sizes(self, j: int, histogram: Histogram | None) -> tuple[Effect, ...]:
        if not self.tested[j]:
            return ()
        column = self.fitted.columns[j]
        return effects_of(column, histogram, int(self.found.n[j]), self._present(j))

    def _present(self, j: int) -> Array:
        return self.x[:, j] if self.missing is None else self.x[~self.missing[:, j], j]

    def _reasons(self, j: int, threshold: float) -> list[Reason]:
        column, reasons = self.fitted.columns[j], []
        doubled = 2.0 if j in self.missing_p else 1.0
        if self.missing_p.get(j, 1.0) <= threshold:
            reasons.append(missing_reason(column, self.gone[j], self.n, self.fitted.n_ref))
        if self.tested[j] and doubled * self.found.p_val[j] <= threshold:
            reasons.append(self._reason(j))
        return reasons

    def _reason(self, j: int) -> Reason:
        group, k = self.fitted.place[j]
        counts = self.fitted.tests[group].category_counts(self.evidence[group], k)
        if counts is not None:
            return categorical_reason(self.fitted.columns[j], counts)
        x = self._present(j)
        return numeric_reason(self.fitted.columns[j], x) if len(x) else unexplained(self.fitted.columns[j])


def _rank(p: float, effect: float) -> tuple[float, float]:
    """Smallest p-values first, then largest effects; columns without a p-value last."""
    return (p if p == p else 2.0, -effect if effect == effect else 0.0)
