"""Artefacts on disk: what comes back is what was written, or an error that says what is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors import artifact, directory, registry
from detectors.artifact import ARRAYS, MANIFEST, ArtifactError, describe, load, save
from detectors.base import Feature, Meta, NotFittedError, Parts
from detectors.outlier.knn import KNN
from detectors.outlier.mahalanobis import Mahalanobis

ROWS = np.random.default_rng(0).normal(size=(100, 3))


@dataclass
class Given:
    """A detector of given parts, of a type that the tests put into the registry."""

    parts: Parts

    @property
    def meta(self) -> Meta:
        return Meta("Given", "outlier", self.parts.params)

    def predict(self, x: Any) -> Any:
        raise NotImplementedError

    def to_parts(self) -> Parts:
        return self.parts

    @classmethod
    def from_parts(cls, parts: Parts) -> Given:
        return cls(parts)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(registry, "DETECTOR_TYPES", {**registry.DETECTOR_TYPES, "Given": f"{__name__}:Given"})
    monkeypatch.setattr(artifact, "load_class", lambda name: Given if name == "Given" else registry.load_class(name))


@pytest.fixture
def written(tmp_path):
    save(Mahalanobis().fit(ROWS), tmp_path / "it")
    return tmp_path / "it"


def signed(manifest):
    """The manifest with a digest that fits, as someone who knows the format would forge it."""
    plain = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return json.dumps({**plain, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def forge(path, arrays=None, **changes):
    manifest = json.loads((path / MANIFEST).read_text())
    manifest.update(changes)
    if arrays is not None:
        (path / ARRAYS).write_bytes(arrays)
        manifest["files"] = {ARRAYS: {"sha256": hashlib.sha256(arrays).hexdigest(), "bytes": len(arrays)}}
    (path / MANIFEST).write_text(signed(manifest))


def npz(**arrays):
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
shapes = st.sampled_from([(), (0,), (3,), (2, 3), (1, 0, 2)])
arrays = st.builds(
    lambda shape, dtype, seed: np.random.default_rng(seed).integers(0, 200, shape).astype(dtype),
    shapes,
    st.sampled_from(["f8", "f4", "i8", "i4", "u1", "?", ">f8", "U3", "S2"]),
    st.integers(0, 100),
)
features = st.builds(Feature, st.text(), st.sampled_from(["numeric", "categorical"]), st.lists(st.text()).map(tuple))
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    params=st.dictionaries(st.text(), json_values, max_size=3),
    state=st.dictionaries(st.text(), json_values, max_size=3),
    stored=st.dictionaries(names | st.just("file"), arrays, max_size=3),
    columns=st.lists(features, max_size=3).map(tuple),
)
def test_everything_comes_back(known, tmp_path, params, state, stored, columns):
    save(Given(Parts(params, state, stored, columns)), tmp_path / "it")
    back = load(tmp_path / "it").parts
    assert (back.params, back.state, back.features) == (params, state, columns)
    assert set(back.arrays) == set(stored)
    for name, array in stored.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        assert back.arrays[name].tolist() == array.tolist()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from([MANIFEST, ARRAYS]), flip=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed_or_changes_nothing(written, data, name, flip):
    file = written / name
    before = file.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[place] ^= flip
    expected = describe(written)
    try:
        file.write_bytes(bytes(changed))
        problem = ""
        try:
            load(written)
        except ArtifactError as error:
            problem = str(error)
        if problem:
            assert str(written) in problem
        else:  # white space between JSON values means nothing
            assert name == MANIFEST
            assert describe(written) == expected
    finally:
        file.write_bytes(before)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([MANIFEST, ARRAYS]), share=st.floats(0, 0.999))
def test_a_file_cut_short_is_noticed(written, name, share):
    file = written / name
    before = file.read_bytes()
    try:
        file.write_bytes(before[: int(share * len(before))])
        with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
            load(written)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS])
def test_a_missing_file_is_named(written, name):
    (written / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load(written)


def test_a_path_that_does_not_exist_and_one_that_is_a_file(tmp_path):
    with pytest.raises(ArtifactError, match="is missing"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load(tmp_path / "file")


def test_content_changed_by_hand_is_noticed(written):
    manifest = json.loads((written / MANIFEST).read_text())
    manifest["state"]["threshold"] = 1e9
    (written / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="not the file that was written"):
        load(written)


def test_another_layout_of_the_same_content_is_the_same(written):
    manifest = json.loads((written / MANIFEST).read_text())
    (written / MANIFEST).write_text(json.dumps(dict(reversed(manifest.items())), indent=7))
    assert load(written).predict(ROWS[:1]).n == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2, this version of offpath reads 1"),
        ({"detector_type": "Mahalanobos"}, "did you mean 'Mahalanobis'"),
        ({"detector_type": "os:system"}, "unknown detector type"),
        ({"detector_type": ["KNN"]}, "unknown detector type"),
        ({"detector_type": "IForest"}, "holds no complete IForest"),
        ({"params": {"share": 7}}, "share must be"),
        ({"params": {"other": 7}}, "holds no complete Mahalanobis"),
        ({"state": {}}, "threshold"),
        ({"features": [{"name": "a"}]}, "kind"),
        ({"features": 3}, "holds no complete"),
        ({"files": {}}, "arrays.npz"),
        ({"files": {ARRAYS: {"sha256": "00"}}}, "not the file that was written"),
    ],
)
def test_forged_manifests(written, changes, said):
    forge(written, **changes)
    with pytest.raises(ArtifactError, match=said):
        load(written)


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '{"a": 1}', "{", "\xff\xfe", "[" * 100_000, '{"format": NaN}'])
def test_manifests_that_are_none(written, text):
    (written / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"artifact\.json"):
        load(written)


def test_numbers_that_are_no_json_are_noticed(written):
    text = (written / MANIFEST).read_text().replace('"n_ref": 100', '"n_ref": NaN')
    (written / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="not the file that was written"):
        load(written)


class Trap:
    """Unpickling it would end the test run."""

    def __reduce__(self):
        return (pytest.exit, ("unpickled",))


def test_pickled_arrays_are_refused_unread(written):
    forge(written, arrays=npz(mean=np.array([Trap()], dtype=object)))
    with pytest.raises(ArtifactError, match="holds no plain arrays"):
        load(written)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"\x93NUMPY\x01\x00"])
def test_archives_that_are_none(written, content):
    forge(written, arrays=content)
    with pytest.raises(ArtifactError, match="holds no plain arrays"):
        load(written)


def test_a_header_that_promises_more_than_there_is(written):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mean.npy", member.getvalue())
    forge(written, arrays=packed.getvalue())
    with pytest.raises(ArtifactError, match="holds no plain arrays"):
        load(written)


def test_a_small_archive_that_unpacks_to_much(written, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_ARRAYS", 100_000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", bytes(10_000_000))
    forge(written, arrays=packed.getvalue())
    with pytest.raises(ArtifactError, match="unpacks to 10000000 bytes"):
        load(written)


def test_files_above_the_limit_are_not_read(written, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_MANIFEST", 100)
    with pytest.raises(ArtifactError, match=r"artifact\.json is larger than 100 bytes"):
        load(written)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (Parts({}, {}, {"a": np.array([{}])}, ()), "holds Python objects"),
        (Parts({}, {}, {"../a": np.zeros(1)}, ()), "array name"),
        (Parts({}, {"x": float("nan")}, {}, ()), "plain JSON"),
        (Parts({"x": np.zeros(1)}, {}, {}, ()), "plain JSON"),
    ],
)
def test_parts_that_cannot_be_written_leave_nothing_behind(tmp_path, parts, said):
    with pytest.raises(ArtifactError, match=said):
        save(Given(parts), tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_a_detector_that_cannot_be_saved(tmp_path):
    with pytest.raises(ArtifactError, match="object cannot be saved"):
        save(object(), tmp_path / "it")
    with pytest.raises(NotFittedError):
        save(KNN(), tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_an_earlier_artefact_is_replaced_and_nothing_is_left_beside_it(written):
    save(KNN(k=3).fit(ROWS), written)
    assert describe(written)["detector_type"] == "KNN"
    assert [file.name for file in written.parent.iterdir()] == ["it"]
    assert sorted(file.name for file in written.iterdir()) == [ARRAYS, MANIFEST]


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(ArtifactError, match="no artefact directory"):
            save(KNN().fit(ROWS), tmp_path / name)
    assert (tmp_path / "folder" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_the_earlier_artefact(written, monkeypatch):
    before = {file.name: file.read_bytes() for file in written.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory.os, "fsync", full)
    with pytest.raises(ArtifactError, match=f"{written} cannot be written: No space"):
        save(KNN().fit(ROWS), written)
    assert {file.name: file.read_bytes() for file in written.iterdir()} == before
    assert [file.name for file in written.parent.iterdir()] == ["it"]


def test_parent_folders_are_made_and_an_empty_folder_is_used(tmp_path):
    save(KNN().fit(ROWS), tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    save(KNN().fit(ROWS), tmp_path / "empty")
    assert describe(tmp_path / "a" / "b")["detector_type"] == describe(tmp_path / "empty")["detector_type"] == "KNN"


def test_equal_detectors_give_equal_arrays(tmp_path):
    for name in ("one", "two"):
        save(KNN().fit(ROWS), tmp_path / name)
    assert (tmp_path / "one" / ARRAYS).read_bytes() == (tmp_path / "two" / ARRAYS).read_bytes()


def test_the_description_names_what_it_is(written):
    said = describe(written)
    assert (said["detector_type"], said["format"]) == ("Mahalanobis", 1)
    assert said["offpath"]
    assert said["created"].endswith("+00:00")
    assert [feature["name"] for feature in said["features"]] == ["x0", "x1", "x2"]
