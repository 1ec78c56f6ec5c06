"""Artefacts and references against the configuration: what would be misread, or never judged, is told before."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors import artifact
from detectors.base import DetectorError, Feature
from detectors.drift.tabular import TabularDrift
from monitor import configuration, tables, wiring
from monitor.codecs.v1 import V1Codec
from monitor.columns import Columns
from monitor.configuration import ConfigurationError, Mistake
from monitor.settings import Settings

AGE, SEX = Feature("age"), Feature("sex", "categorical", ("Female", "Male"))

TEXT = """\
models:
  - name: income
    features:
      - name: age
      - name: sex
        type: categorical
        categories: [Female, Male]
monitors:
  - name: drift
    model: income
    detector:
      type: TabularDrift
      artifact: artefacts/income
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fit(tmp_path / "artefacts" / "income", AGE, SEX)
    (tmp_path / "train.csv").write_text("age,sex\n" + "1,Female\n2,Male\n" * 20)
    return tmp_path


def fit(where: Path, *features: Feature, **params: Any) -> None:
    rows = np.random.default_rng(0).integers(2, size=(100, len(features)))
    artifact.save(TabularDrift(**params).fit(rows, features), where)


def check(folder: Path, text: str, **environ: str) -> list[Mistake]:
    path = folder / "offpath.yaml"
    path.write_text(text)
    return list(configuration.check(path, environ))


def one(folder: Path, text: str) -> tuple[int, str, str]:
    (mistake,) = check(folder, text)
    return mistake.line, mistake.path, mistake.expected


def test_what_was_fitted_so_is_right(folder: Path) -> None:
    assert check(folder, TEXT) == []
    wiring.build_specs(configuration.load(folder / "offpath.yaml", {}))


OTHERS = [
    ("[Female, Male]", "[Male, Female]", 7, "models[0].features[1].categories", "fitted with Female, Male",
     "sex.categories: the artefact was fitted with Female, Male, not Male, Female"),
    ("[Female, Male]", "[Female]", 7, "models[0].features[1].categories", "fitted with Female, Male",
     "sex.categories: the artefact was fitted with Female, Male, not Female"),
    ("        categories: [Female, Male]\n", "", 5, "models[0].features[1].categories", "fitted with Female, Male",
     "sex.categories: the artefact was fitted with Female, Male, not none"),
    ("      - name: age\n", "      - {name: age, type: categorical}\n", 4, "models[0].features[0].type",
     "fitted with numeric", "age.type: the artefact was fitted with numeric, not categorical"),
    ("name: age", "name: aeg", 13, "monitors[0].detector.artifact",
     "fitted on the columns age, sex, but the monitor selects aeg, sex", "its columns are aeg, sex"),
    ("    model: income\n", "    model: income\n    columns: [sex, age]\n", 14, "monitors[0].detector.artifact",
     "but the monitor selects sex, age", "its columns are sex, age"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "path", "said", "loading"), OTHERS, ids=[other[1] for other in OTHERS])
def test_other_columns_than_at_fitting(
    folder: Path, old: str, new: str, line: int, path: str, said: str, loading: str
) -> None:
    assert TEXT.count(old) == 1
    told_line, told_path, expected = one(folder, TEXT.replace(old, new))
    assert (told_line, told_path) == (line, path)
    assert said in expected
    with pytest.raises(ConfigurationError, match="fitted"):
        configuration.load(folder / "offpath.yaml", {})
    settings = configuration.load_unfitted(folder / "offpath.yaml", {})
    with pytest.raises(DetectorError, match=f"monitor drift: {loading}.*fit it again"):
        wiring.build_specs(settings)


def test_a_column_that_is_none_hides_the_rest(folder: Path) -> None:
    assert one(folder, TEXT.replace("- name: age", "- age"))[1] == "models[0].features[0]"


