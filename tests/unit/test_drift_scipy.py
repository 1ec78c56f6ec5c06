"""Statistics and p-values agree with scipy's to 1e-9."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from detectors.base import Feature
from detectors.drift.chisquare import ChiSquareDrift
from detectors.drift.correction import correct
from detectors.drift.cvm import CVMDrift, cramer_von_mises_sf
from detectors.drift.fet import FETDrift
from detectors.drift.kolmogorov import kolmogorov_sf, smirnov_sf
from detectors.drift.ks import KSDrift
from detectors.drift.proportions import share_p
from detectors.drift.tabular import TabularDrift

SIZES = [(30, 25), (300, 40), (500, 500), (3000, 160), (5000, 1000), (200, 2000)]
SHIFTS = [0.0, 0.1, 0.6, 3.0]


def _samples(seed: int, n_ref: int, n: int, shift: float):
    """Continuous, tied, half-tied and very discrete pairs of samples."""
    rng = np.random.default_rng(seed)
    ref, x = rng.normal(size=n_ref), rng.normal(size=n) + shift
    yield ref, x
    yield np.round(3 * ref), np.round(3 * x)
    yield np.round(3 * ref), 3 * x  # window values between, below and above the whole numbers of the reference
    yield np.round(ref, 1), np.round(x, 1)
    yield 1000.0 * (ref > 1), 1000.0 * (x > 1)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("n_ref", "n"), SIZES)
def test_ks_agrees_with_scipy(n_ref, n, shift):
    for ref, x in _samples(n_ref + n, n_ref, n, shift):
        found = KSDrift(correction="none").fit(ref[:, None]).predict(x[:, None]).features[0]
        expected = stats.ks_2samp(ref, x, method="asymp")
        assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert found.p_val == pytest.approx(expected.pvalue, abs=1e-9)
        assert found.effect_size == found.statistic


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("n_ref", "n"), SIZES)
def test_cvm_agrees_with_scipy_without_ties(n_ref, n, shift):
    rng = np.random.default_rng(n_ref + n)
    for draw in (rng.normal, rng.lognormal):
        ref, x = draw(size=n_ref), draw(size=n) + shift
        found = CVMDrift(correction="none").fit(ref[:, None]).predict(x[:, None]).features[0]
        expected = stats.cramervonmises_2samp(ref, x, method="asymptotic")
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        # scipy stops its series at terms of 1e-7; the next test holds ours to 1e-9 against the defining integral.
        assert found.p_val == pytest.approx(expected.pvalue, abs=1e-6)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.5, 0.3), (0.6, *[0.4 / 30] * 30)])
def test_cvm_with_ties_agrees_with_permutations(shares):
    rng = np.random.default_rng(0)
    both = rng.choice(len(shares), p=shares, size=500).astype(float)
    detector = CVMDrift(correction="none").fit(both[:350, None])
    statistic = detector.predict(both[350:, None]).features[0].statistic
    assert statistic >= 0
    ps = []
    for _ in range(1500):
        both = rng.permutation(both)
        ps.append(CVMDrift(correction="none").fit(both[:350, None]).predict(both[350:, None]).features[0].p_val)
    for level in (0.1, 0.05, 0.01):
        rate = np.mean(np.array(ps) <= level)
        assert rate <= level * 1.3 + 3 * math.sqrt(level / 1500)
        assert rate >= level * 0.4 - 3 * math.sqrt(level / 1500)


@pytest.mark.parametrize("x", [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 4.999, 5.001, 8.0])
def test_cvm_distribution_agrees_with_smirnovs_integral(x):
    def lobe(k):
        def density(t):  # y = t^2, and t swings through the lobe so that both ends' poles are taken out
            y = 0.5 * math.pi * (4 * k - 1 - math.cos(t))
            return math.sqrt(-y / math.sin(y)) * math.exp(-0.5 * x * y * y) / y * math.pi * math.sin(t)

        return quad(density, 0.0, math.pi, epsabs=1e-13)[0]

    expected = sum((-1) ** (k + 1) * lobe(k) for k in range(1, 12)) / math.pi
    assert cramer_von_mises_sf(x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_chi_squared_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 12))
    shares = rng.dirichlet(np.ones(k))
    ref = rng.choice(k, p=shares, size=int(rng.integers(50, 50_000)))
    x = rng.choice(k, p=0.7 * shares + 0.3 * rng.dirichlet(np.ones(k)), size=int(rng.integers(30, 2000)))
    features = [Feature("c", "categorical", tuple("abcdefghijkl"))]
    found = ChiSquareDrift(correction="none").fit(ref[:, None], features).predict(x[:, None]).features[0]
    table = np.array([np.bincount(ref, minlength=12), np.bincount(x, minlength=12)])
    expected = stats.chi2_contingency(table[:, table.sum(axis=0) > 0], correction=False)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    rarest = expected.expected_freq.min()
    if rarest >= 50:
        assert found.p_val == pytest.approx(expected.pvalue, abs=1e-9)
    elif rarest >= 5:  # the likelihood ratio with its own moments: the same, as far as either can be trusted
        assert found.p_val == pytest.approx(expected.pvalue, rel=0.5, abs=0.02)
    balanced = table / table.sum(axis=1, keepdims=True) * 1000
    cramer = stats.contingency.association(balanced[:, balanced.sum(axis=0) > 0].round().astype(int))
    assert found.effect_size == pytest.approx(cramer, abs=0.02)


@pytest.mark.parametrize("seed", range(12))
def test_fet_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    share, other = rng.random(2) ** 3
    ref = rng.random(int(rng.integers(20, 5000))) < share
    x = rng.random(int(rng.integers(20, 2000))) < (share if seed % 2 else other)
    features = [Feature("c", "categorical", ("no", "yes"))]
    found = FETDrift(correction="none").fit(ref[:, None], features).predict(x[:, None]).features[0]
    table = [[ref.sum(), (~ref).sum()], [x.sum(), (~x).sum()]]
    assert found.p_val == pytest.approx(stats.fisher_exact(table).pvalue, abs=1e-9)
    assert found.statistic == pytest.approx(abs(ref.mean() - x.mean()), abs=1e-12)


@pytest.mark.parametrize("counts", [(5, 10, 5, 10), (3, 10, 7, 10), (0, 50, 3, 20), (50, 100, 50, 100)])
def test_fisher_counts_tables_as_probable_as_the_observed(counts):
    a, n_ref, b, n = counts
    expected = stats.fisher_exact([[a, n_ref - a], [b, n - b]]).pvalue
    if a * (n_ref - a) * n >= 10 * n_ref * n:  # large counts take the two-proportion test
        expected = 1.0
    assert share_p(a, n_ref, b, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 40, 140, 141, 299, 300, 909, 5000, 20_000])
def test_kolmogorov_agrees_with_scipy(n):
    scaled = np.linspace(0.02, 6.0, 150)
    d = np.unique(np.concatenate([scaled / math.sqrt(n), np.linspace(0.0, 1.0, 21)]))
    d = d[d <= 1.0]
    np.testing.assert_allclose(kolmogorov_sf(n, d), stats.kstwo.sf(d, n), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [50, 900, 4000])
def test_smirnov_is_right_far_out(n):
    d = np.array([2.0, 5.0, 9.0]) / math.sqrt(n)
    np.testing.assert_allclose(smirnov_sf(n, d[d < 1]), stats.ksone.sf(d[d < 1], n), rtol=1e-9)


def test_tabular_is_ks_and_chi_squared_column_by_column():
    rng = np.random.default_rng(0)
    features = [Feature("c", "categorical", ("a", "b", "c")), Feature("x"), Feature("k"), Feature("d", "categorical")]

    def rows(n):
        return np.stack([rng.integers(0, 3, n), rng.normal(size=n), rng.poisson(3, n), rng.integers(5, 9, n)], axis=1)

    ref, x = rows(3000).astype(float), rows(400).astype(float)
    found = TabularDrift(correction="none").fit(ref, features).predict(x).features
    assert [f.name for f in found] == ["c", "x", "k", "d"]
    assert [f.kind for f in found] == ["categorical", "numeric", "numeric", "categorical"]
    for j in (1, 2):
        expected = stats.ks_2samp(ref[:, j], x[:, j], method="asymp")
        assert found[j].p_val == pytest.approx(expected.pvalue, abs=1e-9)
    for j in (0, 3):
        values = np.unique(ref[:, j])
        table = [[(rows[:, j] == v).sum() for v in values] for rows in (ref, x)]
        assert found[j].p_val == pytest.approx(stats.chi2_contingency(table).pvalue, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("method", ["bh", "by"])
def test_false_discovery_corrections_agree_with_scipy(method, seed):
    p = np.random.default_rng(seed).random(12) ** 3
    adjusted = stats.false_discovery_control(p, method=method)
    threshold, smallest = correct(p, 0.05, method)
    assert (p <= threshold).tolist() == (adjusted <= 0.05).tolist()
    assert smallest == pytest.approx(adjusted.min(), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_holm_steps_down(seed):
    p = np.random.default_rng(seed).random(12) ** 4
    rejected = []
    for i, j in enumerate(np.argsort(p)):
        if p[j] > 0.05 / (len(p) - i):
            break
        rejected.append(j)
    threshold, smallest = correct(p, 0.05, "holm")
    assert sorted(np.flatnonzero(p <= threshold)) == sorted(rejected)
    assert smallest == pytest.approx(min(1.0, 12 * p.min()))


@pytest.mark.parametrize("method", ["none", "bonferroni", "holm", "bh", "by"])
def test_the_smallest_adjusted_p_speaks_for_the_window(method):
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = rng.random(5) ** 3
        threshold, smallest = correct(p, 0.05, method)
        assert (p <= threshold).any() == (smallest <= 0.05)
