"""Isolation forest, Mahalanobis and nearest neighbours against plain restatements of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chi2

from detectors.base import DetectorError, Feature
from detectors.outlier.forest import Forest, average_path
from detectors.outlier.isolation_forest import IForest
from detectors.outlier.knn import KNN
from detectors.outlier.mahalanobis import Mahalanobis
from detectors.outlier.wording import label

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(3000, 4))
MIXED = (Feature("age"), Feature("hours"), Feature("job", "categorical", ("a", "b", "c")))


def mixed(n, seed):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(40, 10, n), rng.normal(35, 8, n), rng.choice(3, n, p=[0.7, 0.25, 0.05])])


# Trees


def test_average_path_is_that_of_an_unsuccessful_search():
    """``2 H(n - 1) - 2 (n - 1) / n``, with the harmonic number approximated as in the paper."""
    for n in (10, 256, 4096):
        harmonic = sum(1 / i for i in range(1, n))
        assert average_path(n) == pytest.approx(2 * harmonic - 2 * (n - 1) / n, abs=1.1 / n)


def walk(forest, tree, row):
    """One row through one tree, node by node: path length of Liu et al., algorithm 3."""
    node, cuts = 0, 0
    for _ in range(forest.depth):
        if not np.isfinite(forest.cut[tree, node]):
            break
        node = 2 * node + (2 if row[forest.column[tree, node]] >= forest.cut[tree, node] else 1)
        cuts += 1
    return cuts + float(average_path(forest.size[tree, node]))


def grown(samples, seed=0):
    return Forest.grow(samples, np.random.default_rng(seed))


def test_paths_are_those_of_a_walk_through_each_tree():
    samples = [NORMAL[RNG.permutation(3000)[:100]].round(1) for _ in range(7)]
    forest = grown(samples)
    rows = np.vstack([NORMAL[:50], NORMAL[:50] * 5])
    expected = [np.mean([walk(forest, tree, row) for tree in range(7)]) for row in rows]
    np.testing.assert_allclose(forest.path(rows), expected)


def test_every_cut_parts_the_rows_it_gets_and_no_cut_is_possible_at_a_leaf():
    sample = NORMAL[:200].round(1)
    forest = grown([sample])
    reached = {0: np.arange(200)}
    for node in range(forest.cut.shape[1]):
        rows = reached.get(node, np.empty(0, dtype=int))
        assert forest.size[0, node] == len(rows)
        cut = forest.cut[0, node]
        if np.isfinite(cut):
            right = sample[rows, forest.column[0, node]] >= cut
            assert 0 < right.sum() < len(rows)
            reached[2 * node + 1], reached[2 * node + 2] = rows[~right], rows[right]
        else:
            assert len(np.unique(sample[rows], axis=0)) <= 1
            reached[2 * node + 1] = rows  # passes down on the left


def test_columns_are_chosen_alike_and_constant_ones_never():
    sample = np.column_stack([NORMAL[:256, :3], np.ones(256)])
    forest = grown([sample] * 200)
    roots = np.bincount(forest.column[:, 0], minlength=4) / 200
    assert roots[3] == 0
    assert roots[:3] == pytest.approx([1 / 3] * 3, abs=0.12)
    assert set(forest.column[np.isfinite(forest.cut)]) == {0, 1, 2}


def test_a_sample_of_equal_rows_has_no_cut():
    forest = grown([np.ones((8, 2))])
    assert not np.isfinite(forest.cut).any()
    assert forest.path(np.zeros((1, 2))).tolist() == pytest.approx([float(average_path(8))])


def test_many_trees_in_blocks_are_grown_and_scored_like_few(monkeypatch):
    samples = [NORMAL[i : i + 64] for i in range(20)]
    whole = grown(samples)
    monkeypatch.setattr("detectors.outlier.forest._TREES_AT_ONCE", 64 * 4 * 20)
    np.testing.assert_array_equal(grown(samples).cut, whole.cut)
    monkeypatch.setattr("detectors.outlier.forest._TREES_AT_ONCE", 1)
    assert grown(samples).cut.shape == whole.cut.shape


# Isolation forest


def test_scores_follow_the_formula():
    detector = IForest(n_estimators=20, max_samples=64).fit(NORMAL)
    inside = NORMAL[:100]
    expected = 2 ** (-detector._forest.path(inside) / average_path(64))
    np.testing.assert_allclose(detector.predict(inside).instance_score, expected)


def test_a_value_beyond_the_range_is_cut_off_first_with_the_stated_probability():
    detector = IForest().fit(np.clip(NORMAL, -3, 3))
    row = np.zeros((1, 4))
    path = -np.log2(detector.predict(row).instance_score[0]) * average_path(256)
    for value, apart in ((9.0, 6 / 12), (-9.0, 6 / 12), (3.0 + 54.0, 0.9), (3.1, 0.1 / 6.1)):
        row[0, 2] = value
        inner = -np.log2(detector.predict(np.clip(row, -3, 3)).instance_score[0]) * average_path(256)
        expected = 2 ** (-(apart + (1 - apart) * inner) / average_path(256))
        assert detector.predict(row).instance_score[0] == pytest.approx(expected)
    assert path > 8


def test_blame_falls_on_the_columns_that_set_the_row_apart():
    rows = np.zeros((4, 4)) + np.eye(4) * 3.2  # inside the range, far out in one column
    rows = np.vstack([rows, -rows, np.eye(4) * 30])
    detector = IForest(threshold=0.0).fit(NORMAL)
    assert detector.predict(rows).feature_score.argmax(axis=1).tolist() == [0, 1, 2, 3] * 3


def test_samples_larger_than_the_reference_are_the_reference():
    detector = IForest(max_samples=256).fit(NORMAL[:50])
    assert detector._forest.sampled == 50


# Mahalanobis


def test_on_normal_data_it_is_the_squared_distance_and_its_threshold_the_quantile_of_chi_squared():
    mixing = np.array([[1.0, 0.8, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, -0.9], [0, 0, 0, 1]])
    rows = np.random.default_rng(3).normal(size=(20_000, 4)) @ mixing * [1, 10, 100, 0.1]
    detector = Mahalanobis(share=0.01, shrinkage=0.0).fit(rows)
    centred = rows - rows.mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(np.cov(rows.T)), centred)
    scores = detector.predict(rows).instance_score
    middle = expected < 20
    np.testing.assert_allclose(scores[middle], expected[middle], rtol=0.15, atol=0.3)
    assert detector.threshold == pytest.approx(chi2.ppf(0.99, 4), rel=0.06)


def test_the_shrinkage_is_that_of_ledoit_and_wolf():
    covariance = pytest.importorskip(
        "sklearn.covariance", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    from detectors.outlier.mahalanobis import _ledoit_wolf, _precision

    for n, d in ((30, 10), (200, 5), (50, 40)):
        rows = np.random.default_rng(n).normal(size=(n, d)) * np.arange(1, d + 1)
        rows -= rows.mean(axis=0)
        oracle = covariance.LedoitWolf(assume_centered=True).fit(rows)
        sample = rows.T @ rows / n
        assert _ledoit_wolf(rows, sample, np.trace(sample) / d) == pytest.approx(oracle.shrinkage_)
        np.testing.assert_allclose(_precision(rows, None), oracle.precision_, rtol=1e-6, atol=1e-12)


def test_a_broken_dependence_is_found_though_each_value_is_ordinary():
    height = np.random.default_rng(1).normal(170, 10, 2000)
    people = np.column_stack([height, height + np.random.default_rng(2).normal(0, 2, 2000)])
    detector = Mahalanobis(share=0.001).fit(people)
    verdict = detector.predict([[160, 160], [155, 185]])
    assert verdict.is_outlier.tolist() == [False, True]
    assert verdict.reasons[0].text.endswith("unusual beside the row's other values")


def test_columns_that_repeat_each_other_are_no_obstacle():
    rows = np.column_stack([NORMAL, NORMAL[:, 0], 2 * NORMAL[:, 1]])
    detector = Mahalanobis(share=0.001).fit(rows)
    assert np.isfinite(detector.predict(rows).instance_score).all()
    assert detector.predict([[0, 0, 0, 0, 2, 0]]).is_outlier.all()


def test_categories_add_their_surprise():
    reference = mixed(5000, 0)
    detector = Mahalanobis().fit(reference, MIXED)
    shares = np.bincount(reference[:, 2].astype(int)) / 5000
    scores = detector.predict([[40, 35, code] for code in (0, 1, 2)]).instance_score
    assert np.diff(scores[[0, 1]]) == pytest.approx(2 * np.log(shares[0] / shares[1]))
    assert np.diff(scores[[0, 2]]) == pytest.approx(2 * np.log(shares[0] / shares[2]))


# Nearest neighbours


def measured(reference, rows):
    """Standard deviations from the median; inside the range, from 3 on, by the logarithm."""
    low, high = reference[:, :2].min(axis=0), reference[:, :2].max(axis=0)
    centre, spread = np.median(reference[:, :2], axis=0), reference[:, :2].std(axis=0)

    def one(x, j):
        inside = (min(max(x, low[j]), high[j]) - centre[j]) / spread[j]
        far = abs(inside) - 3
        return (inside if far <= 0 else np.sign(inside) * (3 + np.log(1 + far))) + (
            (x - high[j]) / spread[j] if x > high[j] else min(x - low[j], 0) / spread[j]
        )

    return np.array([[one(row[j], j) for j in range(2)] for row in rows])


def brute(reference, rows, k, method):
    """Distances by the definition in KNN's documentation; reference rows are all kept."""
    numeric = cdist(measured(reference, rows), measured(reference, reference), "sqeuclidean")
    shares = np.bincount(reference[:, 2].astype(int), minlength=3) / len(reference)
    surprise = 2 * np.log(shares.max() / shares)
    mine, theirs = (surprise[part[:, 2].astype(int)] for part in (rows, reference))
    apart = (2 + mine[:, None] + theirs) / 2 * (rows[:, 2][:, None] != reference[:, 2])
    nearest = np.sort(np.sqrt(numeric + apart), axis=1)[:, :k]
    return {"mean": nearest.mean, "largest": nearest.max, "median": lambda axis: np.median(nearest, axis)}[method](
        axis=1
    )


