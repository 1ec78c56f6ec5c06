"""What every detector promises: one suite over everything in the registry. A new detector is tested by being there.

A type that cannot be held to a promise has its reason in ``EXCEPTIONS``; rows that suit it, if the mixed ones do not,
in ``_KINDS_OF_COLUMNS``.
"""

from __future__ import annotations

import atexit
import importlib.util
import inspect
import json
import random
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from detectors import artifact, registry
from detectors.base import UNSEEN, DetectorError, Feature, NotFittedError, ShapeError

# They test columns that they make of a model's outputs.
_OF_OUTPUTS = ("BBSDDrift", "ClassifierUncertaintyDrift", "RegressorUncertaintyDrift")

# They compare a model's answers, two columns of the rows, with others to the rest of them.
_OF_ANSWERS = ("AdversarialAE", "ModelDistillation")

_OF_SERIES = ("SpectralResidual", "OutlierSeq2Seq")

EXCEPTIONS = {
    ("TabularDrift", "reference"): "it is made of KSDrift and ChiSquareDrift, and names them; the papers stand there",
    **{
        (name, "empty column"): "it compares whole rows, of which such a reference has none: fit says which it needs"
        for name in (
            "MMDDrift",
            "LSDDDrift",
            "ClassifierDrift",
            "LearnedKernelDrift",
            "SpotTheDiffDrift",
            "ContextMMDDrift",
            *_OF_OUTPUTS,
        )
    },
}

EXCEPTIONS |= {
    (name, "usual"): "a missing moment is taken between its neighbours, a little off its curve" for name in _OF_SERIES
}
EXCEPTIONS |= {
    (name, f"{what} column {column}"): "without the model's answer there is nothing to compare"
    for name in _OF_ANSWERS
    for what in ("empty", "constant")
    for column in ("no", "yes")
}
EXCEPTIONS |= {(name, "categories"): "its columns are the moments of a series of numbers" for name in _OF_SERIES}
EXCEPTIONS |= {
    (name, "columns"): "each column that it tests is made of all columns of the rows" for name in _OF_OUTPUTS
}
EXCEPTIONS |= {
    (
        name,
        "every row",
    ): "it judges a stream up to its first alarm, at which it begins anew: the rows after it are not its"
    for name in registry.DETECTOR_TYPES
    if registry.is_online(name)
}


EXCEPTIONS |= {
    (
        "AlibiDetect",
        promise,
    ): "alibi-detect tests the complete rows alone, so that a lost value costs all columns its row"
    for promise in ("empty column", "columns")
}


def _needed(package, *types):
    return {name: (package, f'{name} needs {package}: pip install "offpath[{package}]"') for name in types}


_AUTOENCODERS = ("OutlierAE", "OutlierVAE")
_ENERGIES = ("OutlierAEGMM", "OutlierVAEGMM")

_NEEDS = _needed("torch", "MMDDrift", *_AUTOENCODERS, *_ENERGIES) | _needed("sklearn", "ClassifierDrift", "GMM", "SVM")
_NEEDS |= _needed("torch", "LearnedKernelDrift")
_NEEDS |= _needed("torch", "OutlierSeq2Seq", "LLR", *_OF_ANSWERS)
_NEEDS["AlibiDetect"] = (
    "alibi_detect",
    "alibi-detect is absent: `make test-alibi` runs these in an environment that has it",
)

