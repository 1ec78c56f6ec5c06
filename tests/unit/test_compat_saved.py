"""Detectors saved by alibi-detect: what is read of them, what is refused, how answers become verdicts. Without it."""

from __future__ import annotations

import importlib.util
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from detectors import artifact, registry
from detectors.base import DetectorError, NotFittedError, Parts, ShapeError
from detectors.compat import alibi, answers, loading, scores
from detectors.compat.alibi import AlibiDetect
from detectors.compat.saved import describe, read_reference
from monitor import configuration
from monitor.tables import TableError, read

ROWS = np.random.default_rng(0).normal(size=(200, 3))
KS = 'name = "KSDrift"\nx_ref = "x_ref.npy"\npreprocess_fn = "None"\np_val = 0.01\ncorrection = "fdr"\n'
# As save_detector of alibi-detect 0.13 wrote it, but for settings that say nothing.
MMD = (
    'name = "MMDDrift"\nx_ref = "x_ref.npy"\nbackend = "pytorch"\np_val = 0.05\nkernel = "None"\nsigma = "None"\n'
    'update_x_ref = "None"\nn_permutations = 100\ndevice = "None"\n\n[meta]\nversion = "0.13.0"\n'
)
TABULAR = (
    'name = "TabularDrift"\nx_ref = "x_ref.npy"\np_val = 0.05\n\n[categories_per_feature]\n3 = "None"\n4 = [0, 1, 2]\n'
)


def folder_with(tmp_path, text, x_ref=ROWS):
    (tmp_path / "config.toml").write_text(text)
    np.save(tmp_path / "x_ref.npy", x_ref)
    return tmp_path


@pytest.mark.parametrize("text", [KS, MMD, TABULAR])
def test_numbers_words_and_the_reference_are_no_code(tmp_path, text):
    saved = describe(folder_with(tmp_path, text))
    assert saved.code == ()
    assert describe(tmp_path / "config.toml") == saved
    assert registry.check_params("AlibiDetect", {"saved": str(tmp_path)}) == []
    np.testing.assert_array_equal(read_reference(tmp_path), ROWS)


def test_arguments_are_those_that_were_said(tmp_path):
    assert describe(folder_with(tmp_path, KS)).arguments() == {"p_val": 0.01, "correction": "fdr"}
    assert describe(folder_with(tmp_path, TABULAR)).arguments()["categories_per_feature"] == {3: None, 4: [0, 1, 2]}


@pytest.mark.parametrize(
    "line",
    [
        'preprocess_fn = "preprocess_fn.dill"',
        'preprocess_fn = "@cd.preprocess.preprocess_drift"',
        'preprocess_fn = "os:system"',
        'data_type = "kernel.dill"',
        'correction = "correction.dill"',
        'n_features = "@x"',
        "unheard_of = 1",
        "p_val = [[1]]",
        'p_val = ["@x"]',
        '[preprocess_fn]\nsrc = "@cd.preprocess.preprocess_drift"',
        '[categories_per_feature]\n0 = "@x"',
        "[categories_per_feature]\nx = 1",
        '[n_features]\nsrc = "f.dill"',
    ],
)
def test_whatever_is_not_known_to_be_plain_needs_the_flag(tmp_path, line):
    folder = folder_with(tmp_path, f'name = "KSDrift"\nx_ref = "x_ref.npy"\n{line}\n')
    if not line.startswith("[cat"):
        assert len(describe(folder).code) == 1
    with pytest.raises(DetectorError, match=r"can run any code.*say unsafe_loading: true"):
        AlibiDetect(saved=str(folder))
    AlibiDetect(saved=str(folder), unsafe_loading=True)


@pytest.mark.parametrize("x_ref", ["../x_ref.npy", "/tmp/x_ref.npy", "x_ref.dill", "@x"])
def test_the_reference_is_the_array_beside_the_settings_and_no_other(tmp_path, x_ref):
    folder_with(tmp_path, f'name = "KSDrift"\nx_ref = "{x_ref}"\n')
    assert describe(tmp_path).code == (f"x_ref = {x_ref}",)