def test_of_a_joined_monitor_the_side_is_told(folder: Path) -> None:
    fit(folder / "joined", AGE, SEX, Feature("label", "categorical", ("no", "yes")))
    text = TEXT.replace(
        "monitors:", "    outputs:\n      - {name: label, type: categorical, categories: ['yes', 'no']}\nmonitors:"
    )
    text = text.replace("    model: income", "    model: income\n    side: joined").replace(
        "artefacts/income", "joined"
    )
    assert one(folder, text)[:2] == (9, "models[0].outputs[0].categories")


def test_a_reference_is_told_once_for_all_monitors_of_a_model(folder: Path) -> None:
    second = TEXT[TEXT.index("  - name: drift") :].replace("drift", "again")
    assert one(folder, TEXT.replace("[Female, Male]", "[Male, Female]") + second)[0] == 7


@pytest.mark.parametrize("name", [artifact.ARRAYS, artifact.MANIFEST])
def test_a_damaged_artefact(folder: Path, name: str) -> None:
    file = folder / "artefacts" / "income" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    line, path, expected = one(folder, TEXT)
    assert (line, path) == (13, "monitors[0].detector.artifact")
    assert str(file) in expected
    assert "copy it again, or fit the detector again" in expected


@pytest.mark.parametrize(
    ("params", "fitted", "path", "said"),
    [
        ("{ert: 500}", {"ert": 400}, "params.ert", "was fitted with ert: 400; fit it again"),
        ("{p_val: 0.01}", {"ert": 400}, "params.p_val", "was fitted with ert: 400; fit it again"),
        ("{ert: 400}", {}, "params.ert", "was fitted with p_val: 0.05; fit it again"),
        ("{p_val: 5}", {"ert": 400}, "params.p_val", "p_val must be between 0 and 1, got 5"),
        ("{worst: 5}", {}, "params.worst", "was fitted with worst: 3; fit it again"),
    ],
)
def test_parameters_of_an_artefact(folder: Path, params: str, fitted: dict[str, Any], path: str, said: str) -> None:
    fit(folder / "other", AGE, SEX, **fitted)
    text = TEXT.replace("artefacts/income", f"other\n      params: {params}")
    assert one(folder, text) == (14, f"monitors[0].detector.{path}", one(folder, text)[2])
    assert said in one(folder, text)[2]


def test_an_artefact_of_another_detector(folder: Path) -> None:
    assert (
        "holds a detector of type TabularDrift, but detector.type is KNN"
        in one(folder, TEXT.replace("TabularDrift", "KNN"))[2]
    )


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("artefacts/incme", "artefacts/income"),
        ("artefact/income", "artefacts/income"),
        ("artifacts/nothing", "artefacts"),
        ("somewhere/else", ""),
    ],
)
def test_a_path_that_is_not_there(folder: Path, given: str, nearest: str) -> None:
    (mistake,) = check(folder, TEXT.replace("artefacts/income", given))
    assert (mistake.line, mistake.nearest) == (13, nearest)


def test_the_directory_above_the_artefacts_tells_which_there_are(folder: Path) -> None:
    assert "Below it are income" in one(folder, TEXT.replace("artefacts/income", "artefacts"))[2]


@pytest.mark.parametrize(
    ("content", "path", "said"),
    [
        ("age\n" + "1\n" * 40, "monitors[0].detector.reference", "no column sex; there are age"),
        ("age,sex\n" + "old,Male\n" * 40, "monitors[0].detector.reference", "row 1, column age: 'old' where a number"),
        ("age,sex\n" + "1,Male\n" * 19, "monitors[0].detector.reference", "has 19 rows, at least 20 are needed"),
        ("age,sex\n" + "1,F\n2,M\n" * 40, "models[0].features[1].categories", "is one of them; it holds F, M"),
        ("", "monitors[0].detector.reference", "is empty"),
    ],
)  # fmt: skip
def test_a_reference_that_does_not_fit(folder: Path, content: str, path: str, said: str) -> None:
    (folder / "train.csv").write_text(content)
    text = TEXT.replace("artifact: artefacts/income", "reference: train.csv")
    assert (one(folder, text)[1], said in one(folder, text)[2]) == (path, True), one(folder, text)


