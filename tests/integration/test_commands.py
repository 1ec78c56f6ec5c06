"""``fit`` and ``replay``, as people call them, on files and on a captured log."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detectors import artifact
from detectors.base import UNSEEN, Feature
from detectors.calibrate import FalseAlarms
from monitor import cli, configuration, tables, wiring
from monitor.commands import promise
from monitor.commands.progress import progress_bar
from monitor.events import Record
from sinks.store import FindingStore

COLUMNS = [{"name": "age"}, {"name": "sex", "type": "categorical", "categories": ["F", "M"]}]
CSV = "age,sex\n" + "".join(f"{20 + i % 40},{'FM'[i % 3 == 0]}\n" for i in range(600))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with two monitors, and reference data."""
    document = {
        "models": [{"name": "m", "features": COLUMNS}],
        "monitors": [
            {
                "name": "drift", "model": "m", "window": {"count": 50},
                "detector": {"type": "TabularDrift", "artifact": "drift", "params": {"ert": 100}},
            },
            {"name": "outliers", "model": "m", "detector": {"type": "Mahalanobis", "artifact": "outliers"},
             "columns": ["age"], "window": {"count": 40}},
        ],
    }  # fmt: skip
    (tmp_path / "offpath.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "train.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], command: str, status: int = 0) -> str:
    assert cli.main(command.split()) == status
    said = capsys.readouterr()
    return said.err if status else said.out


def write_reference(folder: Path, kind: str) -> str:
    rows = [line.split(",") for line in CSV.splitlines()[1:]]
    name = f"reference.{kind}"
    if kind == "csv.gz":
        (folder / name).write_bytes(gzip.compress(CSV.encode()))
    elif kind == "npz":
        np.savez(folder / name, age=np.array([float(a) for a, _ in rows]), sex=np.array([s for _, s in rows]))
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason='Parquet needs pip install "offpath[parquet]"')
        from pyarrow import parquet

        of_pandas = {"__index_level_0__": list(range(len(rows)))}  # a frame that was filtered
        table = pyarrow.table({"age": [float(a) for a, _ in rows], "sex": [s for _, s in rows], **of_pandas})
        parquet.write_table(table, folder / name)
    else:
        (folder / name).write_text(CSV)
    return name


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            ["1.5"] * 29 + ["oops"],
            "column a was taken for labels, though most of its 30 values are numbers: row 30 holds 'oops'",
        ),
        (['"0,92"'] * 30, "row 1 holds '0,92': write a decimal point"),
        (["1_0"] * 5 + ["10"] * 25, "row 1 holds '1_0'"),
    ],
)
def test_numbers_that_are_taken_for_labels_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], cells: list[str], said: str
) -> None:
    (folder / "mixed.csv").write_text("\n".join(["a", *cells]))
    assert cli.main(["fit", "--type", "TabularDrift", "--reference", "mixed.csv", "--out", "o", "--windows", "0"]) == 0
    assert said in capsys.readouterr().err


def test_words_for_no_value_among_labels_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "plans.csv").write_text("\n".join(["plan", *["None", "Basic", "Premium"] * 20]))
    command = ["fit", "--type", "ChiSquareDrift", "--reference", "plans.csv", "--out", "o", "--windows", "0"]
    assert cli.main(command) == 0
    assert "20 cells 'None' of column plan were taken for missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--columns", "age,age"], "--columns age,age: a column is named twice"),
        (["--param", "ert=[1"], "--param ert=[1: the value is no YAML"),
        (["--param", "ert"], "--param ert: write it as NAME=VALUE"),
    ],
)
def test_wrong_flags_of_fit(folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    name = write_reference(folder, "csv")
    assert cli.main(["fit", "--type", "TabularDrift", "--reference", name, "--out", "o", *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_parameter_with_an_exponent_is_a_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = write_reference(folder, "csv")
    flags = ["--param", "ert=1e4", "--windows", "0"]
    assert cli.main(["fit", "--type", "TabularDrift", "--reference", name, "--out", "o", *flags]) == 0


def test_no_columns_are_a_wrong_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "--type", "KNN", "--reference", "x.csv", "--out", "o", "--columns", ""]) == 2
    assert "--columns names none" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "npz", "parquet"])