# Quicker than the defaults. Online detectors simulate streams to find their thresholds: here short ones, and few.
_PARAMS = {
    "ClassifierDrift": {"n_estimators": 5},
    "ContextMMDDrift": {"context": ["age"]},
    "LearnedKernelDrift": {"epochs": 2, "max_ref": 400},
    "LOF": {"max_ref": 500},
    "KernelPCA": {"max_ref": 200},
    "GMM": {"n_components": 2},
    "SVM": {"max_ref": 500},
    **{name: {"hidden": [8], "epochs": 4, "batch_size": 256} for name in _AUTOENCODERS},
    **{name: {"hidden": [8], "epochs": 6, "batch_size": 256, "learning_rate": 0.02} for name in _ENERGIES},
    "OutlierSeq2Seq": {"latent_dim": 3, "hidden": [], "epochs": 5, "batch_size": 256, "learning_rate": 0.05},
    **{
        name: {"outputs": ["no", "yes"], "hidden": [8], "epochs": 6, "batch_size": 256, "learning_rate": 0.02}
        for name in _OF_ANSWERS
    },
    "LLR": {"hidden": [8], "n_bins": 8, "epochs": 4, "batch_size": 256, "learning_rate": 0.02},
    "CVMDriftOnline": {"ert": 500, "window_sizes": [10, 30], "n_bootstraps": 40},
    "FETDriftOnline": {"ert": 500, "window_sizes": [10, 30], "n_bootstraps": 40},
    "MMDDriftOnline": {"ert": 500, "window_sizes": [10, 30], "n_bootstraps": 40, "max_ref": 300},
    "LSDDDriftOnline": {"ert": 500, "window_sizes": [10, 30], "n_bootstraps": 40, "n_kernel_centers": 20},
}

# What columns a type can take: numeric, categorical of two values (binary), categorical, mixed (the default), the
# moments of a series, or a model's inputs and answers.
_KINDS_OF_COLUMNS = {
    "KSDrift": "numeric", "CVMDrift": "numeric", "ChiSquareDrift": "categorical", "FETDrift": "binary",
    "CVMDriftOnline": "numeric", "FETDriftOnline": "binary", "AlibiDetect": "numeric",
    **dict.fromkeys(_OF_OUTPUTS, "numeric"),
    **dict.fromkeys(_OF_SERIES, "series"),
    **dict.fromkeys(_OF_ANSWERS, "answers"),
}  # fmt: skip

N_REF, N = 2000, 200


def _type_param(detector_type):
    module, reason = _NEEDS.get(detector_type, (None, ""))
    absent = module is not None and importlib.util.find_spec(module) is None
    return pytest.param(detector_type, marks=[pytest.mark.skip(reason=reason)] if absent else [])


every_type = pytest.mark.parametrize("detector_type", [_type_param(name) for name in registry.DETECTOR_TYPES])


def columns_of(detector_type):
    return _KINDS_OF_COLUMNS.get(detector_type, "mixed")


def features_for(detector_type):
    numeric = (Feature("age"), Feature("income"), Feature("hours"))
    binary = (Feature("sex", "categorical", ("F", "M")), Feature("paid", "categorical", ("no", "yes")))
    colours = Feature("colour", "categorical", ("red", "green", "blue", "violet"))
    return {
        "numeric": numeric,
        "answers": tuple(Feature(name) for name in ("age", "hours", "no", "yes")),
        "series": tuple(Feature(f"hour {i}") for i in range(8)),
        "binary": binary,
        "categorical": (*binary, colours),
        "mixed": (*numeric, binary[0], colours),
    }[columns_of(detector_type)]


def rows_for(detector_type, n, seed, shifted=False):
    """Whole numbers, exact in every dtype. ``shifted`` is another population in every column."""
    rng = np.random.default_rng(seed)
    if columns_of(detector_type) == "series":
        return series(rng, n, shifted)
    if columns_of(detector_type) == "answers":
        return answered(rng, n, shifted)
    made = []
    for feature in features_for(detector_type):
        if feature.kind == "numeric":
            column = {
                "age": rng.normal(40, 10, n) + 15 * shifted,
                "income": 100 * rng.exponential(3, n) + 500 * shifted,
                "hours": rng.integers(0, 60, n) + 30 * shifted,
            }[feature.name]
            made.append(np.rint(column))
        else:
            k = len(feature.categories)
            shares = np.arange(k, 0, -1.0) ** 2
            shares = (shares[::-1] if shifted else shares) / shares.sum()
            made.append(rng.choice(k, size=n, p=shares).astype(float))
    return np.column_stack(made)


def series(rng, n, shifted):
    """Waves that begin anywhere; ``shifted`` ones have a spike somewhere."""
    waves = 100 * np.sin(rng.uniform(0, 2 * np.pi, (n, 1)) + np.arange(8)) + rng.normal(0, 10, (n, 8))
    waves[np.arange(n), rng.integers(0, 8, n)] += 200 * shifted
    return np.rint(waves)


