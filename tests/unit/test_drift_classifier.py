"""Classifier two-sample test: the Mann-Whitney test by scipy's, levels, what each model finds, no global generator."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from scipy import stats

from detectors import artifact, registry
from detectors.base import DetectorError
from detectors.calibrate import binomial_interval
from detectors.drift.classifier import ClassifierDrift
from detectors.drift.classifiers import separation

with_sklearn = pytest.mark.skipif(
    find_spec("sklearn") is None,
    reason='needs scikit-learn: pip install "offpath[sklearn]"',
)
with_torch = pytest.mark.skipif(find_spec("torch") is None, reason='needs torch: pip install "offpath[torch]"')
MODELS = [
    pytest.param("logistic", marks=with_sklearn),
    pytest.param("forest", marks=with_sklearn),
    pytest.param("mlp", marks=with_torch),
]


@pytest.mark.parametrize("digits", [9, 1, 0])
def test_the_p_value_is_scipys_with_and_without_ties(digits):
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, -0.3):
        a, b = rng.normal(size=70).round(digits), rng.normal(shift, size=40).round(digits)
        expected = stats.mannwhitneyu(b, a, alternative="greater", method="asymptotic")
        found = separation(a, b)
        assert found.p_val == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.auc == pytest.approx(expected.statistic / (70 * 40))


def test_the_critical_auc_is_that_of_the_level():
    rng = np.random.default_rng(0)
    found = separation(rng.normal(size=50), rng.normal(size=50))
    at = found._replace(auc=found.critical(0.01))
    assert at.p_val == pytest.approx(0.01)


def test_scores_that_are_all_equal_tell_nothing():
    found = separation(np.zeros(20), np.zeros(30))
    assert (found.auc, found.p_val) == (0.5, 1.0)


@with_sklearn
def test_the_level_is_kept_and_used():
    """Where folds take turns and are pooled, about one clean window in ten alerts at a level of 0.05."""
    rng, alerts, windows = np.random.default_rng(3), 0, 600
    for seed in range(20):
        detector = ClassifierDrift(p_val=0.1, model="logistic", seed=seed).fit(rng.normal(size=(300, 3)))
        for _ in range(windows // 20):
            verdict = detector.predict(rng.normal(size=(100, 3)))
            assert (verdict.statistic >= verdict.threshold) == verdict.is_drift
            alerts += verdict.is_drift
    low, high = binomial_interval(alerts, windows, coverage=0.999)
    assert low <= 0.1 <= high


@pytest.mark.parametrize("model", MODELS)
def test_a_shift_is_found_and_none_is_not(model):
    rng = np.random.default_rng(0)
    detector = ClassifierDrift(model=model, ert=100, n_estimators=20).fit(rng.normal(size=(1000, 3)))
    assert detector.predict(rng.normal(size=(400, 3))).state == "ok"
    found = detector.predict(rng.normal([0, 1, 0], size=(400, 3)))
    assert found.state == "alert"
    assert found.reasons[0].feature == "x1"
    assert 0.3 < found.effect_size < 0.7


@pytest.mark.parametrize("model", MODELS)
def test_forests_and_networks_find_what_regression_does_not(model):
    """A dependence between columns that are each as they were."""
    rng = np.random.default_rng(0)
    detector = ClassifierDrift(model=model, ert=100, n_estimators=30).fit(rng.normal(size=(1500, 2)))
    x = rng.normal(size=(500, 2))
    verdict = detector.predict(np.stack([x[:, 0], 0.9 * x[:, 0] + np.sqrt(0.19) * x[:, 1]], axis=1))
    assert verdict.is_drift == (model != "logistic")
    if verdict.is_drift:
        assert verdict.reasons[0].text == "the columns' joint distribution changed, no single column did"


@pytest.mark.parametrize("model", MODELS)
def test_answers_repeat_after_saving_and_whatever_the_global_generators_do(model, tmp_path):
    rng = np.random.default_rng(0)
    detector = ClassifierDrift(model=model, epochs=2, n_estimators=5).fit(rng.normal(size=(200, 2)))
    x = rng.normal(size=(100, 2))
    first = detector.predict(x).to_dict()
    before = np.random.get_state()[1].tolist()
    artifact.save(detector, tmp_path / "it")
    assert artifact.load(tmp_path / "it").predict(x).to_dict() == first
    assert np.random.get_state()[1].tolist() == before
    if model == "mlp":
        import torch

        state = torch.get_rng_state()
        torch.manual_seed(99)
        assert detector.predict(x).to_dict() == first
        torch.set_rng_state(state)
        detector.predict(x)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"model": "oracle"}, "model must be one of forest, logistic, mlp"),
        ({"train_size": 0.95}, "train_size"),
        ({"n_estimators": 0}, "n_estimators"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        ClassifierDrift(**params)


def test_what_is_not_installed_is_told_at_fit(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 1))
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DetectorError, match=r'ClassifierDrift needs sklearn: pip install "offpath\[sklearn\]"'):
        ClassifierDrift().fit(rows)
    with pytest.raises(DetectorError, match=r'ClassifierDrift needs torch: pip install "offpath\[torch\]"'):
        ClassifierDrift(model="mlp").fit(rows)


def test_what_it_needs_follows_from_its_model():
    needs = [registry.requires("ClassifierDrift", params) for params in ({}, {"model": "logistic"}, {"model": "mlp"})]
    assert needs == [("sklearn",), ("sklearn",), ("torch",)]
