"""Effect sizes: equal to scipy's, and intervals that hold the true size as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from detectors.base import Feature
from detectors.drift.columns import summarise
from detectors.drift.effects import jensen_shannon, psi, wasserstein
from detectors.drift.ks import KSDrift
from detectors.drift.tabular import TabularDrift
from detectors.drift.wasserstein import distance


def _column(values):
    return summarise(np.asarray(values, dtype=float), Feature("x"), "numeric")


numbers = st.lists(st.integers(-5, 5).map(float) | st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(numbers, numbers)
def test_the_wasserstein_distance_is_scipys(reference, x):
    expected = wasserstein_distance(reference, x)
    assert distance(_column(reference), np.sort(x)) == pytest.approx(expected, abs=1e-8, rel=1e-9)


def test_indices_of_large_samples_are_those_of_the_shares():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    before, after = 1e8 * p, 1e8 * q
    assert psi(before, after).value == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-6)
    assert jensen_shannon(before, after).value == pytest.approx(jensenshannon(p, q, 2), rel=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_intervals_of_the_indices_hold_the_true_ones(strength):
    rng, n, m, rounds = np.random.default_rng(0), 2000, 400, 400
    p = np.full(10, 0.1)
    q = p * np.exp(strength * np.linspace(-1, 1, 10))
    q /= q.sum()
    truth = {"psi": np.sum((p - q) * np.log(p / q)), "jensen_shannon": jensenshannon(p, q, 2)}
    held, values = {"psi": 0, "jensen_shannon": 0}, []
    for _ in range(rounds):
        before, after = rng.multinomial(n, p).astype(float), rng.multinomial(m, q).astype(float)
        for found in (psi(before, after), jensen_shannon(before, after)):
            assert 0.0 <= found.low <= found.value <= found.high
            held[found.name] += found.low <= truth[found.name] <= found.high
        values.append(psi(before, after).value)
    assert min(held.values()) >= 0.91 * rounds
    assert np.mean(values) == pytest.approx(truth["psi"], abs=0.02)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.5)])
def test_intervals_of_the_wasserstein_distance_hold_the_true_one(shift, scale):
    rng, rounds = np.random.default_rng(0), 200
    truth = abs(shift) or (scale - 1.0) * np.sqrt(2.0 / np.pi)
    held = 0
    for _ in range(rounds):
        found = wasserstein(_column(rng.normal(size=2000)), np.sort(rng.normal(shift, scale, size=200)))
        held += found.low <= truth <= found.high
    assert held >= 0.92 * rounds


def test_no_bin_is_empty_enough_for_an_infinite_index():
    found = psi(np.array([1000.0, 0.0]), np.array([0.0, 1000.0]))
    assert 10.0 < found.value < 20.0
    assert found.high < 100.0


def test_the_index_of_small_clean_windows_stays_below_the_usual_limit():
    """As it is commonly computed, it is above 0.1 on 47 of 100 windows of 100 rows in ten bins."""
    rng, p = np.random.default_rng(0), np.full(10, 0.1)
    above = [psi(rng.multinomial(10_000, p) + 0.0, rng.multinomial(100, p) + 0.0).value > 0.1 for _ in range(500)]
    assert np.mean(above) < 0.06


def test_alerting_columns_have_effect_sizes():
    rng = np.random.default_rng(0)
    features = [Feature("a"), Feature("b"), Feature("c", "categorical", ("x", "y"))]

    def rows(n, shift, share):
        return np.stack([rng.normal(shift, 1, n), rng.normal(size=n), rng.random(n) < share], axis=1)

    detector = TabularDrift().fit(rows(3000, 0, 0.5), features)
    clean = detector.predict(rows(500, 0, 0.5))
    assert not any(f.effects for f in clean.features)
    a, b, c = detector.predict(rows(500, 1, 0.9)).features
    assert [e.name for e in a.effects] == ["psi", "jensen_shannon", "wasserstein"]
    assert [e.name for e in c.effects] == ["psi", "jensen_shannon"]
    assert b.effects == ()
    assert a.effects[2].low < 1.0 < a.effects[2].high
    assert detector.predict(rows(500, 1, 0.9)).to_dict()["features"][0]["effects"][0]["name"] == "psi"
    assert not any(f.effects for f in TabularDrift(worst=0).fit(rows(500, 0, 0.5)).predict(rows(99, 9, 0.5)).features)


def test_beyond_the_range_of_numbers_there_is_no_distance():
    found = KSDrift().fit(np.repeat([[-2e307], [5e307]], 50, axis=0)).predict(np.full((50, 1), 1.7e308)).features[0]
    assert {effect.name for effect in found.effects} == {"psi", "jensen_shannon"}
