"""Kernel principal components, mixtures and the one-class support vector machine: scikit-learn's, where they agree."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from detectors import artifact
from detectors.base import DetectorError, Feature
from detectors.outlier.gaussian_kernel import gaussian, usual_bandwidth
from detectors.outlier.gmm import GMM
from detectors.outlier.kernel_pca import KernelPCA
from detectors.outlier.svm import SVM

RNG = np.random.default_rng(0)
ANGLE = RNG.uniform(0, 2 * np.pi, 1500)
RING = np.column_stack([np.cos(ANGLE), np.sin(ANGLE)]) + RNG.normal(0, 0.05, (1500, 2))
GROUPS = np.concatenate([RNG.normal(-5, 1, (500, 2)), RNG.normal(5, 1, (500, 2))])


def sklearn(module):
    return pytest.importorskip(f"sklearn.{module}", reason="the oracle is scikit-learn's: pip install scikit-learn")


def inside(detector, rows):
    return detector._scale.points(detector._coordinates.read(rows))


def within(rows, reference):
    """Rows moved into the range of the reference, where nothing is added to a score."""
    return np.clip(rows, reference.min(axis=0), reference.max(axis=0))


def test_the_usual_bandwidth_is_that_of_scikit_learn():
    points = RNG.normal(size=(200, 3)) * [1, 2, 3]
    apart = ((points[:, None] - points) ** 2).sum(axis=2)
    assert usual_bandwidth(points) == pytest.approx(np.sqrt(apart.mean()) / 2)
    pairwise = sklearn("metrics.pairwise")
    gamma = 1 / points.var(axis=0).sum()
    expected = pairwise.rbf_kernel(points, gamma=gamma)
    np.testing.assert_allclose(gaussian(points, points, usual_bandwidth(points)), expected)
    assert usual_bandwidth(np.ones((10, 2))) == 1.0


# Kernel principal components


@pytest.mark.parametrize(("n_components", "kept"), [(1, 1), (5, 5), (30, 30)])
def test_errors_are_the_distance_in_feature_space(n_components, kept):
    """Of a row's features from their projection: all by kernels between the kept rows, as scikit-learn projects."""
    decomposition = sklearn("decomposition")
    detector = KernelPCA(n_components, max_ref=200).fit(RING)
    bandwidth = detector._bandwidth
    points = detector.to_parts().arrays["points"]
    oracle = decomposition.KernelPCA(kept, kernel="rbf", gamma=0.5 / bandwidth**2).fit(points)
    rows = within(RNG.normal(0, 0.7, (50, 2)), RING)
    z = inside(detector, rows)
    kernel = gaussian(z, points, bandwidth)
    from_centre = 1 - 2 * kernel.mean(axis=1) + gaussian(points, points, bandwidth).mean()
    expected = from_centre - (oracle.transform(z) ** 2).sum(axis=1)
    np.testing.assert_allclose(detector.predict(rows).instance_score, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_share_keeps_the_fewest_components_that_hold_it(share):
    detector = KernelPCA(share, max_ref=100).fit(RING)
    points = detector.to_parts().arrays["points"]
    kernel = gaussian(points, points, detector._bandwidth)
    centre = np.eye(100) - 0.01
    values = np.sort(np.linalg.eigvalsh(centre @ kernel @ centre))[::-1]
    kept = detector.to_parts().arrays["weights"].shape[1]
    assert values[: kept - 1].sum() < share * values.sum() <= values[:kept].sum()


def test_the_middle_of_a_ring_is_strange():
    verdict = KernelPCA(share=0.001).fit(RING).predict([[1, 0], [0, 0]])
    assert verdict.is_outlier.tolist() == [False, True]


def test_new_rows_are_flagged_as_seldom_as_promised():
    """Rows that the components were learnt from lie nearer to them; the threshold is learnt from the others."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(1000, 6))
    detector = KernelPCA(share=0.02).fit(rows)
    assert detector.to_parts().arrays["points"].shape == (500, 6)
    # 0.02 of 500 gives the threshold, so that the true share spreads by a third.
    assert detector.predict(rng.normal(size=(5000, 6))).is_outlier.mean() < 0.04


def test_columns_are_blamed_by_what_the_score_loses_without_them():
    rows = RNG.normal(size=(1000, 4))
    detector = KernelPCA(share=0.1).fit(rows)
    row = np.zeros(4)
    row[2] = rows[:, 2].max()
    row[1] = 0.5
    verdict = detector.predict([row, [0, 0, 30, 0]])
    assert verdict.is_outlier.all()
    assert verdict.feature_score.argmax(axis=1).tolist() == [2, 2]
    far = detector._coordinates.read(np.array([[0.0, 0, 30, 0], row]))
    expected = verdict.instance_score[0] + far.z[0, 2] ** 2 - far.z[1, 2] ** 2
    assert verdict.instance_score[1] == pytest.approx(expected, abs=0.5)  # the second column is its own matter


def test_a_column_of_one_value_leaves_the_others_to_be_judged():
    rows = np.column_stack([RING, np.full(1500, 3.0)])
    detector = KernelPCA(share=0.001).fit(rows)
    assert detector.predict([[1, 0, 3], [0, 0, 3], [1, 0, 4]]).is_outlier.tolist() == [False, True, True]
    assert KernelPCA().fit(np.ones((20, 2))).predict([[1, 1], [1, 2]]).is_outlier.tolist() == [False, True]


# Gaussian mixture


@pytest.mark.parametrize("k", [1, 2, 5])
def test_scores_are_the_density_of_the_mixture(k):
    mixture = sklearn("mixture")
    detector = GMM(k).fit(GROUPS)
    z = inside(detector, GROUPS)
    oracle = mixture.GaussianMixture(k, reg_covar=0.001, random_state=0, init_params="k-means++").fit(z)
    rows = within(RNG.normal(0, 6, (100, 2)), GROUPS)
    density = oracle.score_samples(inside(detector, rows))
    peaks = [
        w / np.sqrt(np.linalg.det(2 * np.pi * c)) for w, c in zip(oracle.weights_, oracle.covariances_, strict=True)
    ]
    expected = 2 * (np.log(sum(peaks)) - density)
    np.testing.assert_allclose(detector.predict(rows).instance_score, expected, rtol=1e-7)


def test_with_one_component_it_is_the_squared_mahalanobis_distance():
    pytest.importorskip("sklearn", reason="GMM needs scikit-learn: pip install scikit-learn")
    detector = GMM(1).fit(GROUPS)
    z = inside(detector, GROUPS)
    rows = np.array([[0.0, 0.0], [6.0, -3.0]])
    at = inside(detector, rows) - z.mean(axis=0)
    precision = np.linalg.inv(np.cov(z.T, bias=True) + 0.001 * np.eye(2))
    verdict = detector.predict(rows)
    assert verdict.instance_score == pytest.approx(np.einsum("ij,jk,ik->i", at, precision, at))
    assert verdict.feature_score == pytest.approx(at * (at @ precision))


def test_between_two_groups_is_strange_and_categories_add_their_surprise():
    pytest.importorskip("sklearn", reason="GMM needs scikit-learn: pip install scikit-learn")
    code = RNG.choice(3, 1000, p=[0.7, 0.25, 0.05]).astype(float)
    features = (Feature("a"), Feature("b"), Feature("job", "categorical", ("x", "y", "z")))
    detector = GMM(2, share=0.002).fit(np.column_stack([GROUPS, code]), features)
    verdict = detector.predict([[5, 5, 0], [5, 5, 2], [5, -5, 0]])
    assert verdict.is_outlier.tolist() == [False, False, True]
    share = np.bincount(code.astype(int)) / 1000
    assert np.diff(verdict.instance_score[:2]) == pytest.approx(2 * np.log(share[0] / share[2]))


def test_more_components_than_rows():
    with pytest.raises(DetectorError, match="12 components need as many rows, got 11"):
        GMM(12).fit(GROUPS[:11])


# Support vector machine


@pytest.mark.parametrize("nu", [0.05, 0.5, 0.95])
def test_scores_order_rows_like_the_decision_function(nu):
    svm = sklearn("svm")
    detector = SVM(nu=nu, max_ref=2000).fit(RING)
    z = inside(detector, RING)
    oracle = svm.OneClassSVM(nu=nu, gamma=1 / z.var(axis=0).sum()).fit(z)
    rows = within(RNG.normal(0, 0.7, (100, 2)), RING)
    found = detector.predict(rows).instance_score
    # The decision function is sum alpha k - rho, and the alphas sum to nu n.
    expected = 1 - oracle.score_samples(inside(detector, rows)) / oracle.dual_coef_.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_corner_without_rows_is_strange():
    pytest.importorskip("sklearn", reason="SVM needs scikit-learn: pip install scikit-learn")
    verdict = SVM(share=0.01).fit(GROUPS).predict([[5, 5], [5, -5]])
    assert verdict.is_outlier.tolist() == [False, True]


# Without scikit-learn


@pytest.mark.parametrize("detector", [GMM, SVM])
def test_without_scikit_learn_fitting_says_how_to_have_it_and_a_fitted_one_scores(detector, monkeypatch, tmp_path):
    pytest.importorskip("sklearn", reason=f"{detector.__name__} needs scikit-learn: pip install scikit-learn")
    fitted = detector().fit(GROUPS)
    expected = fitted.predict(GROUPS[:5]).instance_score
    artifact.save(fitted, tmp_path / "it")
    for name in {"sklearn", *(name for name in sys.modules if name.partition(".")[0] == "sklearn")}:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    with pytest.raises(DetectorError, match=rf'{detector.__name__} needs sklearn: pip install "offpath\[sklearn\]"'):
        detector().fit(GROUPS)
    np.testing.assert_array_equal(artifact.load(tmp_path / "it").predict(GROUPS[:5]).instance_score, expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SVM(nu=0), "nu must be between 0 and 1"),
        (lambda: SVM(bandwidth=0.0), "bandwidth must be a positive number"),
        (lambda: KernelPCA(n_components=1.5), "n_components must be a whole number"),
        (lambda: KernelPCA(bandwidth=-1.0), "bandwidth must be a positive number"),
        (lambda: GMM(reg_covar=0.0), "reg_covar must be a positive number"),
        (lambda: GMM(seed=2**32), "seed must be a whole number from 0 to"),
    ],
)
def test_parameters_out_of_range(make, said):
    with pytest.raises(DetectorError, match=said):
        make()