def test_bytes_that_are_no_npz_and_objects_in_one(folder: Path) -> None:
    text = TEXT.replace("artifact: artefacts/income", "reference: x.npz")
    (folder / "x.npz").write_bytes(b"anything else")
    assert one(folder, text)[2].endswith("x.npz: is no npz file")
    np.savez(folder / "x.npz", age=np.zeros(2), sex=np.array(["Male", 1], dtype=object))
    assert "x.npz: array sex holds Python objects" in one(folder, text)[2]
    np.savez(folder / "x.npz", age=np.zeros(2), sex=np.array([1j, 2j]))
    assert "x.npz: sex is of type complex128; numbers and text can be read" in one(folder, text)[2]
    np.savez(folder / "x.npz", age=np.zeros(2), sex=np.array([b"Male", b"\xff"]))
    assert "x.npz: array sex is no text in UTF-8" in one(folder, text)[2]
    np.savez(folder / "x.npz", x=np.arange(40.0), sex=np.array(["Male", "Female"] * 20))
    assert "no column age; there are x, sex" in one(folder, text)[2]
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("age.npy", b"nothing of the kind")
    assert "x.npz: age" in one(folder, text)[2]


def test_codes_of_a_reference_beyond_the_categories(folder: Path) -> None:
    text = TEXT.replace("artifact: artefacts/income", "reference: x.npz")
    np.savez(folder / "x.npz", x=np.array([[i, 2 + i % 2] for i in range(40)]))
    assert one(folder, text)[1] == "models[0].features[1].categories"
    assert "is one of them; it holds 2, 3" in one(folder, text)[2]
    np.savez(folder / "x.npz", x=np.array([[i, i % 2] for i in range(40)]))
    assert check(folder, text) == []


def test_the_nearest_category_of_a_references_labels(folder: Path) -> None:
    (folder / "train.csv").write_text("age,sex\n" + "1,female\n2,male\n" * 20)
    (mistake,) = check(folder, TEXT.replace("artifact: artefacts/income", "reference: train.csv"))
    assert mistake.nearest == "Female"


def test_some_labels_of_a_reference_that_are_no_categories_are_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "train.csv").write_text("age,sex\n" + "1,Female\n2,Male\n" * 20 + "3,male\n")
    assert check(folder, TEXT.replace("artifact: artefacts/income", "reference: train.csv")) == []
    with caplog.at_level(logging.WARNING):
        wiring.build_specs(configuration.load(folder / "offpath.yaml", {}))
    said = "monitor drift: column sex of train.csv: 1 of 41 values are none of its categories, such as 'male'"
    assert said in caplog.text


def test_commands_that_do_not_judge_need_no_artefacts(folder: Path) -> None:
    text = TEXT.replace("artefacts/income", "not/here\n      params: {ert: 7}").replace("[Female, Male]", "[Male]")
    assert check(folder, text)
    assert isinstance(configuration.load_unfitted(folder / "offpath.yaml", {}), Settings)


VARIABLES = [
    ("OFFPATH_SINKZ", "OFFPATH_SINKS"),
    ("OFFPATH_DATA_OFLINE", "OFFPATH_DATA_OFFLINE"),
    ("OFFPATH_XYZZY_PLUGH", ""),
]


@pytest.mark.parametrize(("variable", "nearest"), VARIABLES)
def test_an_unknown_variable_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture, variable: str, nearest: str
) -> None:
    assert check(folder, TEXT, **{variable: "x"}) == []
    (warning,) = configuration.examine(folder / "offpath.yaml", {variable: "x"}).warnings
    assert (warning.origin, warning.nearest) == (variable, nearest)
    with caplog.at_level(logging.WARNING):
        configuration.load(folder / "offpath.yaml", {variable: "x"})
    assert f"{variable}: is no variable of offpath" in caplog.text