def test_types_with_models_and_pickled_directories_need_the_flag(tmp_path):
    text = 'name = "ClassifierDrift"\nx_ref = "x_ref.npy"\np_val = 0.05\n\n[model]\nsrc = "model"\n'
    with pytest.raises(DetectorError, match=r"ClassifierDrift, whose models.*model = .*unsafe_loading"):
        AlibiDetect(saved=str(folder_with(tmp_path, text)))
    (tmp_path / "config.toml").unlink()
    (tmp_path / "meta.dill").write_bytes(b"")
    with pytest.raises(DetectorError, match=r"meta\.dill.*unsafe_loading"):
        AlibiDetect(saved=str(tmp_path))


def test_a_pickled_reference_is_not_read(tmp_path):
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (mark,)

    folder_with(tmp_path, KS)
    np.save(tmp_path / "x_ref.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    assert read_reference(tmp_path) is None
    with pytest.raises(DetectorError, match=r"holds no numbers|needs alibi-detect"):
        AlibiDetect(saved=str(tmp_path)).fit(ROWS)
    with pytest.raises(TableError, match="Python objects"):
        read(tmp_path / "x_ref.npy")
    (tmp_path / "x_ref.npy").write_bytes(pickle.dumps(Bomb()))
    assert read_reference(tmp_path) is None
    with pytest.raises(TableError, match="no readable npy"):
        read(tmp_path / "x_ref.npy")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("MMDDriftOnline", "take the type MMDDriftOnline"),
        ("FETDriftOnline", "take the type FETDriftOnline"),
        ("Mahalanobis", "offpath's Mahalanobis"),
        ("ContextMMDDrift", "offpath's ContextMMDDrift"),
        ("OutlierSeq2Seq", "offpath's SpectralResidual"),
    ],
)
def test_what_cannot_be_resumed_is_refused_flag_or_not_with_what_to_take(tmp_path, name, instead):
    folder = folder_with(tmp_path, f'name = "{name}"\nx_ref = "x_ref.npy"\n')
    for flag in (False, True):
        with pytest.raises(DetectorError, match=instead):
            AlibiDetect(saved=str(folder), unsafe_loading=flag)


@pytest.mark.parametrize("line", ["retrain_from_scratch = false", "[update_x_ref]\nlast = 500"])
def test_verdicts_that_depend_on_earlier_windows_are_refused(tmp_path, line):
    folder = folder_with(tmp_path, f'name = "SpotTheDiffDrift"\nx_ref = "x_ref.npy"\n{line}\n')
    with pytest.raises(DetectorError, match="all windows before it"):
        AlibiDetect(saved=str(folder), unsafe_loading=True)


@pytest.mark.parametrize("text", ["name = ", "x_ref = 1\n", "name = 3\n"])
def test_what_is_no_description_says_which_file(tmp_path, text):
    with pytest.raises(DetectorError, match=r"saved: .*config\.toml"):
        AlibiDetect(saved=str(folder_with(tmp_path, text)))


def test_a_directory_that_is_not_there_or_holds_something_else(tmp_path):
    with pytest.raises(DetectorError, match="there is no directory"):
        AlibiDetect(saved=str(tmp_path / "no")).fit(ROWS)
    with pytest.raises(DetectorError, match=r"no config\.toml and no \.dill"):
        AlibiDetect(saved=str(tmp_path))
    with pytest.raises(DetectorError, match="saved must name"):
        AlibiDetect().fit(ROWS)


@pytest.mark.skipif(importlib.util.find_spec("alibi_detect") is not None, reason="it is there")
def test_without_the_package_the_message_has_the_command_and_the_licence(tmp_path):
    with pytest.raises(DetectorError, match=r'pip install "offpath\[alibi\]".*non-profit educational'):
        AlibiDetect(saved=str(folder_with(tmp_path, KS))).fit(ROWS)


def parts(**params):
    state = {"name": "KSDrift", "settings": {"name": "KSDrift", "x_ref": "x_ref.npy", "preprocess_fn": "f.dill"}}
    given = {"saved": "", "unsafe_loading": True, "min_rows": 20, "worst": 5, "seed": 0, **params}
    return Parts(given, {**state, "columns": {}}, {"saved_x_ref": ROWS}, ())


