"""Detectors on a model's outputs: what they make of them by definition, and what they find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from detectors.base import DetectorError, Feature, ShapeError
from detectors.calibrate import binomial_interval
from detectors.drift.bbsd import BBSDDrift
from detectors.drift.classifier_uncertainty import ClassifierUncertaintyDrift
from detectors.drift.ks import KSDrift
from detectors.drift.regressor_uncertainty import RegressorUncertaintyDrift
from detectors.predictions import probabilities

PETS = [Feature("cat"), Feature("dog"), Feature("fish")]


def test_probabilities_are_those_of_scipy_and_of_shares():
    logits = np.random.default_rng(0).normal(scale=5, size=(50, 4))
    np.testing.assert_allclose(probabilities(logits, "logits"), softmax(logits, axis=1), rtol=1e-12)
    np.testing.assert_allclose(
        probabilities(logits[:, :1], "logits")[:, 1], 1 / (1 + np.exp(-logits[:, 0])), rtol=1e-12
    )
    np.testing.assert_allclose(probabilities(np.array([[20.0, 60.0, 20.0]]), "probs"), [[0.2, 0.6, 0.2]])
    np.testing.assert_allclose(probabilities(np.array([[0.3]]), "probs"), [[0.7, 0.3]])


def test_what_are_no_probabilities_is_missing():
    odd = np.array([[0.5, -0.1], [0.0, 0.0], [1e308, 1e308]])
    found = probabilities(odd, "probs")
    assert np.isnan(found[:2]).all()
    assert found[2].tolist() == [0.5, 0.5]
    assert np.isnan(probabilities(np.array([[1.5], [-0.5]]), "probs")).all()
    assert probabilities(np.array([[1e308, -1e308]]), "logits").tolist() == [[1.0, 0.0]]


def test_the_entropy_is_tested_as_ks_does():
    rng = np.random.default_rng(0)
    reference, x = rng.dirichlet([0.5] * 3, size=800), rng.dirichlet([0.7] * 3, size=300)
    found = ClassifierUncertaintyDrift().fit(reference, PETS).predict(x)
    entropies = [stats.entropy(rows, axis=1)[:, None] for rows in (reference, x)]
    assert found.p_val == pytest.approx(KSDrift().fit(entropies[0]).predict(entropies[1]).p_val, rel=1e-9)
    assert [f.name for f in found.features] == ["entropy"]


def test_the_margin_is_the_distance_of_the_two_largest():
    rng = np.random.default_rng(0)
    detector = ClassifierUncertaintyDrift(uncertainty_type="margin", margin_width=0.2)
    detector.fit(rng.dirichlet([0.5] * 3, size=2000), PETS)
    clear = np.tile([0.61, 0.39, 0.0], (100, 1))
    narrow = np.tile([0.39, 0.01, 0.58], (100, 1))
    assert detector.predict(clear).features[0].histogram.window == (1.0, 0.0)
    verdict = detector.predict(narrow)
    assert verdict.features[0].histogram.window == (0.0, 1.0)
    assert verdict.reasons[0].text.startswith("margin: share of ")


@pytest.mark.parametrize("uncertainty_type", ["entropy", "margin"])
def test_less_sure_is_found_and_as_sure_is_not(uncertainty_type):
    rng = np.random.default_rng(0)
    detector = ClassifierUncertaintyDrift(ert=100, preds_type="logits", uncertainty_type=uncertainty_type)
    detector.fit(rng.normal(scale=4, size=(3000, 3)), PETS)
    assert detector.predict(rng.normal(scale=4, size=(500, 3))).state == "ok"
    assert detector.predict(rng.normal(scale=1, size=(500, 3))).state == "alert"


def test_the_deviation_of_an_ensemble_is_found_and_its_mean_plays_no_part():
    rng = np.random.default_rng(0)
    detector = RegressorUncertaintyDrift(ert=100).fit(rng.normal(size=(3000, 5)))
    assert detector.predict(rng.normal(size=(500, 5)) + rng.normal(scale=99, size=(500, 1))).state == "ok"
    found = detector.predict(1.5 * rng.normal(size=(500, 5)))
    assert (found.state, found.reasons[0].feature) == ("alert", "deviation")
    with pytest.raises(ShapeError, match="at least 2 columns"):
        RegressorUncertaintyDrift().fit(np.ones((50, 1)))
    huge = detector.predict(np.tile([1e308, -1e308, 0, 0, 0], (50, 1)))
    assert (huge.state, huge.features[0].missing) == ("alert", 0)


def test_a_change_of_the_classes_shares_is_found_and_named():
    rng = np.random.default_rng(0)

    def outputs(n, shares):
        return softmax(4 * np.eye(3)[rng.choice(3, size=n, p=shares)] + rng.normal(size=(n, 3)), axis=1)

    reference = outputs(3000, [0.6, 0.3, 0.1])
    for of in ("soft", "hard", "both"):
        detector = BBSDDrift(ert=100, outputs=of).fit(reference, PETS)
        assert detector.predict(outputs(500, [0.6, 0.3, 0.1])).state == "ok"
        assert detector.predict(outputs(500, [0.4, 0.3, 0.3])).state == "alert"
    reasons = detector.predict(outputs(500, [0.4, 0.3, 0.3])).reasons
    assert {"fish", "predicted"} <= {reason.feature for reason in reasons}
    hard = BBSDDrift(outputs="hard").fit(reference, PETS).predict(outputs(500, [0.4, 0.3, 0.3]))
    assert hard.reasons[0].text.startswith("predicted: share of fish 10 % -> 3")


def test_a_single_output_is_that_of_the_second_of_two_classes():
    rng = np.random.default_rng(0)
    detector = BBSDDrift().fit(rng.beta(1, 3, size=(2000, 1)), [Feature("fraud")])
    verdict = detector.predict(rng.beta(3, 1, size=(200, 1)))
    assert [f.name for f in verdict.features] == ["fraud", "predicted"]
    assert verdict.features[1].histogram.labels == ("not fraud", "fraud")
    assert verdict.features[1].histogram.window[1] > 0.8


def test_a_class_may_be_called_predicted():
    features = [Feature("predicted"), Feature("other")]
    verdict = BBSDDrift().fit(np.random.default_rng(0).dirichlet([1, 1], 100), features).predict(np.full((50, 2), 0.5))
    assert [f.name for f in verdict.features] == ["predicted", "other", "predicted label"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BBSDDrift(p_val=0.1, outputs="soft"),
        lambda: ClassifierUncertaintyDrift(p_val=0.1),
        lambda: RegressorUncertaintyDrift(p_val=0.1),
    ],
)
def test_the_level_is_kept(make):
    rng, alerts = np.random.default_rng(1), 0
    for _ in range(20):
        detector = make().fit(rng.dirichlet([1, 2, 3], size=3000))
        alerts += sum(detector.predict(rng.dirichlet([1, 2, 3], size=200)).is_drift for _ in range(30))
    low, high = binomial_interval(alerts, 600, coverage=0.999)
    assert low <= 0.1
    assert high >= 0.07


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ClassifierUncertaintyDrift(preds_type="votes"), "preds_type must be one of probs, logits"),
        (lambda: ClassifierUncertaintyDrift(uncertainty_type="doubt"), "uncertainty_type must be one of"),
        (lambda: ClassifierUncertaintyDrift(margin_width=1.0), "margin_width"),
        (lambda: BBSDDrift(outputs="some"), "outputs must be one of soft, hard, both"),
        (lambda: BBSDDrift(correction="most"), "correction"),
        (lambda: BBSDDrift(ert=10, p_val=0.1), "not both"),
    ],
)
def test_bad_parameters_are_named(make, named):
    with pytest.raises(DetectorError, match=named):
        make()


def test_categorical_columns_and_references_of_no_probabilities_are_refused():
    with pytest.raises(DetectorError, match="'c' is categorical"):
        BBSDDrift().fit(np.zeros((50, 1)), [Feature("c", "categorical", ("a",))])
    with pytest.raises(DetectorError, match=r"0 rows .* takes the outputs of a model"):
        ClassifierUncertaintyDrift().fit(np.full((50, 3), -1.0))