@pytest.mark.parametrize("method", ["mean", "median", "largest"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_distances_are_those_of_a_full_search(k, method):
    reference, rows = mixed(500, 0), mixed(80, 1)
    rows[:5, 0], reference[:3, 1] = [190, -20, 100, 95, 80], [300, 90, -100]
    detector = KNN(k=k, method=method).fit(reference, MIXED)
    np.testing.assert_allclose(detector.predict(rows).instance_score, brute(reference, rows, k, method), rtol=1e-6)


def test_a_large_reference_is_thinned_by_the_seed():
    reference = mixed(5000, 0)
    one, same, other = (KNN(max_ref=100, seed=seed).fit(reference, MIXED) for seed in (1, 1, 2))
    assert one.to_parts().arrays["ref"].shape == (100, 3)
    rows = mixed(50, 1)
    scores = [detector.predict(rows).instance_score.tolist() for detector in (one, same, other)]
    assert scores[0] == scores[1] != scores[2]


def test_too_few_reference_rows_for_k():
    with pytest.raises(DetectorError, match="15 neighbours need a reference of more rows, got 12"):
        KNN(k=15).fit(mixed(12, 0))


def test_a_gap_between_two_groups_is_strange_though_in_the_middle():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(-5, 1, (500, 2)), rng.normal(5, 1, (500, 2))])
    assert KNN(share=0.002).fit(rows).predict([[0, 0]]).is_outlier.all()