@pytest.mark.parametrize(
    "variable",
    [
        "OFFPATH_DATA", "OFFPATH_DATA_OFFLINE", "OFFPATH_DEBUG", "OFFPATH_INGEST_TOKEN", "OFFPATH_KAFKA_PASSWORD",
        "OFFPATH_REDACT_KEY", "OFFPATH_TEST_KAFKA", "OFFPATH_PORT", "OFFPATH_SERVICE_HOST", "OFFPATH_SERVICE_PORT_HTTP",
        "OFFPATH_PORT_9090_TCP_ADDR", "OFFPATH_WORKER_SERVICE_PORT", "OFFPATH_WORKER_PORT_9090_TCP", "OFFPATH_MY__KEY",
    ],
)  # fmt: skip
def test_variables_that_mean_something_else(folder: Path, variable: str) -> None:
    (folder / "offpath.yaml").write_text(TEXT + "capture: {redact_key_env: OFFPATH_MY__KEY}\n")
    report = configuration.examine(folder / "offpath.yaml", {variable: "x"})
    assert (report.mistakes, report.warnings) == ((), ())


def test_a_mistake_in_the_parameters_hides_no_other(folder: Path) -> None:
    wrong = "params: {p_val: 7, correction: bonferoni, min_rows: -3, k: 1}"
    text = TEXT.replace("artifact: artefacts/income", f"reference: trin.csv\n      {wrong}")
    here = "monitors[0].detector"
    params = {f"{here}.params.{name}" for name in ("p_val", "correction", "min_rows", "k")}
    assert {mistake.path for mistake in check(folder, text)} == {*params, f"{here}.reference"}


@pytest.mark.parametrize(
    ("right", "wrong", "path"),
    [
        ("model: income", "model: incme", "model"),
        ("model: income", "model: income\n    side: reqest", "side"),
        ("model: income", "model: income\n    columns: [aeg]", "columns[0]"),
        ("model: income", "model: income\n    columns: []", "columns"),
    ],
)
def test_a_reference_is_not_judged_while_its_columns_are_unknown(
    folder: Path, right: str, wrong: str, path: str
) -> None:
    text = TEXT.replace("artifact: artefacts/income", "reference: train.csv").replace("TabularDrift", "KSDrift")
    (mistake,) = check(folder, text.replace(right, wrong))
    assert mistake.path == f"monitors[0].{path}"


@pytest.mark.parametrize("label", ["None", "NA", "nan", "null"])
def test_a_category_is_one_also_where_the_word_means_no_value(folder: Path, label: str) -> None:
    sex = Feature("sex", "categorical", ("Female", label))
    (folder / "train.csv").write_text("age,sex\n" + f"1,Female\n2,{label}\n3,\n" * 20)
    table = tables.read(folder / "train.csv", (AGE, sex))
    assert table.rows[:2, 1].tolist() == [0.0, 1.0]
    assert np.isnan(table.rows[2, 1])
    assert table.strangers == ()


@pytest.mark.parametrize("categories", [("true", "false"), ("False", "True"), ("no", "yes")])
def test_booleans_of_a_file_mean_what_they_mean_in_a_payload(folder: Path, categories: tuple[str, ...]) -> None:
    member = Feature("member", "categorical", categories)
    np.savez(folder / "x.npz", age=np.arange(4.0), member=np.array([True, False, True, True]))
    found = tables.read(folder / "x.npz", (AGE, member)).rows[:, 1]
    columns = Columns((AGE, member))
    live = columns.rows(V1Codec().decode(b'{"instances": [[0, true], [1, false], [2, true], [3, true]]}', {}))
    assert found.tolist() == live[:, 1].tolist()


def test_booleans_of_a_file_without_configuration_are_labels(folder: Path) -> None:
    np.savez(folder / "x.npz", age=np.arange(4.0), member=np.array([True, False, True, True]))
    found = tables.read(folder / "x.npz")
    assert found.features[1] == Feature("member", "categorical", ("False", "True"))
    assert found.rows[:, 1].tolist() == [1.0, 0.0, 1.0, 1.0]