def test_fit_from_every_kind_of_file(folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    name = write_reference(folder, kind)
    said = run(capsys, f"fit --config offpath.yaml --monitor drift --reference {name}")
    assert "TabularDrift: 600 rows, 2 columns -> " in said
    assert "of 200 clean windows of 50 rows, held out" in said
    fitted = artifact.load(folder / "drift")
    assert [(f.name, f.kind, f.categories) for f in fitted.meta.features] == [
        ("age", "numeric", ()),
        ("sex", "categorical", ("F", "M")),
    ]
    assert fitted.meta.params["ert"] == 100
    assert not any(path.suffix in (".pkl", ".pickle", ".joblib") for path in (folder / "drift").iterdir())


def test_fit_without_a_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "fit --type KSDrift --reference train.csv --columns age --out ks --param p_val=0.01 --windows 0")
    assert "columns   age" in said
    assert "false alarms" not in said
    assert artifact.load(folder / "ks").meta.params["p_val"] == 0.01


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("fit --reference train.csv", 2, "give either --type, or --config and --monitor"),
        ("fit --type KSDrift --reference train.csv", 2, "--out is needed"),
        ("fit --type KSDrft --reference train.csv --out x", 2, "KSDrift"),
        ("fit --type KSDrift --reference train.csv --out x --param p_val=2", 2, "p_val must be between 0 and 1"),
        ("fit --type KSDrift --reference train.csv --out x --param p_val", 2, "write it as NAME=VALUE"),
        ("fit --type KSDrift --reference train.csv --out x --columns agee", 1, "no column agee; there are age, sex"),
        ("fit --type KSDrift --reference missing.csv --out x", 1, "there is no such file"),
        ("fit --type KSDrift --reference offpath.yaml --out x", 1, "unknown kind of file"),
        ("fit --type KSDrift --reference bad.csv --out x --columns age", 1, "has 2 rows, at least 20 are needed"),
        ("fit --type KSDrift --reference empty.csv --out x", 1, "holds no rows"),
        ("fit --type KSDrift --reference semicolons.csv --out x", 1, "separated by semicolons"),
        ("fit --type KSDrift --reference tabs.csv --out x", 1, "separated by tabs"),
        (
            "fit --type TabularDrift --reference ids.csv --out x",
            1,
            "column id holds 1,200 different values, and text such",
        ),
        ("fit --type KSDrift --reference zero.npz --out x", 1, "zero.npz: holds no rows"),
        ("fit --type KSDrift --reference open.csv --out x", 1, "row 1 has 1 cell, the first line names 2 columns"),
        ("fit --type KSDrift --reference index.csv --out x", 1, "column 1 has no name"),
        ("fit --type KSDrift --reference utf16.csv --out x", 1, "is not text in UTF-8"),
        ("fit --type KSDrift --reference cut.csv.gz --out x", 1, "is no readable CSV"),
        ("fit --type KSDrift --reference . --out x", 1, "is a directory"),
        ("fit --type KSDrift --reference doubled.csv --out x", 1, "more than one column is named 'age'"),
        ("fit --type KSDrift --reference noise.npz --out x", 1, "is no npz file"),
        ("fit --type KSDrift --reference train.csv --out x --columns age --windows=-1", 2, "--windows -1: must be at"),
        (
            "fit --type KSDrift --reference train.csv --columns age --out bad.csv/x",
            1,
            "fit: bad.csv/x cannot be written",
        ),
        ("fit --config offpath.yaml --monitor drft --reference train.csv", 2, 'did you mean "drift"?'),
        ("fit --config offpath.yaml --monitor drift --reference bad.csv", 1, "age"),
        ("fit --config offpath.yaml --monitor drift --log nolog.db", 1, "there is no log at"),
        ("fit --type MMDDrift --log x.db --out y", 2, "--log needs --config and --monitor"),
        ("replay --config offpath.yaml --table train.csv", 2, "there is no artefact in this directory"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], command: str, status: int, said: str) -> None:
    (folder / "bad.csv").write_text("age,sex\n30,F\nold,M\n")
    (folder / "empty.csv").write_text("age,sex\n")
    (folder / "semicolons.csv").write_text("age;sex\n30;F\n")
    (folder / "tabs.csv").write_text("age\tsex\n30\tF\n")
    (folder / "doubled.csv").write_text("age,sex, age\n30,F,30\n")
    (folder / "ids.csv").write_text("id,age\n" + "".join(f"{'u' * (i == 7)}{i},30\n" for i in range(1200)))
    (folder / "open.csv").write_text('age,sex\n"30,F\n' + "30,F\n" * 30)
    np.savez(folder / "zero.npz", x=np.zeros((0, 3)))
    (folder / "index.csv").write_text(",age\n" + "1,2\n" * 30)
    (folder / "utf16.csv").write_text(CSV, encoding="utf-16")
    (folder / "cut.csv.gz").write_bytes(gzip.compress(CSV.encode())[:-60])
    (folder / "noise.npz").write_bytes(b"noise" * 100)
    words = run(capsys, command, status)
    assert said in words
    assert "Traceback" not in words
    assert not (folder / "x").exists()


