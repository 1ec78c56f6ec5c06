"""Outlier detectors on networks: their scores by hand, from the networks' outputs and the formulas of the papers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from detectors import artifact, registry
from detectors.base import DetectorError
from detectors.outlier.deep import top_mean

torch = pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')

from detectors.network import Network, noise, train  # noqa: E402 - after the skip
from detectors.outlier.energy import Groups  # noqa: E402
from detectors.outlier.variational import draw, negative_elbo  # noqa: E402

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
T = RNG.uniform(-1, 1, 1000)
CURVE = np.column_stack([T, T**2, T**3])
RECONSTRUCTING = ["OutlierAE", "OutlierVAE"]
ENERGIES = ["OutlierAEGMM", "OutlierVAEGMM"]


def created(detector_type, **params):
    return registry.create(detector_type, **{"hidden": [8], "epochs": 5, "latent_dim": 1, **params})


def points(detector, rows):
    return detector._scale.points(detector._coordinates.read(rows))


def by_hand(detector, name, x):
    """The output of one network, with NumPy, from the arrays that are saved."""
    arrays = detector.to_parts().arrays
    layers = len([key for key in arrays if key.startswith(f"{name}.")]) // 2
    for i in range(layers):
        x = x @ arrays[f"{name}.{2 * i}"] + arrays[f"{name}.{2 * i + 1}"]
        x = np.tanh(x) if i < layers - 1 else x
    return x


def drawn_codes(detector, x):
    mean, log_var = np.split(by_hand(detector, "encoder", x), 2, axis=1)
    return [mean + np.exp(log_var / 2) * drawn for drawn in detector.to_parts().arrays["noise"]]


# Scores, by the table of formulas


def test_the_score_of_an_autoencoder_is_the_mean_squared_error():
    detector = created("OutlierAE").fit(CURVE)
    x = points(detector, CURVE[:50])
    errors = (x - by_hand(detector, "decoder", by_hand(detector, "encoder", x))) ** 2
    verdict = detector.predict(CURVE[:50])
    np.testing.assert_allclose(verdict.feature_score, errors / 3)
    np.testing.assert_allclose(verdict.instance_score, errors.mean(axis=1))


def test_outlier_perc_counts_the_largest_errors():
    whole, two = created("OutlierAE").fit(CURVE), created("OutlierAE", outlier_perc=60).fit(CURVE)
    errors = 3 * whole.predict(CURVE[:50]).feature_score
    verdict = two.predict(CURVE[:50])
    np.testing.assert_allclose(verdict.instance_score, np.sort(errors, axis=1)[:, 1:].mean(axis=1))
    assert ((verdict.feature_score == 0).sum(axis=1) == 1).all()
    assert top_mean(np.array([[5.0, 1.0, 3.0, 4.0]]), 50).tolist() == [[2.5, 0.0, 0.0, 2.0]]
    assert top_mean(np.array([[5.0, 1.0]]), 0.1).tolist() == [[5.0, 0.0]]


def test_the_score_of_a_variational_autoencoder_is_the_mean_over_its_draws():
    detector = created("OutlierVAE", samples=4).fit(CURVE)
    x = points(detector, CURVE[:50])
    errors = [(x - by_hand(detector, "decoder", code)) ** 2 for code in drawn_codes(detector, x)]
    assert len(errors) == 4
    np.testing.assert_allclose(detector.predict(CURVE[:50]).instance_score, np.mean(errors, axis=(0, 2)))


def energy_by_hand(detector, x, code):
    """From the arrays that are saved: codes beside the cosine and the relative distance, under the saved groups."""
    given, room = by_hand(detector, "decoder", code), x.shape[1]
    length, given_length = np.sqrt((x**2).sum(axis=1) + room), np.sqrt((given**2).sum(axis=1) + room)
    cosine = ((x * given).sum(axis=1) + room) / (length * given_length)
    z = np.column_stack([code, cosine, np.sqrt(((x - given) ** 2).sum(axis=1)) / length])
    share, mean, cov = (detector.to_parts().arrays[f"groups.{name}"] for name in ("share", "mean", "cov"))
    density = sum(p * multivariate_normal(m, c).pdf(z) for p, m, c in zip(share, mean, cov, strict=True))
    return -np.log(density)


def test_the_score_of_an_autoencoder_with_a_mixture_is_the_energy_of_its_codes():
    detector = created("OutlierAEGMM", n_gmm=3).fit(CURVE)
    x = points(detector, CURVE[:50])
    expected = energy_by_hand(detector, x, by_hand(detector, "encoder", x))
    np.testing.assert_allclose(detector.predict(CURVE[:50]).instance_score, expected, rtol=1e-6)


def test_the_score_of_a_variational_one_with_a_mixture_is_the_mean_energy_over_its_draws():
    detector = created("OutlierVAEGMM", samples=3).fit(CURVE)
    x = points(detector, CURVE[:50])
    expected = np.mean([energy_by_hand(detector, x, code) for code in drawn_codes(detector, x)], axis=0)
    np.testing.assert_allclose(detector.predict(CURVE[:50]).instance_score, expected, rtol=1e-6)


@pytest.mark.parametrize("detector_type", ENERGIES)
def test_beyond_the_reference_energy_grows_by_the_squares_of_coordinates(detector_type):
    detector = created(detector_type).fit(CURVE)
    at_end, far = CURVE[:1].copy(), CURVE[:1].copy()
    at_end[0, 1], far[0, 1] = CURVE[:, 1].max(), 30.0
    z = [detector._coordinates.read(row).z[0, 1] for row in (at_end, far)]
    scores = [detector.predict(row).instance_score[0] for row in (at_end, far)]
    assert scores[1] - scores[0] == pytest.approx(z[1] ** 2 - z[0] ** 2)


@pytest.mark.parametrize("detector_type", RECONSTRUCTING)
def test_beyond_the_reference_squares_of_coordinates_are_added(detector_type):
    detector = created(detector_type).fit(CURVE)
    at_end, far = CURVE[:1].copy(), CURVE[:1].copy()
    at_end[0, 1], far[0, 1] = CURVE[:, 1].max(), 30.0
    z = [detector._coordinates.read(row).z[0, 1] for row in (at_end, far)]
    scores = [detector.predict(row).instance_score[0] for row in (at_end, far)]
    assert scores[1] - scores[0] == pytest.approx((z[1] ** 2 - z[0] ** 2) / 3)


# Parts of the losses


def test_the_evidence_lower_bound_by_hand():
    """Errors 1 and 2 at variance 0.5: (1 + 4) / 1; a code of mean 1 and variance e^2: (1 + e^2 - 1 - 2) / 2, twice."""
    x, given = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
    loss = negative_elbo(x, given, torch.tensor([[1.0]]), torch.tensor([[2.0]]), sim=0.5, beta=2.0)
    assert float(loss) == pytest.approx(5 + 2 * (np.e**2 - 2) / 2)
    assert draw(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)).item() == pytest.approx(1 + 3 * np.e)


def test_groups_by_hand():
    """Codes 0 and 2 of the first group, 10 of the second, and 6 of both half and half."""
    codes = torch.tensor([[0.0], [2.0], [10.0], [6.0]]).double()
    belongs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]).double()
    groups = Groups.of(codes, belongs, torch)
    assert groups.share.tolist() == [2.5 / 4, 1.5 / 4]
    assert groups.mean[:, 0].tolist() == pytest.approx([(0 + 2 + 3) / 2.5, (10 + 3) / 1.5])
    variances = [(2**2 + 0 + 0.5 * 4**2) / 2.5, ((10 - 26 / 3) ** 2 + 0.5 * (6 - 26 / 3) ** 2) / 1.5]
    assert groups.cov[:, 0, 0].tolist() == pytest.approx([v + 1e-6 for v in variances])
    assert float(groups.narrowness()) == pytest.approx(sum(1 / (v + 1e-6) for v in variances))
    normal = [norm(m, v**0.5) for m, v in zip(groups.mean[:, 0], groups.cov[:, 0, 0], strict=True)]
    expected = -np.log(2.5 / 4 * normal[0].pdf(1.0) + 1.5 / 4 * normal[1].pdf(1.0))
    assert groups.energy(torch.tensor([[1.0]]).double(), torch).item() == pytest.approx(expected)


def test_a_group_without_members_is_no_trouble():
    groups = Groups.of(torch.zeros(3, 2).double(), torch.tensor([[1.0, 0.0]] * 3).double(), torch)
    assert np.isfinite(groups.energy(torch.ones(1, 2).double(), torch).item())


def test_training_finds_a_line():
    x = torch.linspace(-1, 1, 64).double()[:, None]
    network = Network.create([1, 1], torch, CPU, np.random.default_rng(0))
    train(
        torch,
        network.parameters,
        lambda b: ((network(b) - 3 * b - 1) ** 2).mean(),
        x,
        np.random.default_rng(0),
        200,
        7,
        0.05,
    )
    assert [float(p.detach().squeeze()) for p in network.parameters] == pytest.approx([3.0, 1.0], abs=1e-3)


def test_training_takes_the_steps_of_torch_s_own_adam():
    x = torch.linspace(-1, 1, 50).double()[:, None]
    ours, theirs = (Network.create([1, 4, 1], torch, CPU, np.random.default_rng(0)) for _ in range(2))
    train(torch, ours.parameters, lambda b: ((ours(b) - b**2) ** 2).mean(), x, np.random.default_rng(1), 3, 20, 0.01)
    rng, optimizer = np.random.default_rng(1), torch.optim.Adam(theirs.parameters, lr=0.01)
    for _ in range(3):
        for index in np.array_split(rng.permutation(50), 3):
            optimizer.zero_grad()
            ((theirs(x[torch.tensor(index)]) - x[torch.tensor(index)] ** 2) ** 2).mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters, theirs.parameters, strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=1e-9, atol=1e-12)


def test_noise_is_the_generator_s():
    one, same = (noise((2, 3), torch, CPU, np.random.default_rng(1)) for _ in range(2))
    assert one.tolist() == same.tolist()
    assert one.shape == (2, 3)


# What they find


@pytest.mark.parametrize("detector_type", RECONSTRUCTING)
def test_a_row_off_the_curve_is_found(detector_type):
    detector = created(detector_type, share=0.001, hidden=[16], epochs=40, batch_size=32).fit(CURVE)
    assert detector.predict([[0, 0, 0], [0, 1, 0]]).is_outlier.tolist() == [False, True]


def test_torch_s_own_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1).item()
    torch.manual_seed(3)
    created("OutlierVAE").fit(CURVE).predict(CURVE[:5])
    assert torch.rand(1).item() == expected


@pytest.mark.parametrize(
    ("detector_type", "params", "said"),
    [
        ("OutlierAE", {"hidden": 3}, "hidden must be a list"),
        ("OutlierAE", {"hidden": [0]}, "each of hidden must be a whole number"),
        ("OutlierAE", {"latent_dim": 0}, "latent_dim must be a whole number"),
        ("OutlierAE", {"outlier_perc": 0.0}, "outlier_perc must be above 0"),
        ("OutlierAE", {"learning_rate": 0.0}, "learning_rate must be above 0"),
        ("OutlierVAE", {"sim": 0.0}, "sim must be a positive number"),
        ("OutlierVAE", {"beta": -1.0}, "beta must be a number of at least 0"),
        ("OutlierAEGMM", {"n_gmm": 0}, "n_gmm must be a whole number"),
        ("OutlierAEGMM", {"hidden_gmm": [-1]}, "each of hidden_gmm must be a whole number"),
        ("OutlierAEGMM", {"w_energy": -0.1}, "w_energy must be a number of at least 0"),
        ("OutlierVAEGMM", {"w_recon": -1.0}, "w_recon must be a number of at least 0"),
    ],
)
def test_parameters_out_of_range(detector_type, params, said):
    with pytest.raises(DetectorError, match=said):
        registry.create(detector_type, **params)


def test_a_device_that_is_not_there():
    with pytest.raises(DetectorError, match="device must be cpu, auto, or one that torch can use here, got 'nowhere'"):
        created("OutlierAE", device="nowhere").fit(CURVE)


def test_without_torch_fitting_and_loading_say_how_to_have_it(tmp_path):
    artifact.save(created("OutlierAE").fit(CURVE), tmp_path / "it")
    code = """
import sys
sys.modules["torch"] = None
from detectors import artifact, registry
from pathlib import Path
rows = [[i] for i in range(20)]
for what in (lambda: registry.create("OutlierAE").fit(rows), lambda: artifact.load(Path(sys.argv[1]))):
    try:
        what()
    except artifact.DetectorError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "it")], capture_output=True, text=True)
    assert done.stdout.count('OutlierAE needs torch: pip install "offpath[torch]"') == 2, done.stdout + done.stderr