def answered(rng, n, shifted):
    """What a model was asked, and its answers in percent; ``shifted`` ones are the other way round."""
    asked = np.rint(np.column_stack([rng.normal(40, 10, n), rng.normal(35, 10, n)]))
    yes = np.rint(100 / (1 + np.exp((75 - asked.sum(axis=1)) / 5)))
    answers = np.column_stack([100 - yes, yes])
    return np.hstack([asked, answers[:, ::-1] if shifted else answers])


@cache
def fitted(detector_type):
    """Shared between tests: none may change it, and that it is not changed by ``predict`` is tested, too."""
    return fit_new(detector_type)


@cache
def saved_by_alibi():
    """What ``save_detector`` writes of ``KSDrift(rows)``."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    np.save(folder / "x_ref.npy", rows_for("AlibiDetect", N_REF, seed=0))
    (folder / "config.toml").write_text('name = "KSDrift"\nx_ref = "x_ref.npy"\np_val = 0.05\n')
    return str(folder)


def created(detector_type, **params):
    usual = {"saved": saved_by_alibi()} if detector_type == "AlibiDetect" else _PARAMS.get(detector_type, {})
    return registry.create(detector_type, **usual, **params)


def fit_new(detector_type, rows=None):
    rows = rows_for(detector_type, N_REF, seed=0) if rows is None else rows
    return created(detector_type).fit(rows, features_for(detector_type))


def answers(verdict):
    return json.dumps(verdict.to_dict(), allow_nan=False, sort_keys=True)


def parts_of(detector):
    parts = detector.to_parts()
    arrays = {name: np.asarray(array).tobytes() for name, array in parts.arrays.items()}
    return dict(parts.params), json.dumps(parts.state, sort_keys=True), arrays, parts.features


def has_exception(detector_type, promise, column=""):
    """Of every column, or of this one."""
    return (detector_type, promise) in EXCEPTIONS or (detector_type, f"{promise} {column}") in EXCEPTIONS


# What it says of itself


@every_type
def test_the_documentation_has_an_example_and_a_reference(detector_type):
    text = inspect.getdoc(registry.load_class(detector_type)) or ""
    assert ">>>" in text
    assert "References" in text or has_exception(detector_type, "reference")


@every_type
def test_meta_names_type_kind_and_every_parameter(detector_type):
    meta = registry.create(detector_type).meta
    assert (meta.detector_type, meta.kind) == (detector_type, registry.KINDS[detector_type])
    assert set(meta.params) == set(inspect.signature(registry.load_class(detector_type)).parameters)
    assert json.loads(json.dumps(dict(meta.params))) == dict(meta.params)


@every_type
def test_meta_of_a_fitted_detector_says_what_it_was_fitted_on(detector_type):
    meta = fitted(detector_type).meta
    assert meta.features == features_for(detector_type)
    assert meta.n_ref == N_REF
    assert 1 <= meta.min_rows <= N


@every_type
def test_the_parameters_of_meta_make_the_same_detector_again(detector_type):
    meta = fitted(detector_type).meta
    again = registry.create(detector_type, **meta.params).fit(
        rows_for(detector_type, N_REF, seed=0), features_for(detector_type)
    )
    window = rows_for(detector_type, N, seed=1)
    assert answers(again.predict(window)) == answers(fitted(detector_type).predict(window))


def test_importing_all_modules_imports_neither_torch_nor_scikit_learn():
    modules = sorted({target.partition(":")[0] for target in registry.DETECTOR_TYPES.values()})
    lines = [f"import {name}" for name in [*modules, "detectors.artifact", "sys"]]
    lines.append("print([name for name in ('torch', 'sklearn', 'pandas', 'scipy.stats') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# What it refuses


@every_type
def test_predict_and_save_before_fit(detector_type, tmp_path):
    detector = registry.create(detector_type)
    with pytest.raises(NotFittedError, match="fit"):
        detector.predict(rows_for(detector_type, N, seed=1))
    with pytest.raises(NotFittedError, match="fit"):
        artifact.save(detector, tmp_path / "it")
    assert not list(tmp_path.iterdir())


@every_type
def test_wrong_shapes(detector_type):
    detector, rows = fitted(detector_type), rows_for(detector_type, N, seed=1)
    for wrong in (rows[:, :-1], np.hstack([rows, rows]), rows[0], rows[None], [["a"] * rows.shape[1]]):
        with pytest.raises(ShapeError):
            detector.predict(wrong)
    with pytest.raises(ShapeError):
        registry.create(detector_type).fit(rows, features_for(detector_type)[:-1])


@every_type
@pytest.mark.parametrize("n", [0, 1])
def test_a_reference_of_too_few_rows(detector_type, n):
    with pytest.raises(DetectorError, match="row"):
        registry.create(detector_type).fit(rows_for(detector_type, n, seed=0), features_for(detector_type))


@pytest.mark.parametrize("detector_type", [name for name, kind in registry.KINDS.items() if kind == "outlier"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_learnt_from_a_reference_without_a_value(detector_type, value):
    with pytest.raises(DetectorError, match="no value is finite"):
        registry.create(detector_type).fit(np.full((50, _width(detector_type)), value))


@every_type
def test_unknown_parameters_and_values_of_the_wrong_type(detector_type):
    name = next(iter(inspect.signature(registry.load_class(detector_type)).parameters))
    with pytest.raises(DetectorError, match=f"{detector_type} has no parameter.*{name}"):
        registry.create(detector_type, **{name + "_": 1})
    assert registry.check_params(detector_type, {}) == []
    for key in inspect.signature(registry.load_class(detector_type)).parameters:
        with pytest.raises(DetectorError):
            registry.create(detector_type, **{key: {"no": "number"}})


# What it leaves alone


@every_type
def test_inputs_are_neither_changed_nor_needed_writable(detector_type):
    rows, window = rows_for(detector_type, N_REF, seed=0), rows_for(detector_type, N, seed=1)
    window[0, 0] = np.nan
    copies = rows.copy(), window.copy()
    rows.flags.writeable = window.flags.writeable = False
    fit_new(detector_type, rows).predict(window)
    np.testing.assert_array_equal(rows, copies[0])
    np.testing.assert_array_equal(window, copies[1])


@every_type
def test_the_verdict_is_not_changed_by_changing_the_rows_afterwards(detector_type):
    rows, window = rows_for(detector_type, N_REF, seed=0), rows_for(detector_type, N, seed=1)
    detector = fit_new(detector_type, rows)
    verdict = detector.predict(window)
    before = answers(verdict)
    rows[:], kept = 0.0, window.copy()
    window[:] = 0.0
    assert answers(verdict) == before
    assert answers(detector.predict(kept)) == before


@every_type
def test_predict_leaves_the_detector_as_it_was(detector_type):
    detector = fit_new(detector_type)
    window = rows_for(detector_type, N, seed=1)
    before, first = parts_of(detector), answers(detector.predict(window))
    detector.predict(rows_for(detector_type, N, seed=2, shifted=True))
    assert parts_of(detector) == before
    assert answers(detector.predict(window)) == first


@every_type
def test_the_same_input_gives_the_same_answer_and_global_generators_stay(detector_type):
    np.random.seed(7)
    random.seed(7)
    before = np.random.get_state()[1].tolist(), random.getstate()
    one, other = fit_new(detector_type), fit_new(detector_type)
    window = rows_for(detector_type, N, seed=1)
    assert parts_of(one) == parts_of(other)
    assert answers(one.predict(window)) == answers(other.predict(window))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@every_type
def test_fitting_again_forgets_the_first_reference(detector_type):
    twice = fit_new(detector_type, rows_for(detector_type, N_REF, seed=5, shifted=True))
    twice.fit(rows_for(detector_type, N_REF, seed=0), features_for(detector_type))
    assert parts_of(twice) == parts_of(fitted(detector_type))


# What it keeps on disk


@every_type
def test_save_and_load_give_the_same_next_verdicts(detector_type, tmp_path):
    detector = fitted(detector_type)
    artifact.save(detector, tmp_path / "it")
    loaded = artifact.load(tmp_path / "it")
    assert loaded.meta == detector.meta
    damaged = rows_for(detector_type, N, seed=3)
    damaged[::7, 0], damaged[::5, -1] = np.nan, UNSEEN
    windows = [rows_for(detector_type, n, seed) for n, seed in ((N, 1), (1, 2), (0, 3), (33, 4))]
    for window in [*windows, damaged, rows_for(detector_type, N, 5, shifted=True)]:
        assert answers(loaded.predict(window)) == answers(detector.predict(window))
    artifact.save(loaded, tmp_path / "again")
    assert parts_of(artifact.load(tmp_path / "again")) == parts_of(detector)


# What it answers


@every_type
def test_another_population_is_found_and_the_same_one_is_not(detector_type):
    detector = fitted(detector_type)
    clean = [detector.predict(rows_for(detector_type, N, seed)) for seed in range(10, 30)]
    shifted = detector.predict(rows_for(detector_type, N, seed=1, shifted=True))
    assert shifted.state == "alert"
    assert shifted.reasons
    known = (*features_for(detector_type), *(shifted.features if has_exception(detector_type, "columns") else ()))
    assert {reason.feature for reason in shifted.reasons} <= {f.name for f in known}
    if registry.KINDS[detector_type] == "drift":
        # The level is 0.05: 6 or more of 20 happen once in 3000 times. Online detectors alarm once in 500 rows here,
        # so in a third of these windows: 14 or more of 20 happen once in 1000 times.
        most = 13 if registry.is_online(detector_type) else 5
        assert sum(verdict.is_drift for verdict in clean) <= most
    else:
        # One clean row in 200 may be flagged, 20 of 4000; the reference is finite.
        assert sum(verdict.is_outlier.sum() for verdict in clean) <= 50
        assert shifted.is_outlier.mean() > 0.02


@every_type
def test_verdicts_are_plain_json(detector_type):
    rows = rows_for(detector_type, N, seed=1)
    for window in (rows, rows_for(detector_type, N, seed=1, shifted=True), rows[:0], np.full_like(rows, np.nan)):
        plain = fitted(detector_type).predict(window).to_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def _width(detector_type):
    return len(features_for(detector_type))


@every_type
def test_p_values_are_probabilities(detector_type):
    detector = fitted(detector_type)
    reference = rows_for(detector_type, N_REF, seed=0)
    windows = [rows_for(detector_type, N, seed, shifted) for seed in range(5) for shifted in (False, True)]
    for window in [*windows, reference, reference[:N]]:
        verdict = detector.predict(window)
        for p_val in [verdict.p_val, *(feature.p_val for feature in verdict.features)]:
            assert p_val is None or 0.0 <= p_val <= 1.0
        if "n_permutations" in detector.meta.params:
            assert verdict.p_val >= 1.0 / (detector.meta.params["n_permutations"] + 1)


@every_type
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint16, ">f8", object])
def test_dtypes(detector_type, dtype):
    reference, window = rows_for(detector_type, N_REF, seed=0), rows_for(detector_type, N, seed=1)
    detector = fit_new(detector_type, np.abs(reference).astype(dtype))
    expected = fit_new(detector_type, np.abs(reference)).predict(np.abs(window))
    assert answers(detector.predict(np.abs(window).astype(dtype))) == answers(expected)


@every_type
def test_layouts(detector_type):
    window = rows_for(detector_type, N, seed=1)
    expected = answers(fitted(detector_type).predict(window))
    doubled = np.repeat(np.repeat(window, 2, axis=0), 2, axis=1)
    for other in (np.asfortranarray(window), doubled[::2, ::2], window.tolist(), window[::-1][::-1]):
        assert answers(fitted(detector_type).predict(other)) == expected


# What it makes of bad rows: a stated outcome, and the other columns go on


@every_type
def test_a_window_without_rows_is_insufficient_data(detector_type):
    verdict = fitted(detector_type).predict(np.empty((0, _width(detector_type))))
    assert (verdict.state, verdict.n, verdict.statistic, verdict.p_val) == ("insufficient_data", 0, None, None)
    assert answers(verdict)
    if registry.KINDS[detector_type] == "outlier":
        assert verdict.instance_score.shape == (0,)
        assert verdict.feature_score.shape == (0, _width(detector_type))


@every_type
def test_fewer_rows_than_the_minimum_are_insufficient_data_and_the_minimum_is_enough(detector_type):
    least = fitted(detector_type).meta.min_rows
    shifted = rows_for(detector_type, least, seed=1, shifted=True)
    assert fitted(detector_type).predict(shifted[: least - 1]).state == "insufficient_data"
    assert fitted(detector_type).predict(shifted).state in ("ok", "alert")


def _damaged(window, column, value, every=1):
    damaged = window.copy()
    damaged[::every, column] = value
    return damaged


@every_type
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, -1e308, 1.5, UNSEEN, 99.0])
def test_strange_values_in_one_column_leave_the_others_alone(detector_type, value, every):
    """Every value, or every fourth, of each column in turn. The others' own numbers stay what they were."""
    detector, window = fitted(detector_type), rows_for(detector_type, N, seed=1)
    expected = {f.name: (f.statistic, f.p_val, f.n) for f in detector.predict(window).features}
    for column, feature in enumerate(features_for(detector_type)):
        verdict = detector.predict(_damaged(window, column, value, every))
        assert answers(verdict)
        if has_exception(detector_type, "every row"):
            assert verdict.n <= N
            continue
        assert verdict.n == N
        if has_exception(detector_type, "columns"):
            continue
        if np.isnan(value):
            damaged = {f.name: f for f in verdict.features}[feature.name]
            assert damaged.missing == -(-N // every)
            assert damaged.note or damaged.state == "alert" or every > 1
        for other in verdict.features:
            if other.name != feature.name and other.name in expected:
                assert (other.statistic, other.p_val, other.n) == expected[other.name]


@every_type
def test_drift_or_outliers_beside_a_lost_column_are_still_found(detector_type):
    for column in range(_width(detector_type)):
        window = _damaged(rows_for(detector_type, N, seed=1, shifted=True), column, np.nan, every=2)
        assert fitted(detector_type).predict(window).state == "alert"


@every_type
def test_rows_of_nothing_but_missing_values(detector_type):
    verdict = fitted(detector_type).predict(np.full((N, _width(detector_type)), np.nan))
    assert answers(verdict)
    if registry.KINDS[detector_type] == "outlier":
        assert verdict.state == "insufficient_data"
        assert np.isnan(verdict.instance_score).all()
        assert not verdict.is_outlier.any()
    else:
        # That every value is missing where none was is a change; without a test for it there is no answer. Never "ok".
        assert verdict.state in ("alert", "insufficient_data")


@every_type
@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf])
def test_a_column_constant_or_empty_in_the_reference(detector_type, value):
    reference, window = rows_for(detector_type, N_REF, seed=0), rows_for(detector_type, N, seed=1)
    first = {feature.kind: (column, feature) for column, feature in reversed([*enumerate(features_for(detector_type))])}
    for column, feature in first.values():  # one of each kind: each takes a fit, of some types a second
        constant = value if feature.kind == "numeric" or not value > 1 else 1.0
        if has_exception(detector_type, "empty column", feature.name) and not np.isfinite(constant):
            with pytest.raises(DetectorError, match="rows without missing values"):
                fit_new(detector_type, _damaged(reference, column, constant))
            continue
        detector = fit_new(detector_type, _damaged(reference, column, constant))
        same = detector.predict(_damaged(window, column, constant))
        assert answers(same)
        assert answers(detector.predict(window))
        others = rows_for(detector_type, N, seed=1, shifted=True)
        if _width(detector_type) > 1 and not has_exception(detector_type, "constant column", feature.name):
            assert detector.predict(_damaged(others, column, constant)).state == "alert"


