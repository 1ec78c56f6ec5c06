"""What drift detectors say about missing, unseen, constant and too few values, and how they say it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from detectors.base import UNSEEN, DetectorError, Feature, NotFittedError, Parts, ShapeError
from detectors.drift.chisquare import ChiSquareDrift
from detectors.drift.cvm import CVMDrift
from detectors.drift.fet import FETDrift
from detectors.drift.ks import KSDrift
from detectors.drift.tabular import TabularDrift

COLOURS = Feature("colour", "categorical", ("red", "green", "blue"))
MIXED = [Feature("Age"), Feature("income"), COLOURS, Feature("member", "categorical", ("no", "yes"))]
BY_COLUMN = [KSDrift, CVMDrift, ChiSquareDrift, FETDrift, TabularDrift]


def mixed(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n)
    return np.stack([age, rng.lognormal(3, 1, n), rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.random(n) < 0.1], axis=1)


def rows_for(detector: type, n: int, seed: int) -> np.ndarray:
    """Two columns that the detector takes."""
    return mixed(n, seed)[:, [3, 3] if detector is FETDrift else [2, 3] if detector is ChiSquareDrift else [0, 1]]


@pytest.fixture(scope="module")
def fitted() -> TabularDrift:
    return TabularDrift().fit(mixed(5000, 0), MIXED)


def test_a_clean_window_is_ok(fitted):
    verdict = fitted.predict(mixed(1000, 1))
    assert verdict.state == "ok"
    assert verdict.reasons == ()
    assert [f.state for f in verdict.features] == ["ok"] * 4
    assert verdict.n == 1000


def test_the_windows_statistic_and_threshold_are_comparable(fitted):
    for x in (mixed(1000, 1), mixed(1000, 2) * [0.9, 1, 1, 1]):
        verdict = fitted.predict(x)
        assert (verdict.statistic >= verdict.threshold) == (verdict.state == "alert") == (verdict.p_val <= 0.05)
        assert verdict.statistic == pytest.approx(-np.log10(verdict.p_val))
        assert verdict.p_val == pytest.approx(min(1.0, 4 * min(f.p_val for f in verdict.features)))
        assert {f.threshold for f in verdict.features} == {0.05 / 4}
        assert verdict.effect_size == max(f.effect_size for f in verdict.features)


def test_an_overwhelming_change_has_a_finite_statistic(fitted):
    verdict = fitted.predict(mixed(5000, 1) + np.array([1000, 0, 0, 0]))
    assert verdict.state == "alert"
    assert verdict.statistic == 300.0
    assert json.dumps(verdict.to_dict(), allow_nan=False)


def test_reasons_speak_in_the_columns_units(fitted):
    x = mixed(2000, 3)
    x = x[(x[:, 0] < 30) & (x[:, 2] != 0)]
    verdict = fitted.predict(x)
    texts = [reason.text for reason in verdict.reasons]
    assert texts == ["Age: mean 48.6 -> 23.9", "colour: share of red 49 % -> 0 %"]
    assert [r.change for r in verdict.reasons] == ["mean", "share"]
    assert [f.state for f in verdict.features] == ["alert", "ok", "alert", "ok"]


def test_a_change_of_scale_and_of_shape_are_named():
    rng = np.random.default_rng(0)
    detector = TabularDrift(worst=1).fit(rng.normal(size=(5000, 1)), [Feature("x")])
    wide = detector.predict(rng.normal(scale=2.0, size=(1000, 1))).reasons[0]
    assert (wide.change, round(wide.before), round(wide.after)) == ("scale", 1, 2)
    assert wide.text.startswith("x: standard deviation 1.")
    two = np.where(rng.random(1000) < 0.5, -1.0, 1.0)[:, None]
    shape = detector.predict(two).reasons[0]
    assert shape.change == "distribution"
    assert shape.text.startswith("x: share up to ")


def test_a_constant_window_is_told_as_such():
    """Floats such as 0.1 have a mean that is not quite 0.1, and a deviation that is not quite 0."""
    rng = np.random.default_rng(0)
    detector = KSDrift().fit(rng.choice([0.1, 0.7], (4000, 1), p=[0.75, 0.25]), [Feature("x")])
    (seen,) = detector.predict(np.full((300, 1), 0.1)).reasons
    (unseen,) = detector.predict(np.full((300, 1), 1.9)).reasons
    assert (seen.change, seen.after, seen.text) == ("share", 1.0, "x: constant at 0.1, share 75 % -> 100 %")
    assert (unseen.change, unseen.after, unseen.text) == ("mean", 1.9, "x: constant, mean 0.2 -> 1.9")
    constant = KSDrift().fit(np.full((4000, 1), 0.1), [Feature("x")])
    assert constant.predict(np.full((300, 1), 0.3)).reasons[0].text == "x: constant, mean 0.10 -> 0.30"


def test_a_window_without_the_rare_large_values_is_told_by_what_changed_among_the_others():
    """Its own deviation is nearly nothing: only the reference's says how far that of so few rows may be off."""
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(20_000) < 0.01, 10_000.0, rng.choice([0.0, 1.0, 2.0], 20_000))
    detector = KSDrift().fit(gains[:, None], [Feature("gain")])
    reason = detector.predict(rng.choice([0.0, 1.0, 2.0], (200, 1), p=[0.6, 0.3, 0.1])).reasons[0]
    assert reason.text == "gain: share up to 0 33 % -> 67 %"


