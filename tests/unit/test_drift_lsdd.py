"""LSDD: the statistic by its definition and by integration, regularisation, permutation p-values, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad

from detectors.base import DetectorError
from detectors.calibrate import binomial_interval
from detectors.drift.density import DensityDifference
from detectors.drift.lsdd import LSDDDrift


def _kernel(points, centers, width):
    return np.array([[np.exp(-np.sum((p - c) ** 2) / width) for c in centers] for p in points])


def _by_definition(reference, window, centers, sigma, penalty):
    H = _kernel(centers, centers, 4 * sigma**2)
    h = _kernel(reference, centers, 2 * sigma**2).mean(0) - _kernel(window, centers, 2 * sigma**2).mean(0)
    theta = np.linalg.solve(H + penalty * np.eye(len(centers)), h)
    return 2 * theta @ h - theta @ H @ theta, theta


def test_the_statistic_is_the_least_squares_estimate():
    rng = np.random.default_rng(0)
    reference, window, centers = rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + 0.5, rng.normal(size=(12, 3))
    found, _ = DensityDifference(reference, centers, 1.3, 0.05).permute(window, 19, seed=0)
    assert found.statistic == pytest.approx(_by_definition(reference, window, centers, 1.3, 0.05)[0], rel=1e-10)


def test_the_statistic_is_the_integral_of_the_squared_difference():
    """In its unit, ``(pi sigma^2)^(e/2)``, and without regularisation."""
    rng, sigma = np.random.default_rng(0), 0.8
    reference, window, centers = rng.normal(size=(80, 2)), rng.normal(size=(50, 2)) + 1, rng.normal(size=(5, 2))
    statistic, theta = _by_definition(reference, window, centers, sigma, 0.0)
    found, _ = DensityDifference(reference, centers, sigma, 1e-12).permute(window, 19, seed=0)
    unit = np.pi * sigma**2

    def squared(y, x):
        return float(_kernel(np.array([[x, y]]), centers, 2 * sigma**2)[0] @ theta / unit) ** 2

    integral = dblquad(squared, -6, 6, -6, 6, epsabs=1e-6)[0]
    assert unit * integral == pytest.approx(statistic, rel=1e-4)
    assert found.statistic == pytest.approx(statistic, rel=1e-6)


def test_the_distance_between_two_normal_densities_is_estimated():
    """Of N(0, 1) and N(1, 1) it is ``(1 - exp(-1/4)) / sqrt(pi)``."""
    rng = np.random.default_rng(0)
    detector = LSDDDrift(sigma=0.5, lambda_rd_max=0.01, n_kernel_centers=100).fit(rng.normal(size=(5000, 1)))
    found = detector.predict(rng.normal(size=(5000, 1)) + 1).statistic / (np.sqrt(np.pi) * 0.5)
    assert found == pytest.approx((1 - np.exp(-0.25)) / np.sqrt(np.pi), rel=0.15)


def test_permuted_statistics_are_those_of_permuted_rows():
    rng = np.random.default_rng(0)
    both, centers = rng.normal(size=(50, 2)), rng.normal(size=(10, 2))
    found, _ = DensityDifference(both[:30], centers, 1.0, 0.1).permute(both[30:], 7, seed=5)
    drawn = np.zeros((7, 50))
    drawn[:, 30:] = 1
    np.random.default_rng([5, 2]).permuted(drawn, axis=1, out=drawn)
    expected = [_by_definition(both[row == 0], both[row == 1], centers, 1.0, 0.1)[0] for row in drawn]
    np.testing.assert_allclose(found.permuted, expected, rtol=1e-9)


def test_the_smoother_the_estimate_may_be_the_larger_is_lambda():
    reference = np.random.default_rng(0).normal(size=(500, 2))
    penalties = [
        LSDDDrift(lambda_rd_max=most).fit(reference).to_parts().state["lambda"] for most in (0.01, 0.1, 0.2, 0.5)
    ]
    assert penalties == sorted(penalties)
    assert penalties[0] < penalties[-1] / 10


def test_the_level_is_kept_and_used():
    rng, alerts = np.random.default_rng(5), 0
    for seed in range(25):
        detector = LSDDDrift(p_val=0.1, n_permutations=99, seed=seed).fit(rng.normal(size=(150, 2)))
        for _ in range(20):
            verdict = detector.predict(rng.normal(size=(40, 2)))
            assert (verdict.statistic >= verdict.threshold) == verdict.is_drift
            alerts += verdict.is_drift
    low, high = binomial_interval(alerts, 500, coverage=0.999)
    assert low <= 0.1 <= high


def test_drift_in_the_dependence_alone_is_found():
    rng = np.random.default_rng(0)
    detector = LSDDDrift(ert=100).fit(rng.normal(size=(2000, 2)))
    x = rng.normal(size=(500, 2))
    verdict = detector.predict(np.stack([x[:, 0], 0.8 * x[:, 0] + 0.6 * x[:, 1]], axis=1))
    assert verdict.state == "alert"
    assert verdict.reasons[0].text == "the columns' joint distribution changed, no single column did"
    assert detector.predict(x).state == "ok"


def test_effect_sizes_go_from_none_to_disjoint_and_do_not_grow_with_the_window():
    rng = np.random.default_rng(0)
    detector = LSDDDrift().fit(rng.normal(size=(5000, 1)))
    for n in (300, 3000):
        none, some, all_of_it = (
            detector.predict(rng.normal(size=(n, 1)) + shift).effect_size for shift in (0.0, 1.0, 30.0)
        )
        assert none < 0.07
        assert some == pytest.approx(0.45, abs=0.05)
        assert all_of_it == pytest.approx(1.0, abs=0.01)


def test_equal_rows_are_no_drift_and_of_all_permutations_none_is_smaller():
    verdict = LSDDDrift(n_permutations=99).fit(np.ones((100, 1))).predict(np.ones((50, 1)))
    assert (verdict.p_val, verdict.state, verdict.effect_size) == (1.0, "ok", 0.0)


def test_larger_references_and_windows_are_thinned():
    rng = np.random.default_rng(0)
    detector = LSDDDrift(max_ref=200, max_rows=80, n_kernel_centers=50).fit(rng.normal(size=(5000, 2)))
    arrays = detector.to_parts().arrays
    assert (arrays["reference"].shape, arrays["centers"].shape) == ((150, 2), (50, 2))
    assert detector.predict(rng.normal(size=(3000, 2))).n == 3000


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"n_kernel_centers": 0}, "n_kernel_centers"),
        ({"lambda_rd_max": 1.0}, "lambda_rd_max"),
        ({"ert": 400, "n_permutations": 100}, "at least 399"),
        ({"max_ref": 5}, "max_ref"),
        ({"max_rows": 5}, "max_rows"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        LSDDDrift(**params)


def test_more_kernels_than_half_the_reference_are_refused():
    with pytest.raises(DetectorError, match="n_kernel_centers must be at most half the 100 rows"):
        LSDDDrift(n_kernel_centers=51).fit(np.random.default_rng(0).normal(size=(100, 1)))
