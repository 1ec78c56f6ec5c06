"""Detectors made, saved and loaded by alibi-detect itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors import artifact, registry
from detectors.base import DetectorError

cd = pytest.importorskip("alibi_detect.cd", reason="alibi-detect is absent: `make test-alibi` has it")
saving = pytest.importorskip("alibi_detect.saving")
torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
NUMERIC = (RNG.normal(size=(300, 3)) * 100 + 50).astype(np.float32)
CODES = RNG.integers(0, 2, size=(300, 2)).astype(float)

MADE = {
    "KSDrift": lambda: cd.KSDrift(NUMERIC, p_val=0.05, correction="fdr"),
    "CVMDrift": lambda: cd.CVMDrift(NUMERIC, p_val=0.05),
    "ChiSquareDrift": lambda: cd.ChiSquareDrift(CODES, p_val=0.05, categories_per_feature={0: 2, 1: 2}),
    "FETDrift": lambda: cd.FETDrift(CODES, p_val=0.05),
    "TabularDrift": lambda: cd.TabularDrift(
        np.hstack([NUMERIC, CODES]), p_val=0.05, categories_per_feature={3: None, 4: None}
    ),
    "MMDDrift": lambda: cd.MMDDrift(NUMERIC, p_val=0.05, backend="pytorch"),
    "LSDDDrift": lambda: cd.LSDDDrift(NUMERIC, p_val=0.05, backend="pytorch"),
    "SpotTheDiffDrift": lambda: cd.SpotTheDiffDrift(NUMERIC, p_val=0.05, backend="pytorch", epochs=2, verbose=0),
}


def reference(name):
    return {"ChiSquareDrift": CODES, "FETDrift": CODES, "TabularDrift": np.hstack([NUMERIC, CODES])}.get(name, NUMERIC)


def windows(name, n, n_rows=100):
    rng, rows = np.random.default_rng(1), reference(name)
    return [rows[rng.permutation(len(rows))[:n_rows]].astype(float) for _ in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("saved")
    for name, make in MADE.items():
        saving.save_detector(make(), where / name)
    return where


@pytest.mark.parametrize("name", MADE)
def test_what_holds_no_code_loads_without_the_flag_and_says_what_alibi_says(folder, tmp_path, name):
    detector = registry.create("AlibiDetect", saved=str(folder / name)).fit(reference(name))
    shifted = np.repeat(reference(name).max(axis=0)[None], 100, axis=0)
    assert detector.predict(shifted).state == "alert"
    own = saving.load_detector(folder / name)
    for window in windows(name, 3):
        verdict = detector.predict(window)
        told = own.predict(window.astype(reference(name).dtype))["data"]
        if np.ndim(told["p_val"]):
            np.testing.assert_allclose([f.p_val for f in verdict.features], told["p_val"], rtol=1e-6)
            np.testing.assert_allclose([f.statistic for f in verdict.features], told["distance"], rtol=1e-6)
            assert verdict.is_drift == bool(told["is_drift"])
        elif name == "MMDDrift":
            assert verdict.statistic == pytest.approx(float(told["distance"]), rel=1e-4, abs=1e-6)
        assert verdict.to_dict() == detector.predict(window).to_dict()
    artifact.save(detector, tmp_path / "it")
    assert artifact.load(tmp_path / "it").predict(window).to_dict() == verdict.to_dict()


@pytest.mark.parametrize("name", ["MMDDrift", "LSDDDrift"])
def test_clean_windows_of_a_loaded_detector_are_no_drift(folder, name):
    """At the level of 0.05, 5 of 12 windows, or more, happen once in 5,000 times."""
    detector = registry.create("AlibiDetect", saved=str(folder / name)).fit(NUMERIC)
    assert sum(detector.predict(window).is_drift for window in windows(name, 12)) < 5


class Mark:
    """Its unpickling leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_is_run_with_the_flag_and_not_without(folder, tmp_path):
    import dill

    mark = tmp_path / "ran"
    saved = tmp_path / "it"
    saving.save_detector(cd.KSDrift(NUMERIC, p_val=0.05, preprocess_fn=np.abs), saved)
    (fn,) = saved.rglob("*.dill")
    fn.write_bytes(dill.dumps(Mark(mark)))
    with pytest.raises(DetectorError, match="unsafe_loading: true"):
        registry.create("AlibiDetect", saved=str(saved)).fit(NUMERIC)
    assert not mark.exists()
    with pytest.raises(DetectorError, match="cannot load it"):
        registry.create("AlibiDetect", saved=str(saved), unsafe_loading=True).fit(NUMERIC)
    assert mark.exists()


def test_a_model_with_the_flag(tmp_path):
    from sklearn.linear_model import LogisticRegression

    made = cd.ClassifierDrift(NUMERIC, LogisticRegression(), backend="sklearn", p_val=0.05, n_folds=2)
    saving.save_detector(made, tmp_path / "it")
    detector = registry.create("AlibiDetect", saved=str(tmp_path / "it"), unsafe_loading=True).fit(NUMERIC)
    state = torch.random.get_rng_state()
    first = detector.predict(NUMERIC[:100])
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.p_val is not None
    assert detector.predict(NUMERIC[:100]).to_dict() == first.to_dict()
    assert detector.predict(NUMERIC[:100] + 500).state == "alert"