def test_no_artefact_can_allow_itself_to_run_code(tmp_path):
    with pytest.raises(DetectorError, match="can run any code"):
        AlibiDetect.from_parts(parts())
    (tmp_path / "meta.dill").write_bytes(b"")
    with pytest.raises(DetectorError, match="can run any code"):
        AlibiDetect.from_parts(parts(saved=str(tmp_path)))


# What alibi-detect's documentation says that detectors answer, told by a stand-in


class Scorer:
    """``predict`` of an outlier detector: scores are the rows' first value."""

    def __init__(self, kind="outlier", threshold=2.0, name="IForest"):
        self.meta, self.threshold = {"name": name, "detector_type": kind, "online": False}, threshold
        self.asked = []

    def predict(self, x):
        self.asked.append(x)
        found = x[:, 0]
        return {"data": {"instance_score": found, "feature_score": None, "is_outlier": found > 2.0}, "meta": self.meta}


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """An ``AlibiDetect`` fitted on ``ROWS`` whose loader answers the given object."""
    (tmp_path / "meta.dill").write_bytes(b"")

    def fit(made):
        monkeypatch.setattr(loading, "load", lambda *_: made)
        return AlibiDetect(saved=str(tmp_path), unsafe_loading=True).fit(ROWS)

    return fit


@pytest.mark.parametrize("kind", ["outlier", "adversarial"])
def test_scores_row_by_row(loaded, kind):
    detector = loaded(Scorer(kind))
    assert (detector.meta.kind, detector.meta.min_rows, detector.meta.n_ref) == (kind, 1, 200)
    assert detector.beyond == (int((ROWS[:, 0] > 2.0).sum()), 200)
    rows = np.array([[3.0, 0, 0], [1.0, 0, 0], [np.nan, 0, 0], [9.0, np.inf, 0]])
    verdict = detector.predict(rows)
    assert verdict.is_outlier.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(verdict.instance_score, [3.0, 1.0, np.nan, np.nan])
    assert verdict.feature_score.shape == (4, 3)
    assert (verdict.state, verdict.statistic, verdict.threshold, verdict.effect_size) == ("alert", 3.0, 2.0, 0.25)
    assert detector.predict(rows[2:]).state == "insufficient_data"
    assert detector.predict(rows[:0]).n == 0
    with pytest.raises(ShapeError):
        detector.predict(rows[:, :2])


def test_what_its_type_forbids_is_found_when_it_is_loaded(loaded):
    with pytest.raises(DetectorError, match="take offpath's Mahalanobis"):
        loaded(Scorer(name="Mahalanobis"))
    with pytest.raises(DetectorError, match="infer_threshold"):
        loaded(Scorer(threshold=None))
    with pytest.raises(DetectorError, match="no detector of alibi-detect"):
        loaded(object())


def test_code_goes_into_no_artefact(loaded, tmp_path):
    with pytest.raises(DetectorError, match="unsafe_loading is not kept in an artefact"):
        artifact.save(loaded(Scorer()), tmp_path / "it")


def test_an_answer_of_other_shape_is_no_verdict():
    class Odd(Scorer):
        def predict(self, x):
            return {"data": {"instance_score": x}}

    with pytest.raises(DetectorError, match="one a row"):
        scores.judge(Odd(), ROWS, np.ones(200, dtype=bool), 3)
    with pytest.raises(DetectorError, match="cannot be read"):
        answers.read({"is_drift": 1}, 0.05, "bonferroni", None)


class Permuting:
    """``predict`` of a drift detector that tests whole rows, by 100 permutations."""

    def __init__(self, p_val, drift):
        self.meta = {"name": "MMDDrift", "detector_type": "drift", "online": False}
        self.data = {"p_val": p_val, "is_drift": drift, "distance": 0.3, "threshold": 0.05, "distance_threshold": 0.2}

    def predict(self, x):
        np.random.random()
        return {"data": self.data, "meta": self.meta}


