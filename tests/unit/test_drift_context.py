"""Context-aware drift: kernel means by definition, left-out rows by leaving them out, levels under changed contexts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from detectors.base import DetectorError, Feature
from detectors.calibrate import binomial_interval
from detectors.drift.conditional import Features, best_penalty, distances
from detectors.drift.context_mmd import ContextMMDDrift
from detectors.drift.propensity import _fit, propensity


def _rows(rng, n, mean=0.0, shift=0.0):
    c = rng.normal(mean, 1.0, size=n)
    return np.stack([c, np.sin(2 * c) + 0.5 * rng.normal(size=n) + shift, c**2 + rng.normal(size=n)], axis=1)


def _kernel(a, b, sigma):
    return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * sigma**2))


def test_features_are_the_kernel_between_landmarks_and_near_it_elsewhere():
    rng = np.random.default_rng(0)
    landmarks, x = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    features = Features(landmarks, 1.2)
    np.testing.assert_allclose(
        features(landmarks) @ features(landmarks).T, _kernel(landmarks, landmarks, 1.2), atol=1e-6
    )
    np.testing.assert_allclose(features(x) @ features(x).T, _kernel(x, x, 1.2), atol=0.05)
    assert (Features(landmarks, 1.2, constant=True)(x)[:, 0] == 1.0).all()


def test_the_statistic_is_the_distance_of_conditional_means_by_the_kernels_themselves():
    """Ridge regression in its dual form, with every row a landmark, where features are exact."""
    rng = np.random.default_rng(0)
    c, x, held = rng.normal(size=(30, 1)), rng.normal(size=(30, 2)), rng.normal(size=(7, 1))
    label, penalty = (np.arange(30) >= 18).astype(float), 0.01
    of_context, of_values = Features(np.concatenate([c, held]), 0.3), Features(x, 1.5)
    found, largest = distances(of_context(c), of_values(x), of_context(held), penalty, [label])
    weights = np.zeros((30, 7))
    for group, sign in ((label == 0, 1.0), (label == 1, -1.0)):
        n = group.sum()
        gram = _kernel(c[group], c[group], 0.3) + penalty * n * np.eye(n)
        weights[group] = sign * np.linalg.solve(gram, _kernel(c[group], held, 0.3))
    expected = np.einsum("ih,ij,jh->", weights, _kernel(x, x, 1.5), weights) / 7
    assert found[0] == pytest.approx(expected, rel=1e-4)
    assert largest >= found[0] / 2 > 0


def test_the_penalty_is_the_best_for_rows_left_out():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(40, 1))
    contexts, values = Features(c[:10], 1.0, constant=True)(c), np.sin(c) + 0.3 * rng.normal(size=(40, 1))
    losses = {}
    for penalty in np.logspace(-6.0, 0.0, 13).tolist():
        loss = 0.0
        for i in range(40):
            others = np.arange(40) != i
            A = contexts[others].T @ contexts[others] + penalty * 40 * np.eye(contexts.shape[1])
            beta = np.linalg.solve(A, contexts[others].T @ values[others])
            loss += float(((values[i] - contexts[i] @ beta) ** 2).sum())
        losses[penalty] = loss
    assert best_penalty(contexts, values) == min(losses, key=losses.get)


def test_the_propensity_is_that_of_the_contexts():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(3000, 1))
    likely = expit(1.5 * c[:, 0] - 1)
    features = Features(c[:30], 1.0, constant=True)(c)
    found = propensity(features, (rng.random(3000) < likely).astype(float))
    assert np.abs(found - likely).mean() < 0.03


def test_the_loss_on_rows_left_out_is_near_that_of_leaving_them_out():
    rng = np.random.default_rng(0)
    features = np.hstack([np.ones((60, 1)), rng.normal(size=(60, 3))])
    y = (rng.random(60) < expit(features[:, 1])).astype(float)
    total = 0.0
    for i in range(60):
        others = np.arange(60) != i
        # The probabilities of the others' fit give its coefficients back, as there are more rows than features.
        p = _fit(features[others], y[others], 1.0)[1]
        odds = features[i] @ np.linalg.lstsq(features[others], np.log(p / (1 - p)), rcond=None)[0]
        total += np.logaddexp(0.0, odds) - y[i] * odds
    assert _fit(features, y, 1.0)[0] == pytest.approx(total / 60, rel=0.02)


@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_the_level_is_kept_whether_or_not_the_contexts_change(mean):
    rng, alerts = np.random.default_rng(1), 0
    for seed in range(20):
        detector = ContextMMDDrift(context=["x0"], p_val=0.1, n_permutations=19, n_landmarks=30, max_ref=200, seed=seed)
        detector.fit(_rows(rng, 200))
        for _ in range(10):
            verdict = detector.predict(_rows(rng, 120, mean))
            assert (verdict.statistic >= verdict.threshold) == verdict.is_drift
            alerts += verdict.is_drift
    low, high = binomial_interval(alerts, 200, coverage=0.999)
    assert low <= 0.1
    assert high >= 0.05


def test_what_the_context_does_not_explain_is_found_and_its_own_change_is_told_as_such():
    rng = np.random.default_rng(0)
    features = [Feature("hour"), Feature("load"), Feature("cost")]
    detector = ContextMMDDrift(context=["hour"], ert=100).fit(_rows(rng, 1000), features)
    same = detector.predict(_rows(rng, 500, mean=0.7))
    assert same.state == "ok"
    assert same.features[0][2:3] == ("ok",)
    assert same.features[0].note == "context, which may change"
    found = detector.predict(_rows(rng, 500, mean=0.7, shift=0.8))
    assert found.state == "alert"
    assert {reason.feature for reason in found.reasons} <= {"load", "cost"}
    assert 0.05 < found.effect_size < 0.9
    # The dependence on the context alone: each column by itself is as it was.
    c = rng.normal(size=(500, 1))
    turned = np.hstack([c, np.sin(-2 * c) + 0.5 * rng.normal(size=(500, 1)), c**2 + rng.normal(size=(500, 1))])
    found = detector.predict(turned)
    assert found.state == "alert"
    assert found.reasons[0].text == "given hour, the distribution of the other columns changed"


def test_contexts_that_the_reference_does_not_have_are_no_alert():
    rng = np.random.default_rng(0)
    detector = ContextMMDDrift(context=["x0"]).fit(_rows(rng, 600))
    far = _rows(rng, 300)
    far[:, 0] += 50.0
    verdict = detector.predict(far)
    assert (verdict.state, verdict.p_val > 0.2) == ("ok", True)


def test_categorical_contexts():
    rng = np.random.default_rng(0)
    features = [Feature("shop", "categorical", ("a", "b", "c")), Feature("price")]

    def rows(n, shares, shift=0.0):
        shop = rng.choice(3, p=shares, size=n)
        return np.stack([shop, 2.0 * shop + rng.normal(size=n) + shift], axis=1)

    detector = ContextMMDDrift(context=["shop"], ert=100).fit(rows(1000, [0.6, 0.3, 0.1]), features)
    assert detector.predict(rows(400, [0.2, 0.3, 0.5])).state == "ok"
    assert detector.predict(rows(400, [0.6, 0.3, 0.1], 1.0)).state == "alert"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"context": []}, "context must be a list of names"),
        ({"context": "x0"}, "context must be a list of names"),
        ({"context": ["x0"], "prop_c_held": 0.99}, "prop_c_held"),
        ({"context": ["x0"], "n_landmarks": 0}, "n_landmarks"),
        ({"context": ["x0"], "ert": 400, "n_permutations": 100}, "at least 399"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        ContextMMDDrift(**params)


def test_a_context_that_is_none_is_told_at_fit():
    rows = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(DetectorError, match="needs context"):
        ContextMMDDrift().fit(rows)
    with pytest.raises(DetectorError, match="names 'hour', which is none of the columns: x0, x1"):
        ContextMMDDrift(context=["hour"]).fit(rows)
    with pytest.raises(DetectorError, match="names every column"):
        ContextMMDDrift(context=["x1", "x0"]).fit(rows)