@every_type
def test_a_reference_with_missing_and_infinite_values(detector_type):
    reference = rows_for(detector_type, N_REF, seed=0)
    reference[::10, 0], reference[5::10, -1], reference[3::50, 0] = np.nan, np.nan, np.inf
    detector = fit_new(detector_type, reference)
    assert answers(detector.predict(rows_for(detector_type, N, seed=1)))
    assert detector.predict(rows_for(detector_type, N, seed=1, shifted=True)).state == "alert"


@every_type
def test_a_window_of_equal_rows(detector_type):
    window = np.repeat(rows_for(detector_type, 1, seed=1), N, axis=0)
    verdict = fitted(detector_type).predict(window)
    assert answers(verdict)
    if registry.KINDS[detector_type] == "drift":
        assert verdict.state == "alert"
    else:
        assert len(set(verdict.instance_score.round(9))) == 1


# What outlier detectors promise besides

outlier_types = pytest.mark.parametrize(
    "detector_type", [_type_param(name) for name, kind in registry.KINDS.items() if kind == "outlier"]
)


@outlier_types
def test_scores_do_not_depend_on_the_batch(detector_type):
    detector = fitted(detector_type)
    rows = rows_for(detector_type, 700, seed=1)
    rows[3] = 500.0
    rows[5::50, 1] = np.nan
    rows[7::50, 3] = UNSEEN
    whole = detector.predict(rows)
    for size in (1, 7, 64):
        parts = [detector.predict(rows[i : i + size]) for i in range(0, len(rows), size)]
        scores = np.concatenate([part.instance_score for part in parts])
        np.testing.assert_allclose(scores, whole.instance_score, rtol=1e-9, atol=1e-12)
        assert np.concatenate([part.is_outlier for part in parts]).tolist() == whole.is_outlier.tolist()
        features = np.concatenate([part.feature_score for part in parts])
        np.testing.assert_allclose(features, whole.feature_score, rtol=1e-7, atol=1e-9)
    backwards = detector.predict(rows[::-1])
    np.testing.assert_allclose(backwards.instance_score[::-1], whole.instance_score, rtol=1e-9, atol=1e-12)