def test_alibi_decides_and_tells_what_it_compared(loaded):
    verdict = loaded(Permuting(0.0, 1)).predict(ROWS[:50])
    assert (verdict.state, verdict.statistic, verdict.threshold, verdict.p_val) == ("alert", 0.3, 0.2, 0.0)
    assert "whole rows" in verdict.reasons[0].text
    verdict = loaded(Permuting(0.4, 0)).predict(ROWS[:50])
    assert (verdict.state, verdict.reasons, verdict.n) == ("ok", (), 50)
    assert loaded(Permuting(np.nan, 0)).predict(ROWS[:50]).state == "insufficient_data"


def test_a_window_with_many_missing_values_is_no_silent_ok(loaded):
    detector, rows = loaded(Permuting(0.4, 0)), ROWS[:50].copy()
    rows[:, 0] = np.nan
    verdict = detector.predict(rows)
    assert (verdict.state, verdict.reasons[0].change) == ("alert", "missing")
    rows = ROWS[:50].copy()
    rows[0, 0] = np.nan
    assert detector.predict(rows).state == "ok"
    assert detector.predict(rows[:19]).state == "insufficient_data"


def test_p_values_of_permutations_are_never_zero():
    told = {"p_val": 0.0, "is_drift": 1, "distance": 0.3, "threshold": 0.05}
    assert answers.read(told, 0.05, "None", 100).p == 1 / 101
    assert answers.read({**told, "p_val": 0.04}, 0.05, "None", 100).p == 5 / 101


def test_columns_without_a_p_value_count_for_nothing_and_the_others_do():
    told = {"p_val": np.array([np.nan, 0.02]), "distance": np.array([np.nan, 0.4]), "threshold": 0.025, "is_drift": 1}
    assert answers.read(told, 0.05, "bonferroni", None).p == 0.02
    assert answers.read({**told, "p_val": np.full(2, np.nan)}, 0.05, "fdr", None).p is None


def test_with_the_false_discovery_rate_thresholds_may_be_one_a_rank():
    told = {"p_val": np.array([0.03, 0.2]), "distance": np.array([0.3, 0.4]), "is_drift": 0}
    answer = answers.read({**told, "threshold": np.array([0.025, 0.05])}, 0.05, "fdr", None)
    assert (answer.drift, answer.threshold) == (False, 0.025)


def test_global_generators_go_on_as_if_nothing_was_drawn(loaded):
    detector = loaded(Permuting(0.4, 0))
    np.random.seed(3)
    random.seed(3)
    expected = np.random.random(), random.random()
    np.random.seed(3)
    random.seed(3)
    detector.predict(ROWS[:50])
    assert (np.random.random(), random.random()) == expected


def test_before_fit():
    with pytest.raises(NotFittedError):
        alibi.AlibiDetect().predict(ROWS)


# In a configuration


def mistakes_of(tmp_path, detector):
    text = f"models: [{{name: m}}]\nmonitors: [{{name: a, model: m, detector: {detector}}}]\n"
    (tmp_path / "offpath.yaml").write_text(text)
    found = configuration.examine(tmp_path / "offpath.yaml")[1]
    return [str(mistake) for mistake in found if "needs alibi-detect" not in str(mistake)]


def test_check_reads_the_saved_detector_relative_to_the_file(tmp_path):
    (tmp_path / "it").mkdir()
    folder_with(tmp_path / "it", KS)
    good = "{type: AlibiDetect, reference: it/x_ref.npy, params: {saved: it}}"
    assert mistakes_of(tmp_path, good) == []
    (wrong,) = mistakes_of(tmp_path, good.replace("saved: it", "saved: its"))
    assert "there is no such file or directory" in wrong
    assert "it" in wrong
    (wrong,) = mistakes_of(tmp_path, "{type: AlibiDetect, reference: it/x_ref.npy}")
    assert "saved: is needed" in wrong
    (wrong,) = mistakes_of(tmp_path, "{type: AlibiDetect, artifact: it}")
    assert "say type: AlibiDetect, reference: clean rows, and params: {saved: it}" in wrong
    folder_with(tmp_path / "it", KS + 'kernel = "kernel.dill"\n')
    (wrong,) = mistakes_of(tmp_path, good)
    assert "kernel.dill" in wrong
    assert "unsafe_loading: true" in wrong
    assert mistakes_of(tmp_path, good.replace("saved: it", "saved: it, unsafe_loading: true")) == []