def record(i: int, rows: list[Any]) -> Record:
    headers = {
        "ce_id": str(i), "ce_source": "s", "ce_type": "org.kubeflow.serving.inference.request", "ce_modelid": "m",
        "ce_time": f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}Z",
    }  # fmt: skip
    return Record("m", headers, json.dumps({"instances": rows}).encode(), 0.0)


def write_log(folder: Path) -> None:
    """Clean rows, then young ones, an impossible one, and an unusable event."""
    rng = random.Random(0)
    records = [record(i, [[rng.randint(20, 60 if i < 150 else 25), "FM"[rng.random() < 0.3]]]) for i in range(300)]
    records[200] = record(200, [[400, "F"]])
    records[210] = record(210, [["old", "F"]])
    log = wiring.open_log(configuration.load_unfitted(folder / "offpath.yaml"))
    log.append("payloads", records)
    log.close()


def fit_both(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("drift", "outliers"):
        run(capsys, f"fit --config offpath.yaml --monitor {name} --reference train.csv --windows 0")


def test_fit_from_captured_traffic(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(folder)
    said = run(capsys, "fit --config offpath.yaml --monitor outliers --log .offpath/log.db")
    assert "columns   age" in said
    assert artifact.load(folder / "outliers").meta.n_ref == 299, "all but the unusable one"


def test_fit_from_a_log_takes_columns_and_tells_of_unusable_events(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(folder)
    command = "fit --config offpath.yaml --monitor drift --log .offpath/log.db --windows 0 --out x --columns"
    assert cli.main([*command.split(), "age"]) == 0
    said = capsys.readouterr()
    assert "columns   age\n" in said.out
    assert "warning: 1 event of .offpath/log.db could not be used: 1 not_numeric" in said.err
    assert "no column agee; there are age, sex" in run(capsys, f"{command} agee", 1)


@pytest.mark.parametrize(("n", "status"), [(19, 1), (20, 0)])
def test_every_row_of_a_short_log_is_taken(
    folder: Path, capsys: pytest.CaptureFixture[str], n: int, status: int
) -> None:
    log = wiring.open_log(configuration.load_unfitted(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [[20 + i, "FM"[i % 2]]]) for i in range(n)])
    log.close()
    said = run(capsys, "fit --config offpath.yaml --monitor drift --log .offpath/log.db", status)
    assert ("at least 20 are needed" if status else "TabularDrift: 20 rows") in said


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["f", "m"], 'column sex: its categories are F, M, but no value of the column in labels.csv is one of them; it '
                     'holds f, m; did you mean "F"?'),
        ([2, 3], "it holds 2, 3"),
    ],
)  # fmt: skip
def test_labels_that_are_no_categories_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], labels: list[Any], words: str
) -> None:
    name = "labels.csv" if labels == ["f", "m"] else "labels.npz"
    if name == "labels.csv":
        (folder / name).write_text("age,sex\n" + "".join(f"{i},{labels[i % 2]}\n" for i in range(100)))
    else:
        np.savez(folder / name, x=np.array([[i, labels[i % 2]] for i in range(100)]))
    assert words in run(capsys, f"fit --config offpath.yaml --monitor drift --reference {name}", 1)
    assert not (folder / "drift").exists()


