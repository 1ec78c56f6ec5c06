"""How well outliers are found: level with scikit-learn, and impossible values among ordinary ones."""

from __future__ import annotations

import csv
import gzip
import json
import os
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from detectors.base import UNSEEN, Feature
from detectors.outlier.gmm import GMM
from detectors.outlier.isolation_forest import IForest
from detectors.outlier.kernel_pca import KernelPCA
from detectors.outlier.knn import KNN
from detectors.outlier.lof import LOF
from detectors.outlier.mahalanobis import Mahalanobis
from detectors.outlier.pca import PCA
from detectors.outlier.svm import SVM

LOF_OF_FEWER = partial(LOF, max_ref=1500)  # quicker


def _all():
    for made in (IForest, Mahalanobis, KNN, LOF_OF_FEWER, PCA, KernelPCA, GMM, SVM):
        kind = made.func if isinstance(made, partial) else made
        absent = kind in (GMM, SVM) and find_spec("sklearn") is None
        marks = [pytest.mark.skip(reason='needs scikit-learn: pip install "offpath[sklearn]"')] if absent else []
        yield pytest.param(made, id=kind.__name__, marks=marks)


ALL = list(_all())


def data(*names):
    """A file of the public test data, or a skip."""
    roots = [Path(os.environ.get("OFFPATH_DATA", "")), Path(__file__).parents[3] / "shared" / "data"]
    for root in roots:
        if root.joinpath(*names).is_file():
            return root.joinpath(*names)
    pytest.skip(f"{'/'.join(names)} is not at hand: set OFFPATH_DATA to the folder that holds it")


def auc(truth, scores):
    """Area under the ROC curve: how often an outlier scores above an ordinary row; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, group, size = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = (np.cumsum(size) - (size - 1) / 2)[group]
    outliers = int(truth.sum())
    return (ranks[truth == 1].sum() - outliers * (outliers + 1) / 2) / (outliers * (len(truth) - outliers))


def reference_of(x, y, contaminated):
    rows = np.random.default_rng(0).permutation(np.arange(len(x)) if contaminated else np.flatnonzero(y == 0))
    return x[rows[:5000]].astype(float)


# AUC of scikit-learn's IsolationForest (mean of seeds) and of published or measured neighbours; we may be 0.01 below.
@pytest.mark.parametrize("contaminated", [True, False])
@pytest.mark.parametrize("name", ["6_cardio", "38_thyroid", "32_shuttle"])
def test_the_isolation_forest_ranks_like_that_of_scikit_learn(name, contaminated):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="the oracle is scikit-learn's: pip install scikit-learn")
    with np.load(data("adbench", f"{name}.npz"), allow_pickle=False) as stored:
        x, y = stored["X"].astype(float)[:20_000], stored["y"][:20_000]
    reference = reference_of(x, y, contaminated)
    ours, theirs = [], []
    for seed in range(3):
        ours.append(auc(y, IForest(seed=seed).fit(reference).predict(x).instance_score))
        oracle = ensemble.IsolationForest(random_state=seed).fit(reference)
        theirs.append(auc(y, -oracle.score_samples(x)))
    assert np.mean(ours) > np.mean(theirs) - 0.015


@pytest.mark.parametrize(
    ("detector", "name", "least"),
    [
        (Mahalanobis, "6_cardio", 0.95),
        (Mahalanobis, "38_thyroid", 0.96),
        (Mahalanobis, "32_shuttle", 0.99),
        (KNN, "6_cardio", 0.95),
        (KNN, "38_thyroid", 0.97),
        (KNN, "32_shuttle", 0.99),
    ],
)
def test_learnt_on_clean_rows_the_others_rank_well(detector, name, least):
    with np.load(data("adbench", f"{name}.npz"), allow_pickle=False) as stored:
        x, y = stored["X"].astype(float)[:20_000], stored["y"][:20_000]
    assert auc(y, detector().fit(reference_of(x, y, False)).predict(x).instance_score) > least


SETS = ["6_cardio", "38_thyroid", "32_shuttle"]


@cache
def clean_split(name):
    """Clean reference rows, and rows with labels, of a labelled set."""
    with np.load(data("adbench", f"{name}.npz"), allow_pickle=False) as stored:
        x, y = stored["X"].astype(float)[:8000], stored["y"][:8000]
    return reference_of(x, y, False)[:3000], x, y


def check_level(name, detector, oracle):
    """On clean reference rows, the AUC is at most 0.015 below that of scikit-learn's, on standardised columns."""
    reference, x, y = clean_split(name)
    mean, std = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-12)
    theirs = auc(y, -oracle.fit((reference - mean) / std).score_samples((x - mean) / std))
    assert auc(y, detector.fit(reference).predict(x).instance_score) > theirs - 0.015


