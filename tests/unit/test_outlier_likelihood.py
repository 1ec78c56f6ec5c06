"""Likelihood ratios: scores by hand from the saved weights, and that the networks are distributions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from detectors.base import UNSEEN, DetectorError, Feature
from detectors.outlier.llr import LLR

torch = pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')

from detectors.autoregressive import Autoregressive  # noqa: E402 - after the skip

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
CODES = np.column_stack([RNG.integers(0, 2, 1000), RNG.choice(3, 1000, p=[0.6, 0.3, 0.1]), RNG.normal(size=1000)])
FEATURES = (Feature("a", "categorical", ("x", "y")), Feature("b", "categorical", ("p", "q", "r")), Feature("c"))
QUICK = {"hidden": [6], "epochs": 3, "n_bins": 4}


@pytest.mark.parametrize("hidden", [[], [5], [7, 4]])
def test_probabilities_of_all_rows_add_up_to_one_and_no_column_sees_what_follows(hidden):
    model = Autoregressive.create([2, 3, 2], hidden, torch, CPU, np.random.default_rng(1))
    for tensor in model.parameters:  # biases begin at 0, at which a first column's cells are all alike
        tensor.data += torch.tensor(RNG.normal(size=tuple(tensor.shape)))
    rows = torch.tensor(list(product(range(2), range(3), range(2))))
    log = model.log_likelihood(rows).detach()
    assert float(log.sum(dim=1).exp().sum()) == pytest.approx(1.0)
    changed = rows.clone()
    changed[:, 2] = 1 - changed[:, 2]
    np.testing.assert_array_equal(model.log_likelihood(changed).detach()[:, :2], log[:, :2])
    assert len(log[:, 0].unique()) == 2
    assert len(log[:, 1].unique()) == 6


def log_shares(arrays, name, cells, counts):
    """With loops: the hidden unit ``k`` sees the columns up to ``k % (d - 1)``; a column's cells those before it."""
    d, first = len(counts), np.cumsum([0, *counts])
    x = np.zeros(first[-1])
    x[[first[j] + cells[j] for j in range(d)]] = 1.0
    weight, bias, out, offset = (arrays[f"{name}.{i}"] for i in range(4))
    sees = [k % (d - 1) for k in range(len(bias))]
    hidden = np.array([np.tanh(x[: first[sees[k] + 1]] @ weight[: first[sees[k] + 1], k] + bias[k]) for k in range(6)])
    found = []
    for j in range(d):
        units = [k for k in range(len(bias)) if sees[k] < j]
        logits = [sum(hidden[k] * out[k, c] for k in units) + offset[c] for c in range(first[j], first[j + 1])]
        found.append(logits[cells[j]] - np.log(np.exp(logits).sum()))
    return np.array(found)


def test_the_score_is_the_ratio_of_the_likelihoods():
    detector = LLR(**QUICK).fit(CODES, FEATURES)
    arrays = detector.to_parts().arrays
    low, high = detector._coordinates.read(CODES).z[:, 2].min(), detector._coordinates.read(CODES).z[:, 2].max()
    verdict = detector.predict(CODES[:20])
    for i, row in enumerate(CODES[:20]):
        z = detector._coordinates.read(row[None]).z[0, 2]
        cells = [int(row[0]), int(row[1]), min(int(4 * (z - low) / (high - low)), 3)]
        shares = [log_shares(arrays, name, cells, [2, 3, 4]) for name in ("semantic", "background")]
        np.testing.assert_allclose(verdict.feature_score[i], shares[1] - shares[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(verdict.instance_score, verdict.feature_score.sum(axis=1))


def test_values_are_replaced_at_the_rate_by_any_cell_of_the_column():
    detector = LLR(mutation_rate=0.3, **QUICK).fit(CODES, FEATURES)
    cells = torch.zeros((20_000, 3), dtype=torch.int64)
    replaced = detector._mutated(cells, np.random.default_rng(2)).numpy()
    for j, count in enumerate((2, 3, 4)):
        share = np.bincount(replaced[:, j], minlength=count) / 20_000
        assert share[1:] == pytest.approx(0.3 / count, abs=0.02)


def test_a_broken_dependence_is_found_and_no_common_variety():
    """The second column repeats the first; the third is as it may be."""
    first = RNG.integers(0, 4, 2000)
    rows = np.column_stack([first, np.where(RNG.random(2000) < 0.01, (first + 1) % 4, first), RNG.normal(size=2000)])
    features = (*(Feature(name, "categorical", tuple("abcd")) for name in "pq"), Feature("r"))
    detector = LLR(share=0.02, hidden=[16], epochs=15, learning_rate=0.01).fit(rows, features)
    verdict = detector.predict([[0, 0, 0.1], [0, 2, 0.1], [3, 3, 2.0]])
    assert verdict.is_outlier.tolist() == [False, True, False]
    assert verdict.feature_score[1].argmax() == 1
    assert verdict.reasons[0].feature == "q"


def test_an_unseen_category_stands_in_the_usual_one_s_cell_and_adds_its_surprise():
    detector = LLR(**QUICK).fit(CODES, FEATURES)
    usual, unseen = detector.predict([[0, 0, 0.0], [0, UNSEEN, 0.0]]).feature_score
    reading = detector._coordinates.read(np.array([[0, UNSEEN, 0.0]]))
    assert unseen - usual == pytest.approx([0, reading.beyond[0, 1], 0])
    assert reading.beyond[0, 1] > 9


def test_too_many_categories_and_parameters_out_of_range():
    ids = np.arange(1500.0)[:, None]
    with pytest.raises(DetectorError, match="'id' has 1500 categories"):
        LLR().fit(ids, [Feature("id", "categorical", tuple(map(str, range(1500))))])
    with pytest.raises(DetectorError, match="mutation_rate must be above 0"):
        LLR(mutation_rate=0.0)
    with pytest.raises(DetectorError, match="n_bins must be a whole number"):
        LLR(n_bins=1)
