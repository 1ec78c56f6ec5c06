"""Learned kernel: the kernel and what it is trained for by definition, levels, what it finds, no global generator."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from detectors import artifact
from detectors.base import DetectorError
from detectors.calibrate import binomial_interval
from detectors.drift.deep_kernel import DeepKernel
from detectors.drift.learned_kernel import LearnedKernelDrift

with_torch = pytest.mark.skipif(find_spec("torch") is None, reason='needs torch: pip install "offpath[torch]"')
QUICK = {"epochs": 5, "batch_size": 64}


def _by_definition(kernel, x, y):
    def features(points):
        weights = [w.detach().numpy().astype(np.float64) for w in kernel._weights]
        hidden = np.maximum(points @ weights[0] + weights[1], 0)
        return np.maximum(hidden @ weights[2] + weights[3], 0) @ weights[4] + weights[5]

    def squared(a, b):
        return ((a[:, None] - b) ** 2).sum(-1)

    a, b, logit = kernel._scales.detach().numpy().astype(np.float64)
    eps = 1 / (1 + np.exp(-logit))
    inner = np.exp(-squared(features(x), features(y)) / (2 * np.exp(a) ** 2))
    return ((1 - eps) * inner + eps) * np.exp(-squared(x, y) / (2 * np.exp(b) ** 2))


@with_torch
def test_the_kernel_is_that_of_the_paper():
    x = np.random.default_rng(0).normal(size=(30, 3))
    kernel = DeepKernel(3, x, seed=1, device="cpu")
    kernel.train(x[:15], x[15:] + 1, 2, 0.01, 8)
    expected = _by_definition(kernel, x, x)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(kernel.matrix(x).numpy(), expected, atol=1e-5)
    assert (kernel.matrix(x).numpy() == kernel.matrix(x).numpy().T).all()


@with_torch
def test_it_is_trained_for_standard_deviations_of_the_unbiased_estimate():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + 1
    kernel = DeepKernel(2, np.concatenate([x, y]), seed=0, device="cpu")
    kxx, kyy, kxy = (_by_definition(kernel, *pair) for pair in ((x, x), (y, y), (x, y)))
    h, n = kxx + kyy - kxy - kxy.T, 20
    mmd = sum(h[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    variance = 4 / n**3 * sum(h[i].sum() ** 2 for i in range(n)) - 4 / n**4 * h.sum() ** 2
    found = float(kernel._power(kernel._tensor(x), kernel._tensor(y)).detach())
    assert found == pytest.approx(mmd / np.sqrt(variance + 1e-6), rel=1e-3)


@with_torch
def test_training_makes_the_difference_clearer_on_rows_not_seen():
    rng = np.random.default_rng(0)

    def sample(n, rho):
        z = rng.normal(size=(n, 4))
        z[:, 1] = rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
        return z

    kernel = DeepKernel(4, sample(200, 0.0), seed=0, device="cpu")
    unseen = kernel._tensor(sample(400, 0.0)), kernel._tensor(sample(400, 0.8))
    before = float(kernel._power(*unseen).detach())
    kernel.train(sample(600, 0.0), sample(400, 0.8), 15, 0.001, 64)
    assert float(kernel._power(*unseen).detach()) > 1.2 * before > 0.0


@with_torch
def test_every_row_of_the_longer_sample_is_learnt_from_and_those_of_the_shorter_as_often_as_each_other():
    kernel = DeepKernel(1, np.arange(9.0)[:, None], seed=0, device="cpu")
    assert sorted(kernel._order(9, 9).tolist()) == list(range(9))
    assert set(np.bincount(kernel._order(4, 10)).tolist()) <= {2, 3}


@with_torch
def test_the_level_is_kept_and_used():
    rng, alerts = np.random.default_rng(7), 0
    for seed in range(10):
        detector = LearnedKernelDrift(p_val=0.1, n_permutations=99, seed=seed, epochs=2, batch_size=16)
        detector.fit(rng.normal(size=(80, 2)))
        for _ in range(20):
            verdict = detector.predict(rng.normal(size=(40, 2)))
            assert (verdict.statistic >= verdict.threshold) == verdict.is_drift
            alerts += verdict.is_drift
    low, high = binomial_interval(alerts, 200, coverage=0.999)
    assert low <= 0.1 <= high


@with_torch
def test_a_shift_and_a_dependence_are_found_and_told_and_none_is_not():
    rng = np.random.default_rng(0)
    detector = LearnedKernelDrift(ert=100, **QUICK).fit(rng.normal(size=(600, 3)))
    assert detector.predict(rng.normal(size=(400, 3))).state == "ok"
    found = detector.predict(rng.normal([0, 1, 0], size=(400, 3)))
    assert (found.state, found.reasons[0].feature) == ("alert", "x1")
    assert 0.05 < found.effect_size < 0.7
    x = rng.normal(size=(400, 3))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    found = detector.predict(x)
    assert found.state == "alert"
    assert found.reasons[0].text == "the columns' joint distribution changed, no single column did"


@with_torch
def test_answers_repeat_after_saving_and_whatever_the_global_generators_do(tmp_path):
    import torch

    rng = np.random.default_rng(0)
    detector = LearnedKernelDrift(**QUICK).fit(rng.normal(size=(200, 2)))
    x = rng.normal(size=(100, 2))
    first = detector.predict(x).to_dict()
    artifact.save(detector, tmp_path / "it")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert artifact.load(tmp_path / "it").predict(x).to_dict() == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"train_size": 0.05}, "train_size"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size must be a whole number from 2"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"ert": 400, "n_permutations": 100}, "at least 399"),
        ({"device": 3}, "device"),
    ],
)
def test_bad_parameters_are_named(params, named):
    with pytest.raises(DetectorError, match=named):
        LearnedKernelDrift(**params)


def test_that_torch_is_not_installed_is_told_at_fit(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DetectorError, match=r'LearnedKernelDrift needs torch: pip install "offpath\[torch\]"'):
        LearnedKernelDrift().fit(np.random.default_rng(0).normal(size=(50, 1)))