@outlier_types
def test_rows_equal_to_the_one_at_the_threshold_are_never_flagged(detector_type):
    """The threshold is a reference row's score; that row comes again, in batches of every size."""
    reference = rows_for(detector_type, N_REF, seed=0)
    detector = fitted(detector_type)
    scores = detector.predict(reference).instance_score
    just = reference[np.abs(scores - detector.threshold) < 1e-6 * max(1.0, detector.threshold)]
    for row in just:
        for n in (1, 2, 3, 64, 100):
            assert not detector.predict(np.repeat(row[None], n, axis=0)).is_outlier.any()


@outlier_types
def test_the_threshold_flags_the_stated_share_of_new_rows(detector_type):
    """Each reference row is scored by what the others teach: to a detector that learnt it, it is usual."""
    reference, new = rows_for(detector_type, N_REF, seed=0), rows_for(detector_type, 4 * N_REF, seed=1)
    for share in (0.0, 0.01, 0.1):
        detector = created(detector_type, share=share).fit(reference, features_for(detector_type))
        above, scored = detector.beyond
        assert share * scored - 1 <= above <= share * scored
        assert scored == N_REF
        flagged = detector.predict(new).is_outlier.mean()
        # The reference knows the share as well as 2,000 rows do: between these it is in 99.9 % of references.
        assert share / 3 <= flagged <= 1.7 * share + 0.005


