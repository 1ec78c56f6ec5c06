"""Local outlier factors and principal components: scikit-learn's, where both are defined."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from detectors.base import DetectorError, Feature
from detectors.outlier.lof import LOF
from detectors.outlier.pca import PCA

RNG = np.random.default_rng(0)
GROUPS = np.concatenate([RNG.normal(-4, 0.3, (300, 3)), RNG.normal(4, 2, (300, 3))])
ROWS = np.concatenate([RNG.normal(-4, 0.6, (50, 3)), RNG.normal(4, 3, (50, 3))])
WIDE = RNG.normal(size=(3000, 3)) @ RNG.normal(size=(3, 8)) + 0.3 * RNG.normal(size=(3000, 8))


def standardised(rows):
    return (rows - GROUPS.mean(axis=0)) / GROUPS.std(axis=0)


# Local outlier factor


@pytest.mark.parametrize("k", [2, 10, 20, 60])
def test_factors_of_new_rows_are_those_of_scikit_learn(k):
    neighbors = pytest.importorskip(
        "sklearn.neighbors", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    oracle = neighbors.LocalOutlierFactor(n_neighbors=k, novelty=True).fit(standardised(GROUPS))
    found = LOF(k=k).fit(GROUPS).predict(ROWS).instance_score
    inside = (np.clip(ROWS, GROUPS.min(axis=0), GROUPS.max(axis=0)) == ROWS).all(axis=1)
    assert inside.sum() > 50
    np.testing.assert_allclose(found[inside], -oracle.score_samples(standardised(ROWS))[inside], rtol=1e-6)


@pytest.mark.parametrize("block", [7, 4096])
def test_the_threshold_is_a_quantile_of_the_factors_within_the_reference(block, monkeypatch):
    neighbors = pytest.importorskip(
        "sklearn.neighbors", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    monkeypatch.setattr("detectors.outlier.neighbours.Neighbours.block", lambda *_: block)
    oracle = neighbors.LocalOutlierFactor(n_neighbors=20).fit(standardised(GROUPS))
    expected = np.sort(-oracle.negative_outlier_factor_)[-7]  # 6 of 600 rows lie above it
    # Here a fifth of the rows is left out at a time, and may lie beyond the others' range; there each row by itself.
    assert 0.95 * expected < LOF(k=20, share=0.01).fit(GROUPS).threshold < 1.2 * expected


def test_a_factor_by_hand():
    """Three groups of points at 0, 1, 3 and 7, and one neighbour: radii 1, 1, 2, 4; 0 has density 1, 7 has 1/4.

    A row at 5.5 has the neighbour 7, 1.5 away, but the reachability 4: its factor is 1/4 * 4. One at 98 has the
    neighbour 100, with a density of 1, and the reachability 2. One at 217 has a reachability of 10 from 207, which
    ends the range: its factor is 1/4 * 10, and it lies 10 / (IQR / 1.349) beyond the range, whose
    end has the normal score of the rank 11.5 of 12.
    """
    reference = np.array([[0.0], [1.0], [3.0], [7.0]])
    reference = np.concatenate([reference, reference + 100, reference + 200])
    excess = 10 * 1.349 / np.subtract(*np.percentile(reference, [75, 25]))
    scores = LOF(k=1).fit(reference).predict([[5.5], [98.0], [217.0]]).instance_score
    assert scores == pytest.approx([1.0, 2.0, 2.5 + excess * (excess + 2 * norm.ppf(11.5 / 12))])


def test_an_impossible_value_is_found_beside_lonely_rows():
    rows = np.column_stack([RNG.normal(size=2000), RNG.exponential(size=2000) ** 4])
    lonely = rows[rows[:, 1].argmax()]
    verdict = LOF(share=0.005).fit(rows).predict([lonely + np.array([9, 0])])
    assert verdict.is_outlier.all()
    assert verdict.feature_score.argmax() == 0


def test_repeated_rows_do_not_make_the_others_infinitely_strange():
    rows = np.concatenate([np.zeros((100, 2)), RNG.normal(size=(400, 2))])
    detector = LOF(k=10).fit(rows)
    scores = detector.predict(np.concatenate([rows, [[0.05, 0.0]]])).instance_score
    assert np.isfinite(scores).all()
    assert scores[:100] == pytest.approx(1.0)
    assert scores.max() < 50
    alike = detector.predict([[0.0, 0.0]])
    assert alike.feature_score[0] == pytest.approx([0.5, 0.5])


def test_a_row_beside_a_dense_group_is_strange_though_others_are_farther_from_theirs():
    rows = np.concatenate([RNG.normal(-5, 0.1, (500, 2)), RNG.normal(5, 2, (500, 2))])
    detector = LOF(share=0.01).fit(rows)
    assert detector.predict([[5, 4], [-5, -4]]).is_outlier.tolist() == [False, True]


def test_too_few_reference_rows_for_k():
    with pytest.raises(DetectorError, match="20 neighbours need a reference of more rows, got 20"):
        LOF(k=20).fit(GROUPS[:20])


# Principal components


def coordinates_of(detector, rows):
    return detector._coordinates.read(rows).z


@pytest.mark.parametrize(("n_components", "kept"), [(1, 1), (3, 3), (7, 7), (8, 7), (50, 7), (0.5, 2), (0.97, 3)])
def test_scores_are_the_likelihood_of_probabilistic_pca(n_components, kept):
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    detector = PCA(n_components).fit(WIDE)
    rows = np.concatenate([WIDE[:100], 3 * WIDE[:20], WIDE[:20] + 5 * RNG.normal(size=(20, 8))])
    oracle = decomposition.PCA(kept).fit(coordinates_of(detector, WIDE))
    apart = -2.0 * oracle.score_samples(coordinates_of(detector, rows))
    found = detector.predict(rows).instance_score * (1 - 1 / len(WIDE))  # scikit-learn divides by n - 1
    np.testing.assert_allclose(found - found[0], apart - apart[0], rtol=1e-7, atol=1e-7)


def test_a_broken_dependence_is_found_and_blamed_on_its_column():
    detector = PCA(3, share=0.001).fit(WIDE)
    verdict = detector.predict([WIDE[0], WIDE[0] + 3 * np.eye(8)[5]])
    assert verdict.is_outlier.tolist() == [False, True]
    assert verdict.feature_score[1].argmax() == 5


def test_columns_that_repeat_each_other_are_no_obstacle():
    rows = np.column_stack([WIDE[:, 0], 2 * WIDE[:, 0], -WIDE[:, 0]])
    detector = PCA(share=0.001).fit(rows)
    assert np.isfinite(detector.predict(rows).instance_score).all()
    assert detector.predict([[1, 2, 1]]).is_outlier.all()


def test_categories_add_their_surprise():
    code = RNG.choice(3, 3000, p=[0.7, 0.25, 0.05]).astype(float)
    features = (Feature("a"), Feature("b"), Feature("job", "categorical", ("x", "y", "z")))
    detector = PCA().fit(np.column_stack([WIDE[:, :2], code]), features)
    share = np.bincount(code.astype(int)) / 3000
    scores = detector.predict([[0, 0, 0], [0, 0, 2]]).instance_score
    assert np.diff(scores) == pytest.approx(2 * np.log(share[0] / share[2]))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 0.0, True, float("nan")])
def test_numbers_of_components_that_are_none(wrong):
    with pytest.raises(DetectorError, match="n_components"):
        PCA(wrong)