def test_only_the_worst_columns_have_a_histogram(fitted):
    x = mixed(1000, 4)
    x[:, 2] = 1
    features = TabularDrift(worst=1).fit(mixed(5000, 0), MIXED).predict(x).features
    assert [f.histogram is None for f in features] == [True, True, False, True]
    assert features[2].histogram.window == (0.0, 1.0, 0.0)
    assert features[2].histogram.labels == COLOURS.categories
    assert all(f.histogram is not None for f in TabularDrift(worst=4).fit(mixed(5000, 0), MIXED).predict(x).features)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("shift", [0.0, -5.5, 1000.0])
def test_histograms_count_every_value_in_the_bin_it_belongs_to(column, shift):
    ref, x = mixed(3000, 0)[:, [column]], mixed(500, 1)[:, [column]] + shift
    histogram = KSDrift(worst=1).fit(ref).predict(x).features[0].histogram
    edges = np.array(histogram.edges)
    assert (np.diff(edges) > 0).all()
    assert len(edges) == len(histogram.window) + 1 == len(histogram.reference) + 1
    inner = edges[1:-1]
    for shares, values in ((histogram.reference, ref), (histogram.window, x)):
        counts = np.bincount(np.searchsorted(inner, values.ravel(), side="right"), minlength=len(edges) - 1)
        np.testing.assert_allclose(shares, counts / len(values), atol=1e-12)


def test_missing_values_are_left_out_of_the_test_of_the_values(fitted):
    x = mixed(1000, 5)
    gone = np.arange(1000) == 7
    x[gone, 1] = np.nan
    alone = KSDrift(correction="none").fit(mixed(5000, 0)[:, [1]]).predict(x[~gone][:, [1]]).features[0]
    found = fitted.predict(x).features[1]
    assert (found.n, found.missing) == (1000 - gone.sum(), gone.sum())
    assert found.statistic == alone.statistic
    assert found.state == "ok"


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_jump_of_the_missing_share_is_drift(fitted, column, nothing):
    x = mixed(1000, 1)
    x[:120, column] = nothing
    verdict = fitted.predict(x)
    assert verdict.state == "alert"
    assert [f.state for f in verdict.features].count("alert") == 1
    found = verdict.features[column]
    assert (found.state, found.missing, found.n) == ("alert", 120, 880)
    assert verdict.reasons[0].change == "missing"
    assert verdict.reasons[0].text == f"{MIXED[column].name}: missing 0 % -> 12 %"


def test_a_known_share_of_missing_values_is_no_drift():
    ref, x = mixed(5000, 0), mixed(1000, 1)
    ref[np.random.default_rng(0).random(5000) < 0.3, 0] = np.nan
    x[np.random.default_rng(1).random(1000) < 0.3, 0] = np.nan
    detector = TabularDrift().fit(ref, MIXED)
    assert detector.predict(x).state == "ok"
    full = detector.predict(mixed(1000, 1))
    assert full.reasons[0].text == "Age: missing 30 % -> 0 %"


def test_a_column_without_values_is_judged_by_its_missing_share(fitted):
    x = mixed(1000, 1)
    x[:, 1] = np.nan
    found = fitted.predict(x).features[1]
    assert (found.state, found.statistic, found.n) == ("alert", None, 0)
    assert fitted.predict(x).reasons[0].text == "income: missing 0 % -> 100 %"
    ref = mixed(5000, 0)
    ref[:, 1] = np.nan
    detector = TabularDrift().fit(ref, MIXED)
    verdict = detector.predict(x)
    assert verdict.state == "ok"
    assert verdict.features[1].state == "insufficient_data"
    assert verdict.features[1].note == "0 values in the reference, at least 20 needed"
    assert [f.state for f in verdict.features].count("ok") == 3