@outlier_types
def test_a_given_threshold_is_used_and_saved(detector_type, tmp_path):
    rows = rows_for(detector_type, N_REF, seed=0)
    detector = created(detector_type, threshold=0.25).fit(rows, features_for(detector_type))
    verdict = detector.predict(rows[:N])
    assert verdict.threshold == 0.25
    assert verdict.is_outlier.tolist() == (verdict.instance_score > 0.25).tolist()
    artifact.save(detector, tmp_path / "it")
    assert answers(artifact.load(tmp_path / "it").predict(rows[:N])) == answers(verdict)


@outlier_types
def test_an_impossible_number_is_found_explained_and_stranger_the_farther_it_is(detector_type):
    rows, first = rows_for(detector_type, 300, seed=1), features_for(detector_type)[0]
    plain = fitted(detector_type).predict(rows)
    before = plain.instance_score
    for value in (190.0, 500.0, 1e6, np.inf):
        found = fitted(detector_type).predict(_damaged(rows, 0, value))
        assert found.is_outlier.all()
        assert (np.nan_to_num(found.feature_score, nan=-1.0).argmax(axis=1) == 0).all()
        assert (found.instance_score >= before).all()
        assert found.reasons[0].feature == first.name
        before = found.instance_score
    said = fitted(detector_type).predict(_damaged(rows, 0, 190.0)).reasons[0]
    assert said.text.startswith(f"{first.name} = 190, outside the reference's")
    usual = np.median(rows_for(detector_type, N_REF, seed=0)[:, 0])
    assert (said.after, said.before) == (190.0, pytest.approx(usual, abs=1.0))


