"""The promise: clean windows alert at the stated rate at most, shifted ones are found."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.base import DetectorError, Feature
from detectors.calibrate import FalseAlarms, binomial_interval, false_alarm_rate, infer_threshold
from detectors.drift.chisquare import ChiSquareDrift
from detectors.drift.cvm import CVMDrift
from detectors.drift.fet import FETDrift
from detectors.drift.ks import KSDrift
from detectors.drift.tabular import TabularDrift

WINDOWS = 1500


def _alerts(detector, draw, windows: int, seed: int, features=None) -> int:
    """Alerts among clean windows, with a fresh reference for every 50."""
    rng, alerts = np.random.default_rng(seed), 0
    for _ in range(windows // 50):
        fitted = detector().fit(draw(rng, 4000), features)
        alerts += sum(fitted.predict(draw(rng, 200)).is_drift for _ in range(50))
    return alerts


def _normal(rng, n):
    return rng.normal(size=(n, 4))


def _codes(rng, n):
    return rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(n, 4))


@pytest.mark.parametrize("correction", ["bonferroni", "holm", "bh"])
@pytest.mark.parametrize(("detector", "draw"), [(KSDrift, _normal), (CVMDrift, _normal), (ChiSquareDrift, _codes)])
def test_the_level_is_kept_and_used(detector, draw, correction):
    """Where p-values are uniform: no more false alarms than promised, and not far fewer."""
    alerts = _alerts(lambda: detector(p_val=0.1, correction=correction), draw, WINDOWS, seed=1)
    low, high = binomial_interval(alerts, WINDOWS, coverage=0.999)
    assert low <= 0.1
    assert high >= 0.07


@pytest.mark.parametrize(
    ("detector", "draw"),
    [
        (KSDrift, lambda rng, n: rng.poisson(1.5, size=(n, 4))),
        (CVMDrift, lambda rng, n: rng.poisson(1.5, size=(n, 4))),
        (FETDrift, lambda rng, n: rng.random((n, 4)) < 0.05),
        (KSDrift, lambda rng, n: np.where(rng.random((n, 4)) < 0.1, np.nan, rng.normal(size=(n, 4)))),
    ],
    ids=["ks-ties", "cvm-ties", "fet", "missing"],
)
def test_the_level_is_kept_with_ties_and_missing_values(detector, draw):
    alerts = _alerts(lambda: detector(p_val=0.1), draw, WINDOWS, seed=2)
    assert binomial_interval(alerts, WINDOWS, coverage=0.999)[0] <= 0.1


def test_without_correction_many_columns_alarm_too_often():
    def draw(rng, n):
        return rng.normal(size=(n, 10))

    naive = _alerts(lambda: KSDrift(p_val=0.05, correction="none"), draw, 500, seed=3)
    assert binomial_interval(naive, 500)[0] > 0.2


def test_ert_is_the_distance_between_false_alarms():
    alerts = _alerts(lambda: TabularDrift(ert=20), _normal, WINDOWS, seed=4)
    low, high = binomial_interval(alerts, WINDOWS, coverage=0.999)
    assert low <= 1 / 20 <= high + 0.02


@pytest.mark.parametrize("detector", [KSDrift, CVMDrift])
def test_a_shift_of_a_third_of_a_standard_deviation_is_found(detector):
    rng = np.random.default_rng(0)
    fitted = detector(ert=400).fit(rng.normal(size=(5000, 8)))
    shift = np.eye(8)[3] / 3
    found = [fitted.predict(rng.normal(size=(500, 8)) + shift) for _ in range(50)]
    assert sum(v.is_drift for v in found) >= 48
    assert all(v.reasons[0].feature == "x3" for v in found if v.is_drift)


def test_a_change_of_shares_is_found():
    rng = np.random.default_rng(0)
    features = [Feature("a", "categorical", ("x", "y", "z"))]
    chi = ChiSquareDrift(ert=400).fit(rng.choice(3, p=[0.5, 0.3, 0.2], size=(5000, 1)), features)
    found = [chi.predict(rng.choice(3, p=[0.4, 0.3, 0.3], size=(500, 1))).is_drift for _ in range(50)]
    assert sum(found) >= 48
    fet = FETDrift(ert=400).fit(rng.random((5000, 1)) < 0.01)
    assert sum(fet.predict(rng.random((500, 1)) < 0.05).is_drift for _ in range(50)) >= 48


def test_effect_sizes_do_not_grow_with_the_window():
    rng = np.random.default_rng(0)
    ks = KSDrift().fit(rng.normal(size=(20_000, 1)))
    chi = ChiSquareDrift().fit(rng.random((20_000, 1)) < 0.5)
    for n in (500, 5000, 20_000):
        assert ks.predict(rng.normal(size=(n, 1)) + 1).effect_size == pytest.approx(0.383, abs=0.05)
        assert chi.predict(rng.random((n, 1)) < 0.7).effect_size == pytest.approx(0.204, abs=0.05)
    assert ks.predict(rng.normal(size=(500, 1)) + 99).effect_size == pytest.approx(1.0)
    assert chi.predict(np.full((500, 1), 7)).effect_size == pytest.approx(1.0)


def test_false_alarm_rate_measures_what_was_promised():
    rows = np.random.default_rng(0).normal(size=(8000, 3))
    found = false_alarm_rate(lambda: KSDrift(p_val=0.1), rows, window=200, n_windows=600, splits=30)
    assert found.windows == 600
    assert found.interval[0] <= 0.1 <= found.interval[1] + 0.02
    again = false_alarm_rate(lambda: KSDrift(p_val=0.1), rows, window=200, n_windows=600, splits=30)
    assert found == again
    naive = false_alarm_rate(lambda: KSDrift(p_val=0.1, correction="none"), rows, window=200, n_windows=600)
    assert naive.rate > found.rate
    assert found.run_length == pytest.approx(1 / found.rate)
    assert found.run_length_low < found.run_length


def test_false_alarm_rate_counts_what_gave_no_answer_apart():
    rows = np.random.default_rng(0).normal(size=(400, 1))
    found = false_alarm_rate(lambda: KSDrift(min_rows=50), rows, window=20, n_windows=30)
    assert found == FalseAlarms(alarms=0, windows=0, insufficient=30)
    assert np.isnan(found.rate)
    assert found.interval == (0.0, 1.0)


def test_false_alarm_rate_tells_how_far_it_is():
    told: list[float] = []
    false_alarm_rate(KSDrift, np.arange(100.0)[:, None], window=30, n_windows=5, splits=3, progress=told.append)
    assert told == [2 / 5, 4 / 5, 1.0]


def test_false_alarm_rate_takes_features():
    rows = np.random.default_rng(0).integers(0, 3, size=(600, 1))
    features = [Feature("c", "categorical", ("a", "b", "c"))]
    assert false_alarm_rate(TabularDrift, rows, 100, 50, features=features).rate < 0.3


@pytest.mark.parametrize(
    ("changed", "named"), [({"window": 0}, "window"), ({"window": 60}, "half the reference"), ({"splits": 0}, "splits")]
)
def test_false_alarm_rate_names_what_is_wrong(changed, named):
    with pytest.raises(DetectorError, match=named):
        false_alarm_rate(KSDrift, np.zeros((100, 1)), **{"window": 30, "n_windows": 5, **changed})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.25, 0.999])
@pytest.mark.parametrize("n", [1, 7, 30, 1000])
def test_infer_threshold_flags_at_most_the_share(n, share):
    scores = np.random.default_rng(n).normal(size=n)
    threshold = infer_threshold(scores, share)
    assert (scores > threshold).sum() <= share * n + 1e-9
    lower = scores[scores < threshold]
    if lower.size:  # the next smaller score would flag too many
        assert (scores > lower.max()).sum() > share * n


def test_infer_threshold_leaves_out_what_could_not_be_scored():
    assert infer_threshold([1.0, np.nan, 2.0, 3.0, 4.0], 0.25) == 3.0
    assert infer_threshold([5.0, 5.0, 5.0], 0.1) == 5.0
    with pytest.raises(DetectorError, match="no finite"):
        infer_threshold([np.nan], 0.1)
    with pytest.raises(DetectorError, match="share"):
        infer_threshold([1.0], 1.0)


SPARSE = {
    "a few labels": [0.7, 0.2, 0.09, 0.01],
    "one rare label": [0.995, 0.005],
    "many rare labels": 1.0 / np.arange(1, 43) ** 1.5,
    "hundreds of labels": 1.0 / np.arange(1, 301) ** 1.2,
}


@pytest.mark.parametrize(("n", "n_ref"), [(30, 2000), (200, 5000), (1000, 20_000)])
@pytest.mark.parametrize("shares", SPARSE.values(), ids=SPARSE)
def test_rare_labels_cause_no_false_alarms(shares, n, n_ref):
    """Pearson's p-value gives up to a thousand times more than promised here."""
    p = np.array(shares) / np.sum(shares)
    features = [Feature("c", "categorical", tuple(f"v{i}" for i in range(len(p))))]
    rng, low = np.random.default_rng(0), np.zeros(2)
    levels = np.array([0.05, 0.001])
    for _ in range(20):
        detector = ChiSquareDrift(correction="none").fit(rng.choice(len(p), p=p, size=(n_ref, 1)), features)
        for _ in range(100):
            (found,) = detector.predict(rng.choice(len(p), p=p, size=(n, 1))).features
            low += found.p_val <= levels
    for count, level in zip(low, levels, strict=True):
        assert binomial_interval(int(count), 2000, coverage=0.999)[0] <= 1.5 * level


def test_rare_labels_that_become_common_are_found_and_named():
    rng = np.random.default_rng(0)
    features = [Feature("c", "categorical", ("a", "b"))]
    detector = ChiSquareDrift(ert=10_000).fit(rng.integers(0, 2, size=(5000, 1)), features)
    x = rng.integers(0, 2, size=(200, 1))
    x[:10] = -1
    verdict = detector.predict(x)
    assert verdict.is_drift
    assert verdict.reasons[0].text == "c: share of values not in the reference 0 % -> 5 %"
