"""Adversarial detectors: scores by hand from saved weights, a program of the model, and what is allowed to run."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import artifact
from detectors.adversarial.autoencoder import AdversarialAE
from detectors.adversarial.distillation import ModelDistillation
from detectors.base import DetectorError, Feature

torch = pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')

from detectors.adversarial.divergence import cross_entropy, divergence, sharpened  # noqa: E402 - after the skip

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 3)) * [1, 10, 0.1] + [0, 50, 3]
W = np.array([[2.0, -1.0, 0.0], [0.1, 0.1, -0.3], [0.0, 5.0, 1.0]])
FEATURES = tuple(Feature(name) for name in ("a", "b", "c", "cat", "dog", "fish"))
ANSWERS = ["cat", "dog", "fish"]
QUICK = {"hidden": [8], "epochs": 5, "batch_size": 100}


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def asked(x):
    return softmax((x - [0, 50, 3]) @ W)


JOINED = np.hstack([X, asked(X)])


def by_hand(detector, name, x):
    arrays = detector.to_parts().arrays
    layers = len([key for key in arrays if key.startswith(f"{name}.")]) // 2
    for i in range(layers):
        x = x @ arrays[f"{name}.{2 * i}"] + arrays[f"{name}.{2 * i + 1}"]
        x = np.tanh(x) if i < layers - 1 else x
    return x


def points(detector, rows):
    return detector._scale.points(detector._coordinates.read(rows))[:, :3]


# By hand


def test_the_divergence_and_the_cross_entropy():
    p, q = torch.tensor([[0.5, 0.5, 0.0]]).double(), torch.tensor([[0.25, 0.25, 0.5]]).double()
    assert divergence(p, q).tolist() == [[0.5 * np.log(2), 0.5 * np.log(2), 0.0]]
    assert cross_entropy(p, q).tolist() == [[0.5 * np.log(4), 0.5 * np.log(4), 0.0]]
    assert np.isfinite(divergence(q, p).numpy()).all()


def test_a_temperature_below_one_makes_answers_surer():
    found = sharpened(torch.tensor([[0.8, 0.2]]).double(), 0.5)
    assert found.tolist() == [pytest.approx([0.64 / 0.68, 0.04 / 0.68])]


@pytest.mark.parametrize(("loss_type", "temperature"), [("kld", 1.0), ("kld", 0.5), ("xent", 1.0)])
def test_the_score_of_a_distillation_is_the_distance_from_the_copy(loss_type, temperature):
    detector = ModelDistillation(outputs=ANSWERS, loss_type=loss_type, temperature=temperature, **QUICK)
    detector.fit(JOINED, FEATURES)
    rows = JOINED[:30]
    p = rows[:, 3:] ** (1 / temperature)
    p /= p.sum(axis=1, keepdims=True)
    q = softmax(by_hand(detector, "copy", points(detector, rows)))
    parts = p * np.log(p / q) if loss_type == "kld" else -p * np.log(q)
    verdict = detector.predict(rows)
    np.testing.assert_allclose(verdict.instance_score, parts.sum(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(verdict.feature_score[:, 3:], parts, rtol=1e-9, atol=1e-12)
    assert (verdict.feature_score[:, :3] == 0).all()


def test_the_score_of_an_autoencoder_is_the_distance_of_the_answers_to_rows_given_back():
    detector = AdversarialAE(outputs=ANSWERS, latent_dim=2, **QUICK).fit(JOINED, FEATURES)
    rows = JOINED[:30]
    given = by_hand(detector, "decoder", by_hand(detector, "encoder", points(detector, rows)))
    q = softmax(by_hand(detector, "copy", given))
    expected = (rows[:, 3:] * np.log(rows[:, 3:] / q)).sum(axis=1)
    np.testing.assert_allclose(detector.predict(rows).instance_score, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(detector.correct(rows), q)
    assert detector.correct(rows[:0]).shape == (0, 3)


def test_a_single_output_is_that_of_the_second_of_two_classes():
    two = np.hstack([X, asked(X)[:, :1]])
    features = (*FEATURES[:3], Feature("cat"))
    detector = ModelDistillation(outputs=["cat"], preds_type="probs", **QUICK).fit(two, features)
    verdict = detector.predict(two[:20])
    p = np.column_stack([1 - two[:20, 3], two[:20, 3]])
    q = softmax(by_hand(detector, "copy", points(detector, two[:20])))
    np.testing.assert_allclose(verdict.instance_score, (p * np.log(p / q)).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(verdict.feature_score[:, 3], verdict.instance_score)


# What they find


@pytest.mark.parametrize("made", [ModelDistillation, AdversarialAE])
def test_an_answer_unlike_the_model_s_is_found_told_and_corrected(made):
    detector = made(outputs=ANSWERS, hidden=[16], epochs=20, learning_rate=0.01).fit(JOINED, FEATURES)
    sure = JOINED[JOINED[:, 3:].max(axis=1) > 0.97][:40]
    attacked = np.hstack([sure[:, :3], sure[:, [4, 5, 3]]])
    verdict = detector.predict(np.vstack([sure, attacked]))
    assert verdict.is_outlier[40:].mean() > 0.95
    assert verdict.is_outlier[:40].mean() < 0.1
    assert verdict.reasons[0].feature in ANSWERS
    assert "the model says " in verdict.reasons[0].text
    if made is AdversarialAE:
        assert (detector.correct(attacked).argmax(axis=1) == sure[:, 3:].argmax(axis=1)).mean() > 0.9


def test_rows_without_a_usable_answer_are_not_judged():
    detector = ModelDistillation(outputs=ANSWERS, **QUICK).fit(JOINED, FEATURES)
    rows = JOINED[:4].copy()
    rows[0, 3], rows[1, 4], rows[2, 5] = np.nan, -1.0, np.inf
    verdict = detector.predict(rows)
    assert np.isnan(verdict.instance_score).tolist() == [True, True, True, False]
    assert not verdict.is_outlier[:3].any()
    assert detector.predict(rows[:3]).state == "insufficient_data"


# A program of the model


class Classifier(torch.nn.Module):
    def __init__(self, hidden=False):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.hidden = hidden
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(W.T))
            self.linear.bias.copy_(-torch.tensor([0, 50, 3.0]) @ torch.tensor(W).float())

    def forward(self, x):
        logits = self.linear(x)
        return (logits, torch.relu(x)) if self.hidden else logits


def exported(path, hidden=False, batch="dynamic"):
    shapes = ({0: torch.export.Dim("batch")},) if batch == "dynamic" else None
    program = torch.export.export(Classifier(hidden), (torch.zeros(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return str(path)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model") / "classifier.pt2")


@pytest.mark.parametrize("made", [ModelDistillation, AdversarialAE])
def test_a_program_is_asked_for_its_answers_and_saved_with_the_detector(made, program, tmp_path):
    detector = made(model=program, preds_type="logits", hidden=[16], epochs=15, learning_rate=0.01).fit(X)
    verdict = detector.predict(X[:50])
    told = asked(X[:50])
    if made is ModelDistillation:
        q = softmax(by_hand(detector, "copy", points(detector, X[:50])))
    else:
        given = by_hand(detector, "decoder", by_hand(detector, "encoder", points(detector, X[:50])))
        units = np.clip(given / detector._scale.scale + detector._scale.centre, X.min(axis=0), X.max(axis=0))
        q = asked(units)
        np.testing.assert_allclose(detector.correct(X[:50]), q, rtol=1e-3, atol=1e-5)
        assert (q.argmax(axis=1) == told.argmax(axis=1)).mean() > 0.8  # it has learnt to keep the answer
    expected = (told * np.log(told / q)).sum(axis=1)
    np.testing.assert_allclose(verdict.instance_score, expected, rtol=1e-3, atol=1e-5)  # the program's are single
    artifact.save(detector, tmp_path / "it")
    with pytest.raises(artifact.ArtifactError, match=r"holds a program that loading runs.*allow_code: true"):
        artifact.load(tmp_path / "it")
    loaded = artifact.load(tmp_path / "it", allow_code=True)
    assert loaded.predict(X[:50]).instance_score.tolist() == verdict.instance_score.tolist()


def test_hidden_layers_that_a_program_gives_are_compared_too(tmp_path):
    detector = AdversarialAE(model=exported(tmp_path / "both.pt2", hidden=True), preds_type="logits", **QUICK).fit(X)
    told, layer = asked(X[:20]), softmax(np.maximum(X[:20], 0))
    given = by_hand(detector, "decoder", by_hand(detector, "encoder", points(detector, X[:20])))
    units = np.clip(given / detector._scale.scale + detector._scale.centre, X.min(axis=0), X.max(axis=0))
    other, other_layer = asked(units), np.maximum(softmax(np.maximum(units, 0)), 1e-12)
    layer_or_least = np.maximum(layer, 1e-12)
    expected = (told * np.log(told / other)).sum(axis=1) + (layer * np.log(layer_or_least / other_layer)).sum(axis=1)
    np.testing.assert_allclose(detector.predict(X[:20]).instance_score, expected, rtol=1e-3, atol=1e-4)


def test_a_flagged_row_of_a_program_says_what_the_model_says(program):
    detector = ModelDistillation(model=program, preds_type="logits", threshold=-1.0, **QUICK).fit(X)
    reason = detector.predict(X[:1]).reasons[0]
    assert reason.text.startswith("class ")
    assert "its copy" in reason.text


def test_a_program_is_asked_with_the_row_as_it_is_also_where_the_reference_was_constant(program):
    rows = np.column_stack([X[:, 0], np.full(1000, 50.0), X[:, 2]])
    detector = ModelDistillation(model=program, preds_type="logits", **QUICK).fit(rows)
    moved = rows[:5] + np.array([9.0, 3.0, 0.0])
    told, _ = detector._compared(detector._coordinates.read(moved))
    np.testing.assert_allclose(told[0].numpy(), asked(moved), rtol=1e-4, atol=1e-6)


def test_programs_that_cannot_be_used(program, tmp_path):
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"no archive")
    still = exported(tmp_path / "still.pt2", batch="still")
    cases = [
        ({"model": str(tmp_path / "none.pt2")}, "none.pt2 cannot be read"),
        ({"model": str(broken)}, "model is no program of torch.export"),
        ({"model": program, "model_sha256": "0" * 64}, f"has the digest .*, not {'0' * 64}"),
        ({"model": program, "input_shape": [3, 1]}, r"does not take rows of the shape \(1, 3, 1\)"),
        ({"model": still}, "a first dimension that may vary"),
    ]
    for params, said in cases:
        with pytest.raises(DetectorError, match=said):
            ModelDistillation(**params, **QUICK).fit(X)


# What is refused


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "name the columns that hold them as outputs"),
        ({"outputs": ["bird"]}, "outputs names bird, and the columns are a, b"),
        ({"outputs": [f.name for f in FEATURES]}, "outputs names every column"),
    ],
)
def test_columns_that_are_not_there(params, said):
    with pytest.raises(DetectorError, match=said):
        ModelDistillation(**params).fit(JOINED, FEATURES)


def test_answers_that_are_categories_and_categories_for_a_program(program):
    features = (*FEATURES[:5], Feature("fish", "categorical", ("no", "yes")))
    with pytest.raises(DetectorError, match="'fish' is categorical"):
        AdversarialAE(outputs=ANSWERS).fit(JOINED, features)
    with pytest.raises(DetectorError, match="model takes numbers only"):
        AdversarialAE(model=program).fit(JOINED, features)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"outputs": "cat"}, "outputs must be a list of names"),
        ({"outputs": ["cat", "cat"]}, "each once"),
        ({"outputs": ["cat"], "model": "it.pt2"}, "outputs or model, not both"),
        ({"input_shape": [0]}, "input_shape must be a list of sizes"),
        ({"temperature": 0.0}, "temperature must be a positive number"),
        ({"preds_type": "labels"}, "preds_type must be one of"),
        ({"loss_type": "mse"}, "loss_type must be one of"),
    ],
)
def test_parameters_out_of_range(params, said):
    with pytest.raises(DetectorError, match=said):
        ModelDistillation(**params)