@outlier_types
def test_rare_categories_are_stranger_than_common_ones_and_unseen_ones_are_the_strangest(detector_type):
    if has_exception(detector_type, "categories"):
        features = (*features_for(detector_type)[:-1], Feature("colour", "categorical", ("red", "green")))
        with pytest.raises(DetectorError, match="'colour' is categorical"):
            created(detector_type).fit(rows_for(detector_type, N_REF, seed=0), features)
        return
    reference = rows_for(detector_type, N_REF, seed=0)
    reference[:, 4] = np.where(np.arange(N_REF) % 500 == 0, 2.0, np.arange(N_REF) % 2)
    detector = fit_new(detector_type, reference)
    rows = rows_for(detector_type, 300, seed=1)
    common, rare, unseen = (
        detector.predict(_damaged(rows, 4, value)).instance_score.mean() for value in (0.0, 2.0, UNSEEN)
    )
    assert common < rare < unseen
    for never in (3.0, 1.5, 99.0, -7.0):
        assert detector.predict(_damaged(rows, 4, never)).instance_score.mean() == pytest.approx(unseen)
    counted = detector.predict(_damaged(rows, 4, UNSEEN)).features[0]
    assert (counted.name, counted.unseen, counted.state) == ("colour", 300, "ok")
    assert "never seen" in counted.note