def test_some_labels_that_are_no_categories_are_warned_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "slips.csv").write_text(CSV + '30,m\n30,M"\n30,m\n')
    command = "fit --config offpath.yaml --monitor drift --windows 0 --reference"
    assert cli.main([*command.split(), "slips.csv"]) == 0
    said = capsys.readouterr().err
    assert "warning: column sex of slips.csv: 3 of 603 values are none of its categories, such as 'm', 'M\"'" in said
    assert cli.main([*command.split(), "train.csv"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_more_false_alarms_than_promised_are_warned_of() -> None:
    broken = promise.in_words(FalseAlarms(45, 1000), 500, {"ert": 1000, "p_val": None})
    assert "45 of 1000 clean windows" in broken.line
    assert "promised in 0.1% of clean windows (ert: 1000), but came in 4.50%, at least 3.30%" in broken.warning
    assert "larger windows" in broken.warning
    assert promise.in_words(FalseAlarms(45, 1000), 500, {"p_val": 0.05, "ert": None}).warning == ""
    assert promise.in_words(FalseAlarms(1, 200), 500, {"ert": 1000}).warning == "", "as likely as not by chance"
    assert "not measured" in promise.in_words(FalseAlarms(0, 0, 10), 500, {"ert": 1000}).line


def test_fit_warns_of_a_promise_that_the_reference_breaks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.calibrate.false_alarm_rate", lambda *_: FalseAlarms(45, 200))
    assert cli.main(["fit", "--config", "offpath.yaml", "--monitor", "drift", "--reference", "train.csv"]) == 0
    said = capsys.readouterr()
    assert "warning: false alarms are promised in 1% of clean windows (ert: 100)" in said.err
    assert "45 of 200" in said.out


async def judge(settings: Any) -> None:
    assembly = wiring.build(settings)
    commit = assembly.source.commit

    async def watch(checkpoints: Mapping[str, Any]) -> None:
        await commit(checkpoints)
        assembly.worker.stop()

    assembly.source.commit = watch  # type: ignore[method-assign]
    await asyncio.wait_for(assembly.worker.run(), 60)
    await assembly.close()


def test_replay_says_what_the_worker_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(folder)
    fit_both(capsys)
    before = run(capsys, "replay --config offpath.yaml --json --all")
    asyncio.run(judge(configuration.load(folder / "offpath.yaml")))
    after = run(capsys, "replay --config offpath.yaml --json --all")
    assert before == after, "a replay leaves no trace"
    alarms = run(capsys, "replay --config offpath.yaml --json")
    assert alarms.splitlines() == [line for line in before.splitlines() if json.loads(line)["alarm"]]
    replayed = {found["id"]: found for found in map(json.loads, before.splitlines())}
    store = FindingStore(folder / ".offpath" / "findings.db")
    stored = {found["id"]: found for found in store.findings(limit=1000)}
    store.close()
    assert replayed == stored
    assert {found["monitor"] for found in stored.values() if found["alarm"]} == {"drift", "outliers"}


def test_replay_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(folder)
    fit_both(capsys)
    assert cli.main(["replay"]) == 0
    said = capsys.readouterr()
    assert "ALARM" in said.out
    assert "age: mean" in said.out
    assert "age = 400" in said.out
    assert said.out.splitlines()[-1].endswith("rows flagged, 1 unusable event (1 not_numeric)")
    assert re.search(r"outliers +outlier +age = 400", said.out)
    assert "payloads/0:210  unusable: not_numeric: age: 'old' where a number belongs" in said.err
    only = run(capsys, "replay --monitor outliers --all")
    assert "outliers" in only
    assert " drift " not in only


def unnamed(folder: Path, **changes: Any) -> None:
    """The configuration, without the model's columns, and both monitors on all of them."""
    document = yaml.safe_load((folder / "offpath.yaml").read_text())
    document["models"] = [{"name": "m"}]
    for monitor in document["monitors"]:
        monitor.pop("columns", None)
        monitor.update(changes)
    (folder / "offpath.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("kind", ["artifact", "reference"])
@pytest.mark.parametrize("named", [True, False])
def test_columns_that_nobody_configured_are_those_of_the_detector(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, named: bool
) -> None:
    """By name and with their labels, in whatever order, and whatever else the payload holds; else by position."""
    detector: dict[str, Any] = {"type": "TabularDrift", "params": {"ert": 10_000}, kind: "train.csv"}
    if kind == "artifact":
        run(capsys, "fit --type TabularDrift --reference train.csv --param ert=10000 --out fitted --windows 0")
        detector["artifact"] = "fitted"
    unnamed(folder, detector=detector)
    rows: list[Any] = [line.split(",") for line in CSV.splitlines()[1:]]
    rows = [{"id": i, "sex": sex, "age": int(age)} if named else [int(age), sex] for i, (age, sex) in enumerate(rows)]
    log = wiring.open_log(configuration.load(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [row]) for i, row in enumerate(rows)])
    log.close()
    said = run(capsys, "replay --monitor drift").splitlines()
    assert said == ["12 windows judged, 0 alarms, 0 rows flagged, 0 unusable events"]


def test_a_log_whose_payloads_name_their_columns_is_fitted_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed(folder, detector={"type": "KSDrift", "artifact": "x"})
    rows = [{"age": i % 50, "pay": 1000 + 7 * i % 50} for i in range(400)]
    log = wiring.open_log(configuration.load_unfitted(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [row if i % 2 else dict(reversed(row.items()))]) for i, row in enumerate(rows)])
    log.close()
    said = run(capsys, "fit --config offpath.yaml --monitor drift --log .offpath/log.db --windows 0")
    assert "columns   pay, age\n" in said
    assert run(capsys, "replay --monitor drift").splitlines()[-1].startswith("8 windows judged, 0 alarms")


@pytest.mark.parametrize("named_first", [False, True])
def test_a_log_in_which_some_payloads_name_their_columns(
    folder: Path, capsys: pytest.CaptureFixture[str], named_first: bool
) -> None:
    """Keys have no order: what belongs to what is not guessed, and what is left out is told."""
    unnamed(folder, detector={"type": "KSDrift", "artifact": "x"})
    bare: list[list[Any]] = [[[20 + i % 50, 1000 + i]] for i in range(50)] + [[[1]]]
    named: list[list[Any]] = [[{"pay": 1000 + i, "age": 20 + i % 50}] for i in range(60)]
    rows = [*named, *bare] if named_first else [*bare, *named]
    log = wiring.open_log(configuration.load_unfitted(folder / "offpath.yaml"))
    log.append("payloads", [record(i, row) for i, row in enumerate(rows)])
    log.close()
    command = "fit --config offpath.yaml --monitor drift --log .offpath/log.db --windows 0"
    assert cli.main(command.split()) == 0
    said = capsys.readouterr()
    if named_first:
        assert "60 rows" in said.out
        assert "columns   pay, age\n" in said.out
        assert "51 wrong_columns (the payload names no columns, earlier ones name theirs: list the model's" in said.err
    else:
        assert "50 rows" in said.out
        assert "columns   x0, x1\n" in said.out
        assert "61 wrong_columns (the payload has 1 columns, others have 2)" in said.err


def test_labels_of_columns_that_nobody_configured_need_categories(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed(folder, detector={"type": "TabularDrift", "artifact": "x"})
    log = wiring.open_log(configuration.load_unfitted(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [[30, "F"]]) for i in range(30)])
    log.close()
    said = run(capsys, "fit --config offpath.yaml --monitor drift --log .offpath/log.db", 1)
    assert "30 not_numeric (column 1: 'F' where a number belongs; labels need the model's features, with" in said


def test_replay_tells_a_few_unusable_events_and_counts_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_both(capsys)
    log = wiring.open_log(configuration.load(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [["old", "F"]]) for i in range(30)])
    log.close()
    assert cli.main(["replay", "--monitor", "drift"]) == 0
    said = capsys.readouterr()
    assert said.err.count("unusable: not_numeric") == 10
    assert "30 unusable events (30 not_numeric)" in said.out
    assert cli.main(["replay", "--monitor", "drift", "--all"]) == 0
    assert capsys.readouterr().err.count("unusable: not_numeric") == 30