@pytest.mark.parametrize("name", SETS)
def test_local_outlier_factors_rank_like_those_of_scikit_learn(name):
    neighbors = pytest.importorskip(
        "sklearn.neighbors", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    check_level(name, LOF(k=20), neighbors.LocalOutlierFactor(n_neighbors=20, novelty=True))


@pytest.mark.parametrize("name", SETS)
def test_principal_components_rank_like_those_of_scikit_learn(name):
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    check_level(name, PCA(0.8), decomposition.PCA(0.8))


@pytest.mark.parametrize("name", SETS)
def test_mixtures_rank_like_those_of_scikit_learn(name):
    mixture = pytest.importorskip("sklearn.mixture", reason="the oracle is scikit-learn's: pip install scikit-learn")
    check_level(name, GMM(5), mixture.GaussianMixture(5, random_state=0))


@pytest.mark.parametrize("name", SETS)
def test_support_vector_machines_rank_like_those_of_scikit_learn(name):
    svm = pytest.importorskip("sklearn.svm", reason="the oracle is scikit-learn's: pip install scikit-learn")
    check_level(name, SVM(nu=0.5), svm.OneClassSVM(nu=0.5, gamma="scale"))


@pytest.mark.parametrize(("name", "least"), [("6_cardio", 0.97), ("38_thyroid", 0.97), ("32_shuttle", 0.99)])
def test_kernel_principal_components_rank_well(name, least):
    """scikit-learn has no such score."""
    reference, x, y = clean_split(name)
    assert auc(y, KernelPCA().fit(reference).predict(x).instance_score) > least


def test_nearest_neighbours_rank_like_those_of_scikit_learn():
    neighbors = pytest.importorskip(
        "sklearn.neighbors", reason="the oracle is scikit-learn's: pip install scikit-learn"
    )
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(2000, 6)) * 0.5 + rng.choice([-3.0, 3.0], size=(2000, 6))
    x = np.vstack([groups[1000:], rng.uniform(-5, 5, size=(100, 6))])
    y = np.repeat([0, 1], [1000, 100])
    oracle = neighbors.NearestNeighbors(n_neighbors=5).fit(groups[:1000]).kneighbors(x)[0].mean(axis=1)
    assert auc(y, KNN().fit(groups[:1000]).predict(x).instance_score) > auc(y, oracle) - 0.002


def synthetic(n, seed):
    """People: ages, skewed gains, whole hours, categories with rare values, and dependence between them."""
    rng = np.random.default_rng(seed)
    age = np.clip(rng.gamma(8, 5, n), 17, 90).round()
    gain = np.where(rng.random(n) < 0.08, rng.lognormal(8.5, 1.2, n).round(), 0).clip(0, 99999)
    hours = np.clip(rng.normal(40, 12, n), 1, 99).round()
    job = rng.choice(9, n, p=[0.35, 0.2, 0.15, 0.12, 0.1, 0.05, 0.02, 0.0095, 0.0005])
    married = (rng.random(n) < np.clip((age - 20) / 30, 0.05, 0.8)).astype(float)
    country = rng.choice(6, n, p=[0.9, 0.05, 0.03, 0.015, 0.004, 0.001])
    return np.column_stack([age, gain, hours, job, married, country])


PEOPLE = (
    *(Feature(name) for name in ("Age", "Gain", "Hours")),
    *(Feature(name, "categorical", tuple("abcdefghi"[:k])) for name, k in (("Job", 9), ("Married", 2), ("Country", 6))),
)


def adult():
    coding = json.loads(data("adult", "income-12.json").read_text())["features"]
    with gzip.open(data("adult", "adult.csv.gz"), "rt") as file:
        rows = list(csv.DictReader(file))
    columns = []
    for feature in coding:
        values = [row[feature["column"]] for row in rows]
        if "categories" in feature:
            groups, codes = feature.get("groups", {}), {name: i for i, name in enumerate(feature["categories"])}
            values = [codes[groups.get(value, value)] for value in values]
        columns.append(np.array(values, dtype=float))
    features = [
        Feature(f["name"], "categorical" if "categories" in f else "numeric", tuple(f.get("categories", ())))
        for f in coding
    ]
    train = np.array([row["split"] == "train" for row in rows])
    table = np.column_stack(columns)
    return table[train], table[~train], features


def check_impossible_ages(detector, share, reference, fresh, features):
    fitted = detector(share=share).fit(reference, features)
    planted = fresh[np.random.default_rng(1).permutation(len(fresh))[:500]].copy()
    planted[:, 0] = 190
    found = fitted.predict(planted)
    assert found.is_outlier.all()
    assert (np.nan_to_num(found.feature_score, nan=-1.0).argmax(axis=1) == 0).all()
    assert found.reasons[0].text.startswith("Age = 190, outside the reference's 17 to ")
    clean = fitted.predict(fresh).is_outlier
    # Binomial spread of the promise, and what a finite reference adds to it.
    assert clean.mean() <= 1.5 * share + 3 * np.sqrt(share / len(fresh))


@pytest.mark.parametrize("share", [0.001, 0.005])
@pytest.mark.parametrize("detector", ALL)
def test_every_impossible_age_is_found_among_synthetic_people(detector, share):
    check_impossible_ages(detector, share, synthetic(10_000, 0), synthetic(10_000, 1), PEOPLE)


@pytest.mark.parametrize("share", [0.001, 0.005])
@pytest.mark.parametrize("detector", ALL)
def test_every_impossible_age_is_found_in_adult(detector, share):
    train, test, features = adult()
    check_impossible_ages(detector, share, train[:20_000], test, features)


@pytest.mark.parametrize("detector", ALL)
def test_an_unknown_category_is_found_in_adult(detector):
    train, test, features = adult()
    fitted = detector(share=0.005).fit(train[:20_000], features)
    rows = test[:500].copy()
    rows[:, [feature.name for feature in features].index("Race")] = UNSEEN
    assert fitted.predict(rows).is_outlier.mean() > 0.9


@pytest.mark.parametrize("detector", ALL)
def test_a_population_that_shifts_within_the_reference_is_no_crowd_of_outliers(detector):
    """Only the young come: that is drift, and no row of it is strange. To LOF, a little is strange in a dense group."""
    train, test, features = adult()
    fitted = detector(share=0.005).fit(train[:20_000], features)
    assert fitted.predict(test[test[:, 0] < 28]).is_outlier.mean() < (0.015 if detector is LOF_OF_FEWER else 0.01)