# Words


def test_labels():
    feature = Feature("sex", "categorical", ("F", "M"))
    assert [label(value, feature) for value in (0.0, 1.0, 2.0, -1.0, 0.5, np.nan, np.inf)] == [
        "F",
        "M",
        *["a value outside the categories"] * 3,
        "missing",
        "a value outside the categories",
    ]
    assert [label(value, Feature("x", "categorical")) for value in (3.0, -1.0)] == [
        "3",
        "a value outside the categories",
    ]
    assert label(0.30000000000000004, Feature("x")) == "0.3"


def test_reasons_name_the_column_and_compare_with_the_reference():
    detector = Mahalanobis(share=0.0).fit(mixed(5000, 0), MIXED)

    def said(row):
        return [reason.text for reason in detector.predict([row]).reasons]

    (age,) = said([190, 35, 0])
    assert age.startswith("age = 190, outside the reference's ")
    (unseen,) = said([58, 18, -1])
    assert unseen == "job = a value outside the categories, never seen in the reference"
    two = detector.predict([[190, 35, 0], [40, -200, 0], [200, 35, 0]])
    assert [reason.feature for reason in two.reasons] == ["hours", "age"]


@pytest.mark.parametrize("n_estimators", [1, 2, 3])
def test_few_trees_make_a_threshold_of_the_rows_that_one_has_not_seen(n_estimators: int) -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 2))
    detector = IForest(n_estimators=n_estimators, share=0.01).fit(rows)
    above, scored = detector.beyond
    assert 1500 < scored <= 2000
    assert above <= 0.01 * scored, "few trees, few different scores"
