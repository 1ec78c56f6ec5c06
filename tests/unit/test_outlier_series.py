"""Outliers in rows that are time series: scores by the definitions, moment by moment, without a fast transform."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import registry
from detectors.base import DetectorError, Feature
from detectors.outlier.spectral_residual import SpectralResidual, extend, local_mean, saliency

RNG = np.random.default_rng(0)
START = RNG.uniform(0, 2 * np.pi, (600, 1))
WAVES = np.sin(START + np.arange(24) / 2) + RNG.normal(0, 0.02, (600, 24))


def spiked(at):
    rows = WAVES[: len(at)].copy()
    rows[np.arange(len(at)), at] = np.where(rows[np.arange(len(at)), at] > 0, -0.99, 0.99)
    return rows


# Spectral residual


def by_definition(series, q, z, points, slopes):
    """Section 3.2 of Ren et al. 2019, in complex exponentials and loops; the local mean is that of both sides."""
    s = list(series)
    slope = np.mean([(s[-1] - s[-1 - i]) / i for i in range(1, slopes + 1)])
    s += [s[len(series) - slopes] + slope * slopes] * points
    n = len(s)
    wave = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    spectrum = wave @ np.array(s)
    log = np.log(np.abs(spectrum))
    residual = [log[f] - np.mean([log[(f + i) % n] for i in range(-(q // 2), q // 2 + 1)]) for f in range(n)]
    back = wave.conj() @ np.exp(np.array(residual) + 1j * np.angle(spectrum)) / n
    salient = np.abs(back)[: len(series)]
    usual = [np.mean(salient[max(i - z // 2, 0) : i + z // 2 + 1]) for i in range(len(series))]
    return (salient - usual) / np.array(usual)


@pytest.mark.parametrize(("q", "z", "points", "slopes"), [(3, 21, 5, 5), (5, 7, 0, 1), (1, 3, 2, 3)])
def test_scores_are_those_of_the_definition(q, z, points, slopes):
    detector = SpectralResidual(window_amp=q, window_local=z, n_est_points=points, n_grad_points=slopes).fit(WAVES)
    inside = np.clip(WAVES[:20], WAVES.min(axis=0), WAVES.max(axis=0))
    standard = (inside - WAVES.mean()) / WAVES.std()
    expected = [by_definition(row, q, z, points, slopes).max() for row in standard]
    np.testing.assert_allclose(detector.predict(WAVES[:20]).instance_score, expected, rtol=1e-5)


def test_the_next_value_follows_the_mean_slope():
    """Slopes to 9 from 1, 3 and 6 moments before: 8 / 3, 7 / 2, 5; and on from the third newest."""
    series = np.array([0.0, 1.0, 2.0, 4.0, 9.0])
    slope = (8 / 3 + 7 / 2 + 5) / 3
    assert extend(series, 2, 3).tolist() == pytest.approx([0, 1, 2, 4, 9, 2 + 3 * slope, 2 + 3 * slope])
    assert extend(series, 0, 3).tolist() == series.tolist()


def test_windows_longer_than_the_series():
    assert local_mean(np.array([1.0, 2.0, 6.0]), 21).tolist() == [3.0, 3.0, 3.0]
    assert np.isfinite(saliency(np.arange(5.0), 99)).all()


@pytest.mark.parametrize("series", [np.zeros(8), np.full(8, 3.0), np.zeros((2, 8))])
def test_a_flat_series_has_no_strange_moment(series):
    found = SpectralResidual()._strangeness(series)
    assert np.abs(found).max() < 1e-6


def test_the_moment_of_a_spike_is_told():
    at = RNG.integers(2, 22, 100)
    verdict = SpectralResidual(share=0.01).fit(WAVES).predict(spiked(at))
    assert (verdict.feature_score.argmax(axis=1) == at).mean() > 0.8


def test_several_variables_are_judged_one_by_one():
    """Two interleaved: the score of the stranger one, each scaled by itself."""
    other = 50 + 10 * WAVES[::-1]
    both = np.stack([WAVES, other], axis=2).reshape(600, 48)
    one, two = (SpectralResidual().fit(rows).predict(rows[:50]).instance_score for rows in (WAVES, other))
    found = SpectralResidual(n_features=2).fit(both).predict(both[:50]).instance_score
    np.testing.assert_allclose(found, np.maximum(one, two), rtol=1e-6)


@pytest.mark.parametrize("detector_type", ["SpectralResidual", "OutlierSeq2Seq"])
def test_rows_that_are_no_series(detector_type):
    if detector_type == "OutlierSeq2Seq":
        pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')
    for n_features in (5, 8):  # 24 columns are no whole moments of 5 values, and only 3 of 8
        with pytest.raises(DetectorError, match="rows of at least 4 moments"):
            registry.create(detector_type, n_features=n_features).fit(WAVES)
    features = [Feature(f"x{i}", "categorical" if i == 3 else "numeric") for i in range(24)]
    with pytest.raises(DetectorError, match="'x3' is categorical"):
        registry.create(detector_type).fit(WAVES, features)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"window_local": 20}, "window_local must be odd"),
        ({"window_amp": 0}, "window_amp must be a whole number"),
        ({"n_est_points": -1}, "n_est_points must be a whole number"),
        ({"n_features": 0}, "n_features must be a whole number"),
    ],
)
def test_parameters_out_of_range(params, said):
    with pytest.raises(DetectorError, match=said):
        SpectralResidual(**params)


# Sequence to sequence


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def remembering(arrays, name, series, state):
    """One row through long short-term memory: ``(s, units)`` states, and the last with its cell."""
    weight, bias = arrays[f"{name}.0"], arrays[f"{name}.1"]
    hidden, cell = state
    states = []
    for moment in series:
        take, keep, tell, new = np.split(np.concatenate([moment, hidden]) @ weight + bias, 4)
        cell = sigmoid(keep) * cell + sigmoid(take) * np.tanh(new)
        hidden = sigmoid(tell) * np.tanh(cell)
        states.append(hidden)
    return np.array(states), (hidden, cell)


@pytest.mark.parametrize(("n_features", "percent", "counted"), [(1, 100.0, 24), (2, 25.0, 6)])
def test_the_score_is_the_error_less_its_estimate(n_features, percent, counted):
    pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')
    params = {"latent_dim": 3, "hidden": [5], "epochs": 2, "batch_size": 100}
    detector = registry.create("OutlierSeq2Seq", n_features=n_features, outlier_perc=percent, **params).fit(WAVES)
    arrays, nothing = detector.to_parts().arrays, np.zeros(3)
    for row in WAVES[:5]:
        series = ((row - arrays["centre"]) * arrays["scale"]).reshape(-1, n_features)
        _, state = remembering(arrays, "encoder", series, (nothing, nothing))
        shifted = np.concatenate([np.zeros((1, n_features)), series[:-1]])
        states, _ = remembering(arrays, "decoder", shifted, state)
        error = (series - (states @ arrays["given.0"] + arrays["given.1"])) ** 2
        inner = np.tanh(states @ arrays["estimate.0"] + arrays["estimate.1"])
        found = (error - (inner @ arrays["estimate.2"] + arrays["estimate.3"])).ravel() - arrays["offset"]
        expected = np.sort(found)[-counted:].mean()
        assert detector.predict(row[None]).instance_score[0] == pytest.approx(expected)


def test_memory_is_that_of_torch_s_own():
    torch = pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')
    from detectors.recurrent import Recurrent

    ours = Recurrent.create(2, 3, torch, torch.device("cpu"), np.random.default_rng(0))
    weight, bias = (tensor.detach() for tensor in ours.parameters)
    theirs = torch.nn.LSTM(2, 3, batch_first=True, dtype=torch.float64)
    order = [0, 1, 3, 2]  # torch's gates: input, forget, cell, output
    columns = torch.cat([torch.arange(3) + 3 * i for i in order])
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(weight[:2, columns].T)
        theirs.weight_hh_l0.copy_(weight[2:, columns].T)
        theirs.bias_ih_l0.copy_(bias[columns])
        theirs.bias_hh_l0.zero_()
        x = torch.tensor(RNG.normal(size=(4, 6, 2)))
        np.testing.assert_allclose(ours(x)[0], theirs(x)[0], rtol=1e-12)


def test_a_broken_wave_is_found_where_it_breaks():
    pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')
    params = {"latent_dim": 8, "hidden": [], "epochs": 12, "learning_rate": 0.02, "outlier_perc": 5.0}
    detector = registry.create("OutlierSeq2Seq", **params).fit(WAVES)
    at = RNG.integers(4, 20, 50)
    verdict = detector.predict(spiked(at))
    assert verdict.is_outlier.mean() > 0.8
    assert (verdict.feature_score.argmax(axis=1) == at).mean() > 0.7