@outlier_types
def test_missing_values_count_as_usual_ones_and_the_rest_of_the_row_still_counts(detector_type):
    detector, rows = fitted(detector_type), rows_for(detector_type, 300, seed=1)
    usual = detector.predict(_damaged(rows, 1, np.nan))
    assert np.isfinite(usual.instance_score).all()
    if has_exception(detector_type, "usual"):
        assert usual.is_outlier.mean() < 0.05
    else:
        assert usual.instance_score.mean() <= detector.predict(rows).instance_score.mean()
    assert usual.features[0].missing == 300
    impossible = _damaged(_damaged(rows, 1, np.nan), 0, 190.0)
    assert detector.predict(impossible).is_outlier.all()


@outlier_types
def test_contributions_add_up_to_the_score_where_they_are_known(detector_type):
    verdict = fitted(detector_type).predict(rows_for(detector_type, N, seed=1, shifted=True))
    known = ~np.isnan(verdict.feature_score).any(axis=1)
    assert known[verdict.is_outlier].all()
    np.testing.assert_allclose(verdict.feature_score[known].sum(axis=1), verdict.instance_score[known], rtol=1e-9)


@outlier_types
def test_statistic_and_effect_size_are_the_largest_score_and_the_share_flagged(detector_type):
    verdict = fitted(detector_type).predict(rows_for(detector_type, N, seed=1, shifted=True))
    assert verdict.statistic == verdict.instance_score.max()
    assert verdict.effect_size == verdict.is_outlier.mean()
    assert verdict.p_val is None


@outlier_types
def test_memory_grows_with_the_rows_only(detector_type):
    """Bytes above what is there before, a row: some copies of the input, and blocks of bounded size."""
    detector = fitted(detector_type)
    rows = rows_for(detector_type, 100_000, seed=1)
    tracemalloc.start()
    detector.predict(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * rows.nbytes + 2**26


def test_exceptions_are_of_known_types_and_say_why():
    for (detector_type, promise), reason in EXCEPTIONS.items():
        assert detector_type in registry.DETECTOR_TYPES
        assert promise
        assert len(reason) > 20
