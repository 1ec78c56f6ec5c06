"""Detectors by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from detectors.base import DetectorError
from detectors.registry import DETECTOR_TYPES, KINDS, check_params, create, load_class


def test_every_name_is_the_name_of_a_class_with_that_detector_type():
    for name in DETECTOR_TYPES:
        cls = load_class(name)
        assert (cls.__name__, cls.detector_type) == (name, name)


def test_kinds_are_known_without_importing_a_detector():
    code = "import sys, detectors.registry as r; print(sorted(set(r.KINDS.values())), 'numpy.linalg' in sys.modules, "
    code += "any(name.startswith(('detectors.drift.', 'detectors.outlier.')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("] ")[1].split()[1] == "False", done.stderr
    assert set(KINDS) == set(DETECTOR_TYPES)
    assert KINDS["KSDrift"] == "drift"
    assert KINDS["KNN"] == "outlier"


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("KsDrift", "KSDrift"), ("iforest", "IForest"), ("Mahalanobi", "Mahalanobis")]
)
def test_an_unknown_type_names_the_nearest(wrong, nearest):
    with pytest.raises(DetectorError, match=f"unknown detector type '{wrong}'; did you mean '{nearest}'"):
        load_class(wrong)


def test_an_unknown_type_like_none_names_all():
    with pytest.raises(DetectorError, match=r"known: KSDrift, .*KNN"):
        create("zzz")
    assert "did you mean" not in check_params("zzz", {})[0]


def test_check_params_reports_every_wrong_name_with_the_nearest():
    assert check_params("IForest", {"n_estimator": 3, "shares": 0.1}) == [
        "IForest has no parameter 'n_estimator'; did you mean 'n_estimators'?",
        "IForest has no parameter 'shares'; did you mean 'share'?",
    ]
    (problem,) = check_params("KNN", {"qqq": 1})
    assert problem == "KNN has no parameter 'qqq' (it has: k, share, threshold, method, max_ref, seed)"


@pytest.mark.parametrize(
    ("detector_type", "params", "said"),
    [
        ("KNN", {"k": 0}, "k must be a whole number from 1"),
        ("KNN", {"k": 2.5}, "k must be a whole number"),
        ("KNN", {"k": True}, "k must be a whole number"),
        ("KNN", {"method": "maximum"}, "mean, median, largest"),
        ("KNN", {"k": 50, "max_ref": 50}, "max_ref must be a whole number from 51"),
        ("IForest", {"max_samples": 5000}, "from 2 to 4096"),
        ("IForest", {"share": 1.0}, "share must be at least 0 and below 1"),
        ("IForest", {"share": "much"}, "share must be"),
        ("IForest", {"seed": -1}, "seed must be"),
        ("Mahalanobis", {"shrinkage": 1.5}, "shrinkage must be between 0 and 1"),
        ("Mahalanobis", {"threshold": float("nan")}, "threshold must be a finite number"),
    ],
)
def test_values_out_of_range_are_reported_by_check_and_by_create(detector_type, params, said):
    (problem,) = check_params(detector_type, params)
    assert problem.startswith(f"{detector_type}: ")
    assert said in problem
    with pytest.raises(DetectorError, match=said):
        create(detector_type, **params)


def test_right_parameters_have_no_problem_and_reach_the_detector():
    assert check_params("KNN", {"k": 3, "method": "largest"}) == []
    params = create("KNN", k=3, method="largest").meta.params
    assert (params["k"], params["method"], params["max_ref"]) == (3, "largest", 1000)