def test_joined_sides_of_a_detector_with_names_need_configured_columns(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed(folder, detector={"type": "TabularDrift", "reference": "train.csv"}, side="joined")
    (mistake, _) = configuration.check(folder / "offpath.yaml", {})
    assert mistake.path == "monitors[0].side"
    assert "which of age, sex are the request's" in mistake.expected
    np.savez(folder / "train.npz", x_ref=np.random.default_rng(0).normal(size=(200, 3)))
    unnamed(folder, detector={"type": "KSDrift", "reference": "train.npz"})
    assert configuration.check(folder / "offpath.yaml", {}) == ()


def test_replay_over_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_both(capsys)
    (folder / "young.csv").write_text("sex,age\n" + "F,21\nM,22\n" * 100)
    said = run(capsys, "replay --table young.csv --monitor drift")
    assert said.count("ALARM") == 4
    assert said.splitlines()[0].startswith("rows 1 to 50         drift ")
    assert said.splitlines()[-1] == "4 windows judged, 4 alarms, 0 rows flagged"
    assert not (folder / ".offpath").exists(), "nothing is written"


def test_replay_tells_in_the_order_of_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both monitors judge blocks of 256 rows in turns, and their windows are of other sizes."""
    fit_both(capsys)
    (folder / "young.csv").write_text("age,sex\n" + "21,F\n" * 45 + "400,M\n" + "22,M\n" * 154 + "23,F\n" * 400)
    lines = run(capsys, "replay --table young.csv --all").splitlines()
    ends = [int(found[1].replace(",", "")) for line in lines if (found := re.match(r"rows? (?:\d+ to )?(\d+) ", line))]
    assert len(ends) == 600 // 50 + 600 // 40 + 1
    assert ends == sorted(ends)
    assert any(re.match(r"row 46 +outliers +outlier +age = 400", line) for line in lines)
    told = json.loads(run(capsys, "replay --table young.csv --json --all").splitlines()[0])
    assert (told["time"], told["start"], told["end"]) == (None, None, None)
    assert told["last"]["offset"] in (39, 45, 49)


def test_replay_over_several_partitions_tells_in_the_order_of_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_both(capsys)
    document = yaml.safe_load((folder / "offpath.yaml").read_text())
    (folder / "offpath.yaml").write_text(yaml.safe_dump({**document, "transport": {"partitions": 2}}))
    log = wiring.open_log(configuration.load(folder / "offpath.yaml"))
    log.append("payloads", [record(i, [[400, "F"]])._replace(key="ad"[i % 2]) for i in range(900)])
    assert [stats.end > 256 for stats in log.stats("payloads")] == [True, True]
    log.close()
    lines = run(capsys, "replay --monitor outliers").splitlines()
    times = [line[:19] for line in lines[:-1]]
    assert len(set(times)) == 900
    assert times == sorted(times)
    assert sum("ALARM" in line and "rows flagged, 0." in line for line in lines) == 2 * (450 // 40)


def test_replay_says_why_there_is_nothing_to_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_both(capsys)
    log = wiring.open_log(configuration.load(folder / "offpath.yaml"))
    other = record(1, [[30, "F"]])
    log.append("payloads", [other._replace(headers={**other.headers, "ce_modelid": "other"})])
    log.close()
    assert run(capsys, "replay --monitor drift").splitlines() == [
        "drift: no rows came",
        "0 windows judged, 0 alarms, 0 rows flagged, 0 unusable events; passed over: 1 unknown model",
    ]


def test_replay_does_not_count_windows_with_too_little_data_as_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_both(capsys)
    document = yaml.safe_load((folder / "offpath.yaml").read_text())
    for monitor in document["monitors"]:
        monitor["window"] = {"time": "10s"}
    (folder / "offpath.yaml").write_text(yaml.safe_dump(document))
    (folder / "some.csv").write_text("sex,age\n" + "F,21\n" * 50)
    *_, why, summary = run(capsys, "replay --table some.csv --monitor drift").splitlines()
    assert why.startswith("drift: of 4 windows 4 had too little data to be judged; the last: too little data: 10 rows,")
    assert summary == "0 windows judged, 4 windows with too little data, 0 alarms, 0 rows flagged"
    assert cli.main(["replay", "--table", "some.csv", "--monitor", "drift", "--json"]) == 0
    said = capsys.readouterr()
    assert said.out == "", "findings alone"
    assert said.err.splitlines() == [why, summary]


def test_replay_says_which_monitor_a_table_is_not_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_both(capsys)
    (folder / "ages.csv").write_text("age\n" + "21\n" * 100)
    assert "for monitor drift; --monitor leaves out others" in run(capsys, "replay --table ages.csv", 1)
    assert "windows judged" in run(capsys, "replay --table ages.csv --monitor outliers")


def test_replay_over_too_short_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_both(capsys)
    (folder / "few.csv").write_text("sex,age\n" + "F,21\n" * 20)
    assert run(capsys, "replay --table few.csv --monitor drift").splitlines() == [
        "drift: no window was full, the last one is filled to 40%",
        "0 windows judged, 0 alarms, 0 rows flagged",
    ]


def test_a_spreadsheets_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Excel begins it with a byte-order mark."""
    (folder / "excel.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "train.csv").read_bytes())
    run(capsys, "fit --type KSDrift --columns age --reference excel.csv --out x --windows 0")
    assert [feature.name for feature in artifact.load(folder / "x").meta.features] == ["age"]


def test_an_empty_column_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gaps.csv").write_text("age,pay\n" + "30,NA\n31,inf\n" * 20)
    assert cli.main(["fit", "--type", "KSDrift", "--reference", "gaps.csv", "--out", "x", "--windows", "0"]) == 0
    said = capsys.readouterr().err
    assert "column pay of the reference holds no value at all" in said
    assert "column age" not in said


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_progress_is_told(folder: Path, kind: str) -> None:
    told: list[float] = []
    path = folder / f"long.{kind}"
    if kind == "csv":
        path.write_text("age\n" + "30\n" * 20_000)
    else:
        parquet = pytest.importorskip("pyarrow.parquet", reason='Parquet needs pip install "offpath[parquet]"')
        table = pytest.importorskip("pyarrow").table({"age": list(range(5000))})
        parquet.write_table(table, path, row_group_size=1000)
    tables.read(path, progress=told.append)
    assert len(told) >= 4
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


def test_progress_through_a_log_is_told(folder: Path) -> None:
    write_log(folder)
    told: list[float] = []
    settings = configuration.load_unfitted(folder / "offpath.yaml")
    wiring.captured_rows(settings, settings.models[0], settings.monitors[0], folder / ".offpath/log.db", told.append)
    assert told == [256 / 300, 1.0]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_what_has_been_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress_bar(quiet=False) as bar:
        bar.step("reading").__enter__()(0.25)  # a step that ends is done, and shown as such
    assert "reading" in terminal.getvalue()
    assert "25%" in terminal.getvalue()
    with progress_bar(quiet=True) as bar, bar.step("reading") as progress:
        progress(0.75)
    assert "75%" not in terminal.getvalue()


def test_columns_of_a_table_without_features(folder: Path) -> None:
    table = tables.read(folder / "train.csv")
    assert [(f.name, f.kind, f.categories) for f in table.features] == [
        ("age", "numeric", ()),
        ("sex", "categorical", ("F", "M")),
    ]
    assert table.rows.shape == (600, 2)


@pytest.mark.parametrize("cells", [["2", "4", "7"], ["2.0", "4.0", "7.0"], [2, 4, 7], [2.0, 4.0, 7.0]])
def test_numbers_that_are_labels_mean_the_same_as_in_traffic(folder: Path, cells: list[Any]) -> None:
    doors = Feature("doors", "categorical", ("2", "4"))
    if isinstance(cells[0], str):
        (folder / "doors.csv").write_text("doors\n" + "\n".join([*cells, "many"]))
    else:
        np.savez(folder / "doors.csv.npz", doors=np.array(cells))
    name = "doors.csv" if isinstance(cells[0], str) else "doors.csv.npz"
    assert tables.read(folder / name, [doors]).rows[:3, 0].tolist() == [0.0, 1.0, UNSEEN]


def test_dates_are_labels(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='Parquet needs pip install "offpath[parquet]"')
    table = pytest.importorskip("pyarrow").table({"day": [date(2026, 1, 2), None, date(2026, 1, 1)]})
    parquet.write_table(table, folder / "days.parquet")
    found = tables.read(folder / "days.parquet")
    assert found.features[0].categories == ("2026-01-01", "2026-01-02")
    np.testing.assert_array_equal(found.rows[:, 0], [1.0, np.nan, 0.0])


def test_fit_says_which_columns_it_took_for_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "slip.csv").write_text("age,pay\n" + "30,1\n31,2\n" * 20 + "3O,2\n")
    said = run(capsys, "fit --type TabularDrift --reference slip.csv --out x --windows 0")
    assert "columns   age (3 labels), pay\n" in said
    ids = "id,age\n" + "".join(f"u{i},30\n" for i in range(1200))
    (folder / "ids.csv").write_text(ids)
    assert "1 column ->" in run(capsys, "fit --type KSDrift --reference ids.csv --columns age --out y --windows 0")


def test_lists_are_no_values(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='Parquet needs pip install "offpath[parquet]"')
    table = pytest.importorskip("pyarrow").table({"a": [[1, 2], [3]], "b": [1, 2]})
    parquet.write_table(table, folder / "lists.parquet")
    with pytest.raises(tables.TableError, match="column a holds lists or objects"):
        tables.read(folder / "lists.parquet")
    assert tables.read(folder / "lists.parquet", columns=["b"]).rows.tolist() == [[1.0], [2.0]]
