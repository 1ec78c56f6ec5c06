"""Spot the difference: the fitted classifier's slope, the places it finds and how they are told, levels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from detectors.base import DetectorError, Feature
from detectors.calibrate import binomial_interval
from detectors.drift import witness as module
from detectors.drift.columns import summarise
from detectors.drift.encoding import encode
from detectors.drift.places import middle, tell_place
from detectors.drift.spot_the_diff import SpotTheDiffDrift
from detectors.drift.witness import Witness, find_witness

COLOURS = Feature("colour", "categorical", ("red", "green", "blue"))


def _with_a_lump(rng, n, share, at=(2.0, -2.0)):
    x = rng.normal(size=(n, 3))
    k = round(share * n)
    x[:k, :2] = rng.normal(at, 0.3, size=(k, 2))
    return x


def test_log_odds_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    x, places = rng.normal(size=(5, 2)), rng.normal(size=(2, 2))
    found = Witness(places, np.array([1.5, -0.5]), 0.25, 0.8)(x)
    for row, value in zip(x, found, strict=True):
        near = [np.exp(-np.sum((row - place) ** 2) / (2 * 0.8**2)) for place in places]
        assert value == pytest.approx(1.5 * near[0] - 0.5 * near[1] + 0.25)


def test_the_slope_is_that_of_the_loss(monkeypatch):
    rng = np.random.default_rng(0)
    x, of_window = rng.normal(size=(80, 2)), np.arange(80) % 4 == 0
    seen = {}

    def spy(loss, start, **options):
        seen.update(loss=loss, start=start)
        return module_minimize(loss, start, **options)

    module_minimize = module.minimize
    monkeypatch.setattr(module, "minimize", spy)
    find_witness(x, of_window, 2, 1.0, 0.3, np.random.default_rng(0))
    loss, start = seen["loss"], seen["start"]
    for scale in (0.1, 0.5, 2.0):
        at = start + rng.normal(scale=scale, size=start.shape)
        assert check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], at) < 1e-5
    assert loss(start)[0] == pytest.approx(np.log(2.0) + 0.3 * np.abs(start[:4]).mean(), abs=1e-3)


def test_the_place_of_a_lump_is_found_and_told_in_the_columns_units():
    rng = np.random.default_rng(0)
    scale, mean = [10.0, 1.0, 5.0], [40.0, 0.0, 7.0]
    features = [Feature("age"), Feature("x1"), Feature("x2")]
    detector = SpotTheDiffDrift(ert=100, sigma=1.0, l1_reg=0.02)
    detector.fit(rng.normal(size=(3000, 3)) * scale + mean, features)
    verdict = detector.predict(_with_a_lump(rng, 1500, 0.15) * scale + mean)
    assert verdict.state == "alert"
    reason = verdict.reasons[0]
    assert reason.text.startswith("more rows near ")
    assert "x2" not in reason.text
    assert {"age", "x1"} <= set(reason.text.replace(",", " ").split())
    assert reason.feature in ("age", "x1")
    assert reason.after == pytest.approx({"age": 60.0, "x1": -2.0}[reason.feature], rel=0.25)
    fewer = SpotTheDiffDrift(ert=100, sigma=1.0, l1_reg=0.02).fit(_with_a_lump(rng, 3000, 0.15))
    assert fewer.predict(rng.normal(size=(1500, 3))).reasons[0].text.startswith("fewer rows near ")


def test_several_places_are_found_where_there_are_several_lumps():
    rng = np.random.default_rng(0)
    detector = SpotTheDiffDrift(n_diffs=2, sigma=0.7).fit(rng.normal(size=(3000, 2)))
    x = rng.normal(size=(2000, 2))
    x[:200], x[200:400] = rng.normal([3, 0], 0.2, size=(200, 2)), rng.normal([-3, 0], 0.2, size=(200, 2))
    reasons = [r for r in detector.predict(x).reasons if "rows near" in r.text]
    assert len(reasons) == 2
    assert sorted(round(np.sign(r.after)) for r in reasons) == [-1, 1]


def test_a_category_and_a_place_at_the_mean_are_told_in_words():
    columns = [
        summarise(np.repeat([10.0, 20.0], 50), Feature("x"), "numeric"),
        summarise(np.repeat([0.0, 1.0, 2.0], [50, 30, 20]), COLOURS, "categorical"),
    ]
    at = encode(columns, np.array([[20.0, 2.0]]))[0] - middle(columns)
    reason = tell_place(columns, at, more=True)
    assert reason.text == "more rows near x = 20 (mean 15), colour = blue"
    assert (reason.feature, reason.before, reason.after) == ("x", 15.0, 20.0)
    other = tell_place(columns, np.array([0.0, -0.5, 0.3, 0.2, 0.0]), more=False)
    assert (other.text, other.before, other.after) == ("fewer rows near colour other than red", 0.5, 0.0)
    assert tell_place(columns, np.zeros(5), more=False).text == "fewer rows near the reference's mean"


def test_the_level_is_kept_and_used():
    rng, alerts = np.random.default_rng(3), 0
    for seed in range(10):
        detector = SpotTheDiffDrift(p_val=0.1, seed=seed).fit(rng.normal(size=(200, 2)))
        for _ in range(20):
            verdict = detector.predict(rng.normal(size=(80, 2)))
            assert (verdict.statistic >= verdict.threshold) == verdict.is_drift
            alerts += verdict.is_drift
    low, high = binomial_interval(alerts, 200, coverage=0.999)
    assert low <= 0.1 <= high


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"n_diffs": 0}, "n_diffs must be a whole number from 1 to 20"),
        ({"sigma": 0.0}, "sigma"),
        ({"l1_reg": -0.1}, "l1_reg"),
        ({"train_size": 1.0}, "train_size"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        SpotTheDiffDrift(**params)
