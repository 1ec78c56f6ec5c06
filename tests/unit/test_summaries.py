"""Summaries of parts of a window: they merge exactly, and the verdict is that on all rows, within the stated error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Array, Feature
from detectors.drift.chisquare import ChiSquareDrift
from detectors.drift.columns import summarise
from detectors.drift.counting import RESOLUTION, coarse
from detectors.drift.cvm import CVMDrift
from detectors.drift.fet import FETDrift
from detectors.drift.ks import KSDrift
from detectors.drift.tabular import TabularDrift
from detectors.merging import Summariser, Summary, sampling_error
from detectors.sample import Sample, row_keys

FEATURES = (Feature("amount"), Feature("age"), Feature("colour", "categorical", ("red", "green", "blue")))


ROWS = CVMDrift(ert=1000).fit(np.random.default_rng(9).gamma(2.0, 1.0, size=(3000, 1)))


def table(n: int, seed: int, shift: float = 0.0, missing: float = 0.0) -> Array:
    """A column of many values, one of few, one of categories; some unseen, some missing."""
    rng = np.random.default_rng(seed)
    colours = rng.choice([-1.0, 0.0, 1.0, 2.0], size=n, p=[0.01, 0.5 + 0.1 * shift, 0.29 - 0.1 * shift, 0.2])
    rows = np.stack([rng.gamma(2.0, 1.0 + shift, n), rng.integers(18, 90, n) + np.floor(9 * shift), colours], axis=1)
    return np.where(rng.random(rows.shape) < missing, np.nan, rows)


DETECTORS: dict[str, Callable[[], tuple[object, list[int]]]] = {
    "TabularDrift": lambda: (TabularDrift(ert=1000).fit(table(4000, 1, missing=0.01), FEATURES), [0, 1, 2]),
    "KSDrift": lambda: (KSDrift(ert=1000).fit(table(4000, 1)[:, :2]), [0, 1]),
    "ChiSquareDrift": lambda: (ChiSquareDrift().fit(table(4000, 1)[:, 1:], FEATURES[1:]), [1, 2]),
    "FETDrift": lambda: (FETDrift().fit(table(4000, 1)[:, 2:] > 0), [2]),
}
FITTED = {name: make() for name, make in DETECTORS.items()}


def parts_of(x: Array, places: npt.NDArray[np.intp], summariser: Summariser) -> list[Summary]:
    """What each of the partitions has of the rows."""
    parts = []
    for place in np.unique(places).tolist():
        at = np.flatnonzero(places == place)
        keys = row_keys(f"payloads/{place}", at.tolist(), [1] * len(at))
        parts.append(summariser.summary(x[at], keys))
    return parts


def merged(parts: Sequence[Summary], size: int) -> Summary:
    return reduce(lambda a, b: a.merge(b, size), parts)


def same(a: Summary, b: Summary) -> bool:
    return (
        a.n == b.n
        and a.mark == b.mark
        and np.array_equal(a.counts, b.counts)
        and np.array_equal(a.sample.keys, b.sample.keys)
        and np.array_equal(a.sample.rows, b.sample.rows, equal_nan=True)
    )


class TestMerging:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), size=st.sampled_from([1, 7, 50, 10_000]), n=st.integers(1, 300))
    def test_order_and_grouping_change_nothing(self, data: st.DataObject, size: int, n: int) -> None:
        detector, _ = FITTED["TabularDrift"]
        summariser = Summariser(detector, size)  # type: ignore[arg-type]
        x, places = table(n, n, missing=0.1), np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
        parts = parts_of(x, places, summariser)
        whole = merged(parts, size)
        shuffled = data.draw(st.permutations(parts))
        cut = data.draw(st.integers(0, len(parts) - 1))
        assert same(merged(shuffled, size), whole)
        if cut:
            assert same(merged(shuffled[:cut], size).merge(merged(shuffled[cut:], size), size), whole)
        assert whole.n == n
        assert len(whole.sample.keys) == min(n, size)
        assert np.array_equal(whole.counts, summariser.summary(x, row_keys("any", range(n), [1] * n)).counts)

    def test_the_sample_of_the_parts_is_that_of_the_whole(self) -> None:
        x, places = table(5000, 3), np.arange(5000) % 4
        keys = np.concatenate(
            [row_keys(f"payloads/{p}", np.flatnonzero(places == p).tolist(), [1] * 1250) for p in range(4)]
        )
        rows = np.concatenate([x[places == p] for p in range(4)])
        whole = Sample.of(keys, rows, 100)
        found = merged(parts_of(x, places, Summariser(ROWS, 100)), 100).sample
        assert np.array_equal(whole.keys, found.keys)
        assert np.array_equal(whole.rows, found.rows)
        assert np.array_equal(np.sort(keys)[:100], whole.keys)

    def test_keys_are_of_places_alone_and_uniform(self) -> None:
        keys = row_keys("payloads/3", range(20_000), [1] * 20_000)
        assert len(np.unique(keys)) == 20_000
        assert abs(float((keys / 2.0**64).mean()) - 0.5) < 4 / np.sqrt(12 * 20_000)
        assert abs(float(np.corrcoef(keys[1:] / 2.0**64, keys[:-1] / 2.0**64)[0, 1])) < 4 / np.sqrt(20_000)
        assert not set(keys.tolist()) & set(row_keys("payloads/4", range(20_000), [1] * 20_000).tolist())
        together = row_keys("p", [5, 9, 2**40], [3, 1, 2]).tolist()
        assert together == [k for o, n in ((5, 3), (9, 1), (2**40, 2)) for k in row_keys("p", [o], [n]).tolist()]

    def test_counts_of_another_artefact_are_not_added(self) -> None:
        ours, theirs = (Summariser(KSDrift().fit(table(500, seed)[:, :2]), 50) for seed in (1, 2))
        x = table(400, 5)[:, :2]
        a, b = (s.summary(x, row_keys(f"p/{i}", range(400), [1] * 400)) for i, s in enumerate((ours, theirs)))
        both = a.merge(b, 50)
        assert (both.n, both.mark, len(both.counts), len(both.sample.keys)) == (800, "", 0, 50)
        assert ours.judge(both).n == 50


class TestVerdict:
    @pytest.mark.parametrize("name", FITTED)
    @pytest.mark.parametrize("shift", [0.0, 0.15])
    def test_of_few_rows_it_is_that_on_all(self, name: str, shift: float) -> None:
        detector, columns = FITTED[name]
        x = table(900, 7, shift, missing=0.02)[:, columns]
        summariser = Summariser(detector, 1000)  # type: ignore[arg-type]
        found = summariser.judge(merged(parts_of(x, np.arange(900) % 3, summariser), 1000))
        wanted = detector.predict(x)  # type: ignore[attr-defined]
        assert found.to_dict()["features"] == wanted.to_dict()["features"]
        assert (found.state, found.statistic, found.p_val, found.n) == (
            wanted.state, wanted.statistic, wanted.p_val, wanted.n,
        )  # fmt: skip

    @pytest.mark.parametrize("name", FITTED)
    @pytest.mark.parametrize("shift", [0.0, 0.03, 0.3])
    @pytest.mark.parametrize("missing", [0.0, 0.02])
    def test_of_many_rows_counts_are_exact_and_distances_nearly(self, name: str, shift: float, missing: float) -> None:
        detector, columns = FITTED[name]
        x = table(20_000, 11, shift, missing)[:, columns]
        summariser = Summariser(detector, 500)  # type: ignore[arg-type]
        found = summariser.judge(merged(parts_of(x, np.arange(len(x)) % 4, summariser), 500))
        wanted = detector.predict(x)  # type: ignore[attr-defined]
        assert (found.n, found.state) == (wanted.n, wanted.state)
        for ours, theirs in zip(found.features, wanted.features, strict=True):
            assert (ours.name, ours.n, ours.missing, ours.unseen) == (
                theirs.name,
                theirs.n,
                theirs.missing,
                theirs.unseen,
            )
            if ours.name in ("amount", "x0") and name in ("TabularDrift", "KSDrift"):
                assert 0.0 <= theirs.statistic - ours.statistic < RESOLUTION
            else:
                assert (ours.statistic, ours.p_val) == (theirs.statistic, theirs.p_val)
            if ours.histogram is not None and theirs.histogram is not None:
                assert ours.histogram == theirs.histogram
        assert [(r.feature, r.change) for r in found.reasons][:1] == [(r.feature, r.change) for r in wanted.reasons][:1]

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10_000), n=st.integers(1, 3000), where=st.floats(0, 8), spread=st.floats(0, 3))
    def test_no_window_is_further_off_than_the_resolution(self, seed: int, n: int, where: float, spread: float) -> None:
        """Also one that lies in a single cell, where nothing but the cell's end is known of it."""
        detector, _ = FITTED["KSDrift"]
        rng = np.random.default_rng(seed)
        x = np.stack([np.abs(rng.normal(where, spread, n)), rng.integers(18, 90, n)], axis=1)
        counting = detector.counting()  # type: ignore[attr-defined]
        if n < 20:
            assert counting.judge(counting.count(x), n, x[:3]).state == "insufficient_data"
            return
        found = counting.judge(counting.count(x), n, x[:50]).features[0].statistic
        wanted = detector.predict(x).features[0].statistic  # type: ignore[attr-defined]
        assert -1e-12 <= wanted - found < RESOLUTION

    def test_a_column_whose_few_values_are_not_in_the_sample_is_judged_all_the_same(self) -> None:
        detector, _ = FITTED["TabularDrift"]
        x = table(20_000, 5)
        x[:, 0] = np.where(np.arange(20_000) < 40, 1e6, np.nan)
        counting = detector.counting()  # type: ignore[attr-defined]
        verdict = counting.judge(counting.count(x), len(x), x[10_000:10_200])
        assert verdict.state == "alert"
        assert any("few values" in reason.text for reason in verdict.reasons)

    def test_a_detector_of_rows_judges_the_sample(self) -> None:
        """Its distribution function is off by more than the stated error in one of a thousand windows."""
        summariser = Summariser(ROWS, 300)
        off = 0
        for seed in range(40):
            x = table(3000, 100 + seed)[:, :1]
            whole = merged(parts_of(x, np.arange(3000) % 4, summariser), 300)
            assert summariser.judge(whole).n == 300
            points, kept = np.sort(x[:, 0]), np.sort(whole.sample.rows[:, 0])
            of_all, of_kept = (np.searchsorted(values, points, side="right") / len(values) for values in (points, kept))
            off += bool(np.abs(of_all - of_kept).max() > sampling_error(300))
        assert off <= 1

    def test_the_sample_takes_all_rows_alike(self) -> None:
        summariser = Summariser(ROWS, 200)
        x = np.arange(4000.0)[:, None]
        taken = np.zeros(4000)
        for day in range(300):
            keys = row_keys("payloads/0", range(4000 * day, 4000 * (day + 1)), [1] * 4000)
            taken[summariser.summary(x, keys).sample.rows[:, 0].astype(int)] += 1
        thirds = taken.reshape(8, 500).sum(axis=1)
        assert abs(thirds - 300 * 200 / 8).max() < 4 * np.sqrt(300 * 200 / 8)


def test_coarse_columns_keep_what_is_between_two_values_small() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=50_000), rng.exponential(size=4000) ** 3, np.repeat(rng.random(3000), 2)):
        column = summarise(values, Feature("x"), "numeric")
        made = coarse(column)
        assert len(made.values) < 540 < len(column.values)
        ends = [0.0, *made.reached[:-1].tolist()]
        between = [b - a for i, (a, b) in enumerate(pairwise(ends)) if i % 2 == 0]
        assert max(between) < RESOLUTION
        assert made.edges == column.edges
        assert made.bin_shares == column.bin_shares