def test_values_outside_the_categories_are_a_category(fitted):
    x = mixed(1000, 6)
    x[:100, 2], x[100:150, 2], x[150:200, 2] = UNSEEN, 17, 0.5
    verdict = fitted.predict(x)
    found = verdict.features[2]
    assert (found.state, found.unseen, found.missing) == ("alert", 200, 0)
    assert verdict.reasons[0].text == "colour: share of values not in the reference 0 % -> 20 %"
    assert found.histogram.labels[-1] == "not in the reference"
    assert found.histogram.window[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("detector", BY_COLUMN)
def test_a_constant_column_is_tested_and_noted(detector):
    ref, x = rows_for(detector, 1000, 0), rows_for(detector, 200, 1)
    ref[:, 0] = x[:, 0] = 1
    fitted = detector().fit(ref)
    same = fitted.predict(x)
    assert (same.features[0].state, same.features[0].p_val) == ("ok", 1.0)
    assert same.features[0].note == "constant in the reference"
    x[:, 0] = 0
    other = fitted.predict(x)
    assert other.features[0].state == "alert"
    assert other.features[1].state == "ok"


def test_too_few_rows_are_insufficient_data(fitted):
    for n in (0, 1, 19):
        verdict = fitted.predict(mixed(100, 0)[:n] + 1000)
        assert verdict.state == "insufficient_data"
        assert (verdict.n, verdict.statistic, verdict.p_val) == (n, None, None)
        assert {f.state for f in verdict.features} == {"insufficient_data"}
        assert verdict.features[0].note == f"{n} rows, at least 20 needed"
    assert fitted.predict(mixed(100, 0)[:20] + 1000).state == "alert"


def test_too_few_values_in_one_column_leave_the_others():
    detector = TabularDrift(correction="none").fit(np.where(np.eye(4)[1] > 0, np.nan, mixed(5000, 0)), MIXED)
    x = mixed(1000, 1)
    x[5:, 1] = np.nan
    verdict = detector.predict(x)
    assert verdict.features[0].state == "ok"
    assert verdict.features[1].n == 5


@pytest.mark.parametrize("detector", BY_COLUMN)
def test_input_is_never_changed_and_answers_repeat(detector):
    ref, x = rows_for(detector, 500, 0), rows_for(detector, 300, 1)
    x[3, 0] = np.nan
    for order in "CF":
        given, window = np.array(ref, order=order), np.array(x, order=order)
        fitted = detector().fit(given)
        first = fitted.predict(window).to_dict()
        fitted.predict(window[::-1] * 0 + 1)
        assert fitted.predict(window).to_dict() == first
        np.testing.assert_array_equal(window, x)
        np.testing.assert_array_equal(given, ref)
    given[:] = 0  # the reference was frozen at fit
    assert fitted.predict(window).to_dict() == first


def test_one_column_is_not_sorted_in_place():
    x = mixed(300, 1)[:, [1]]
    before = x.copy()
    KSDrift().fit(x).predict(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("detector", BY_COLUMN)
def test_dtypes(detector, dtype):
    ref, x = (rows_for(detector, n, n).astype(dtype) for n in (500, 300))
    fitted = detector().fit(ref)
    assert fitted.predict(x).to_dict() == fitted.predict(x.astype(np.float64)).to_dict()
    assert fitted.predict(x.tolist()).state == "ok"


@pytest.mark.parametrize("detector", BY_COLUMN)
def test_parts_give_the_same_next_verdict(detector):
    ref, x = rows_for(detector, 700, 0), rows_for(detector, 300, 1)
    ref[:30, 0], x[:5, 1] = np.nan, np.nan
    fitted = detector(ert=100, correction="bh", worst=2).fit(ref)
    parts = fitted.to_parts()
    parts = Parts(
        json.loads(json.dumps(dict(parts.params))),
        json.loads(json.dumps(dict(parts.state))),
        parts.arrays,
        parts.features,
    )
    again = detector.from_parts(parts)
    assert again.meta == fitted.meta
    assert again.predict(x).to_dict() == fitted.predict(x).to_dict()
    assert again.predict(x + 1).to_dict() == fitted.predict(x + 1).to_dict()


def test_parts_that_do_not_fit_together_are_refused(fitted):
    parts = fitted.to_parts()
    short = dict(parts.arrays, counts=parts.arrays["counts"][1:])
    with pytest.raises(DetectorError, match="fit together"):
        TabularDrift.from_parts(Parts(parts.params, parts.state, short, parts.features))
    lacking = {name: array for name, array in parts.arrays.items() if name != "values"}
    with pytest.raises(DetectorError, match="values"):
        TabularDrift.from_parts(Parts(parts.params, parts.state, lacking, parts.features))
    with pytest.raises(DetectorError, match="state"):
        TabularDrift.from_parts(Parts(parts.params, {}, parts.arrays, parts.features))


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"p_val": 0.0}, "p_val"),
        ({"p_val": 1.5}, "p_val"),
        ({"ert": 1}, "ert"),
        ({"ert": 100, "p_val": 0.05}, "not both"),
        ({"correction": "sidak"}, "bonferroni"),
        ({"min_rows": 1}, "min_rows"),
        ({"worst": -1}, "worst"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        KSDrift(**params)


def test_bad_references_are_named():
    with pytest.raises(DetectorError, match="19 rows, at least 20"):
        KSDrift().fit(np.zeros((19, 1)))
    with pytest.raises(ShapeError, match="2 features"):
        KSDrift().fit(np.zeros((100, 1)), [Feature("a"), Feature("b")])
    with pytest.raises(ShapeError):
        KSDrift().fit(np.zeros(100))
    with pytest.raises(ShapeError, match="no column"):
        KSDrift().fit(np.zeros((100, 0)))
    with pytest.raises(DetectorError, match="colour"):
        KSDrift().fit(np.zeros((100, 1)), [COLOURS])
    with pytest.raises(DetectorError, match=r"x0.*1500 distinct"):
        ChiSquareDrift().fit(np.arange(1500.0)[:, None])
    with pytest.raises(DetectorError, match=r"x0.*3"):
        FETDrift().fit(np.arange(60.0)[:, None] % 3)
    with pytest.raises(NotFittedError):
        KSDrift().predict(np.zeros((100, 1)))
    with pytest.raises(ShapeError, match="fitted on 4"):
        TabularDrift().fit(mixed(100, 0), MIXED).predict(np.zeros((100, 3)))


def test_ert_is_one_over_the_level():
    assert KSDrift(ert=200).level == 0.005
    assert KSDrift().level == 0.05
    assert dict(KSDrift(ert=200).meta.params)["p_val"] is None


@pytest.mark.parametrize("spread", [1, 1000, 200_000, 1e12])
def test_far_apart_and_uneven_values_count_the_same(spread):
    """Tables, binary search and sorting are three ways to one statistic."""
    rng = np.random.default_rng(0)
    ref, x = (np.floor(rng.normal(size=(n, 1)) * 4) * spread for n in (2000, 300))
    x[:20] += 0.25 * spread
    plain = KSDrift().fit(ref / spread).predict(x / spread).features[0]
    found = KSDrift().fit(ref).predict(x).features[0]
    assert found.statistic == pytest.approx(plain.statistic, abs=1e-12)
    codes = ChiSquareDrift().fit(ref).predict(x).features[0]
    assert codes.unseen == plain.n - np.isin(x, ref).sum()
    assert codes.statistic == pytest.approx(
        ChiSquareDrift().fit(ref / spread).predict(x / spread).features[0].statistic
    )


def test_huge_values_do_not_overflow():
    ref = np.random.default_rng(0).normal(size=(500, 1)) * 1e300
    verdict = KSDrift().fit(ref).predict(ref[:100])
    assert verdict.state == "ok"
    ints = np.random.default_rng(0).integers(0, 5, size=(500, 1)).astype(float)
    x = ints[:100].copy()
    x[0] = 1e300
    assert TabularDrift().fit(ints).predict(x).features[0].statistic == pytest.approx(0.01, abs=0.1)


def test_scipy_stats_is_not_needed():
    code = """if True:
        import sys
        import numpy as np
        import detectors.drift.fet, detectors.drift.mmd
        from detectors.drift.cvm import CVMDrift
        from detectors.drift.tabular import TabularDrift
        x = np.random.default_rng(0).normal(size=(200, 2))
        for detector in (TabularDrift(), CVMDrift()):
            assert detector.fit(x).predict(x + 1).is_drift
        sys.exit("scipy.stats" in sys.modules or "torch" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
