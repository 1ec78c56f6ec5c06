"""Every mistake of a configuration: its line, its place, what was expected, and the nearest word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor import configuration
from monitor.configuration import ConfigurationError, Mistake
from monitor.configuration.reference import reference
from monitor.configuration.schema import json_schema
from monitor.settings import KafkaTransportSettings, Settings

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"

GOOD = """\
models:
  - name: income
    features:
      - name: age
      - {name: sex, type: categorical, categories: [F, M]}
    outputs:
      - name: p
monitors:
  - name: drift
    model: income
    window: {count: 100}
    detector:
      type: TabularDrift
      reference: train.csv
      params: {ert: 400}
    sinks: [store]
sinks:
  - {type: store, path: findings.db}
  - {type: jsonlines, path: "-"}
worker:
  listen: 127.0.0.1:9090
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text("age,sex\n" + "1,F\n2,M\n" * 20)
    return tmp_path


def check(folder: Path, text: str, **environ: str) -> list[Mistake]:
    path = folder / "offpath.yaml"
    path.write_text(text)
    return list(configuration.check(path, environ))


def test_a_good_one_has_no_mistakes(folder: Path) -> None:
    assert check(folder, GOOD) == []
    loaded = configuration.load(folder / "offpath.yaml", {})
    assert loaded.monitors[0].detector.reference == str(folder / "train.csv"), "relative to the file"
    assert loaded.transport.path == str(folder / ".offpath/log.db")


def test_a_path_may_be_below_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    text = GOOD.replace("path: findings.db", "path: ~/findings.db").replace("train.csv", "~/train.csv")
    assert check(folder, text) == []
    loaded = configuration.load(folder / "offpath.yaml", {})
    assert loaded.monitors[0].detector.reference == str(folder / "train.csv")
    assert getattr(loaded.sinks[0], "path", None) == str(folder / "findings.db")
    assert "~nobody-here/x.csv" in str(check(folder, GOOD.replace("train.csv", "~nobody-here/x.csv")))


# replaced text, by what, line, path, said, nearest word
MISTAKES = [
    ("    window:", "    windw:", 11, "monitors[0].windw", "unknown key", "window"),
    ("worker:\n", "wroker:\n", 20, "wroker", "unknown key", "worker"),
    ("TabularDrift", "TabularDrft", 13, "monitors[0].detector.type", "expected one of", "TabularDrift"),
    ("model: income", "model: incme", 10, "monitors[0].model", "there is no such model; there are income", "income"),
    ("sinks: [store]", "sinks: [stor]", 16, "monitors[0].sinks[0]", "there is no such sink", "store"),
    ("ert: 400", "ertt: 400", 15, "monitors[0].detector.params.ertt", "unknown parameter; TabularDrift has", "ert"),
    ("ert: 400", "ert: 0.5", 15, "monitors[0].detector.params.ert", "above 1", ""),
    ("ert: 400", "ert: 400, p_val: 0.1", 15, "monitors[0].detector.params.ert", "not both", ""),
    ("type: store", "type: stroe", 18, "sinks[0].type", "expected one of store, prometheus", "store"),
    ("type: categorical", "type: categorial", 5, "models[0].features[1].type", "expected one of", "categorical"),
    ("{count: 100}", "{count: many}", 11, "monitors[0].window.count", "expected a whole number", ""),
    ("{count: 100}", "{count: 0}", 11, "monitors[0].window.count", "expected at least 1", ""),
    ("{count: 100}", "{count: 10, time: 5m}", 11, "monitors[0].window", "exactly one of count, time or sliding", ""),
    ("{count: 100}", "{time: 5 minutes}", 11, "monitors[0].window.time", "a duration is a number with", ""),
    ("{count: 100}", "", 11, "monitors[0].window", "expected keys and values: count, time", ""),
    ("      type: TabularDrift\n", "", 12, "monitors[0].detector.type", "is required and missing", ""),
    ("      reference: train.csv\n", "", 12, "monitors[0].detector", "give either artifact or reference", ""),
    ("train.csv", "trian.csv", 14, "monitors[0].detector.reference", "there is no such file", "train.csv"),
    ("reference: train.csv", "artifact: nowhere", 14, "monitors[0].detector.artifact", "no artefact", ""),
    ("categories: [F, M]", "categories: [F, F]", 5, "models[0].features[1].categories[1]", "is category 0 too", ""),
    ("name: sex, type: categorical", "name: sex", 5, "models[0].features[1].categories", "say type: categorical", ""),
    ("- {name: sex,", "- {name: age,", 5, "models[0].features[1].name", "is the name of column 0 too", ""),
    ("name: drift", "name: drift!", 9, "monitors[0].name", "expected a name", ""),
    ("127.0.0.1:9090", "9090", 21, "worker.listen", "expected host:port, for example", ""),
    ("127.0.0.1:9090", "localhost", 21, "worker.listen", "expected host:port", ""),
    ("    sinks: [store]", "    columns: [agee]", 16, "monitors[0].columns[0]", "is no column of model income", "age"),
    ("    sinks: [store]", "    columns: []", 16, "monitors[0].columns", "is empty", ""),
    ("    sinks: [store]", "    count: 5", 16, "monitors[0].count", "it belongs under window", ""),
    ("    sinks: [store]", "    model: income", 16, "monitors[0].model", "is given twice; the first is in line 10", ""),
    ("type: jsonlines, path: \"-\"", "type: store, path: findings.db, name: b", 19, "sinks[1].type", "the same as", ""),
    ("worker:", "capture: {url: nowhere}\nworker:", 20, "capture.url", "begins with http://", ""),
    ("worker:", "capture: {url: 'http://b:99999/'}\nworker:", 20, "capture.url", "its port is none from 1", ""),
    ("worker:", "capture: {url: 'http://b:80a/'}\nworker:", 20, "capture.url", "its port is none from 1", ""),
    ("worker:", "capture: {url: 'http://b:0/'}\nworker:", 20, "capture.url", "its port is none from 1", ""),
    ("worker:", "capture: {url: 'http://[::1/'}\nworker:", 20, "capture.url", "this host cannot be read", ""),
    ("worker:", "capture: {url: 'http://a..b/'}\nworker:", 20, "capture.url", "this host cannot be read", ""),
    ("worker:", "capture: {url: 'https://me@:8080/'}\nworker:", 20, "capture.url", "this cannot be read", ""),
    ('jsonlines, path: "-"', "cloudevents, url: 'http://[::1/'", 19, "sinks[1].url", "this host cannot be read", ""),
    ("worker:", "capture: {include: [score]}\nworker:", 20, "capture.include[0]", "begins with / or *", ""),
    ("worker:", "capture: {include: []}\nworker:", 20, "capture.include", "nothing would be captured", ""),
    ("worker:", "capture: {exclude: [inference]}\nworker:", 20, "capture.exclude", "out of include", ""),
    ("worker:", "capture: {sample: 1.5}\nworker:", 20, "capture.sample", "expected at most 1", ""),
    ("worker:", "capture: {sample_rules: [{side: reqest, rate: 1}]}\nworker:", 20, "capture.sample_rules[0].side",
     "expected one of request, response", "request"),
    ("worker:", "capture: {combined: true, mode: request}\nworker:", 20, "capture.combined", "needs mode: all", ""),
    ("worker:", "capture: {combined: true, sample_rules: [{side: request, rate: 1}]}\nworker:", 20,
     "capture.sample_rules", "a combined event has no side", ""),
    ("worker:", "\tworker:", 20, "", "indent with spaces", ""),
    ("    model: income", "    model: a: b", 10, "", "put text that holds ': ' in quotes", ""),
    ("{count: 100}", "{count: yes}", 11, "monitors[0].window.count", "expected a whole number", ""),
    ("{count: 100}", '{count: "100"}', 11, "monitors[0].window.count", "expected a whole number", ""),
    ("{count: 100}", "{count: 100.0}", 11, "monitors[0].window.count", "expected a whole number", ""),
    ("{count: 100}", "{time: yes}", 11, "monitors[0].window.time", "a duration is a number with", ""),
    ("{count: 100}", "{time: 99999999d}", 11, "monitors[0].window.time", "at most 36500d", ""),
    ("{count: 100}", "{count: 100, lateness: 5s}", 11, "monitors[0].window.lateness", "no meaning without time", ""),
    ("{count: 100}", "{count: 100, step: 5}", 11, "monitors[0].window.step", "no meaning without sliding", ""),
    ("{count: 100}", "{sliding: 100, step: 101}", 11, "monitors[0].window.step", "expected at most the window's", ""),
    ("{count: 100}", "{count: 19}", 11, "monitors[0].window.count", "expected at least 20", ""),
    ("{count: 100}", "{sliding: 19}", 11, "monitors[0].window.sliding", "expected at least 20", ""),
    ("{count: 100}", "{time: 5m, max_rows: 19}", 11, "monitors[0].window.max_rows", "expected at least 20", ""),
    ("{count: 100}", "{count: 100, merge: true}", 11, "monitors[0].window.merge", "no meaning without time", ""),
    ("{count: 100}", "{time: 5m, sample: 500}", 11, "monitors[0].window.sample", "no meaning without merge", ""),
    ("{count: 100}", "{time: 5m, merge: true, max_rows: 99}", 11, "monitors[0].window.max_rows", "or say sample", ""),
    ("{count: 100}", "{time: 5m, merge: true, sample: 99}", 11, "monitors[0].window.sample", "at least 100", ""),
    ("{count: 100}", "{time: 5m, merge: 1}", 11, "monitors[0].window.merge", "expected true or false", ""),
    ("ert: 400", "ert: many", 15, "monitors[0].detector.params.ert", "ert must be a finite number, got 'many'", ""),
    ("ert: 400", "worst: yes", 15, "monitors[0].detector.params.worst", "must be a whole number, got true", ""),
    ("ert: 400", "correction: [bh]", 15, "monitors[0].detector.params.correction", "must be one of none", ""),
    ("findings.db}", "findings.db, keep: yes}", 18, "sinks[0].keep", "expected a whole number", ""),
    ("worker:\n", "worker:\n  lookback: true\n", 21, "worker.lookback", "expected a whole number", ""),
    ("worker:", "capture: {combined: 1}\nworker:", 20, "capture.combined", "expected true or false", ""),
    ("worker:", "capture: {workers: 65}\nworker:", 20, "capture.workers", "expected at most 64", ""),
    ("worker:", f"capture: {{max_body: {'9' * 400}}}\nworker:", 20, "capture.max_body", "at most 1048576GiB", ""),
    ("{count: 100}", "{count: 1,000}", 11, "monitors[0].window", "numbers are written without commas", ""),
    ("ert: 400", "ert: 1,000", 15, "monitors[0].detector.params", "numbers are written without commas", ""),
    ("    sinks: [store]", "    alarm: {min_effect_size: 3}", 16, "monitors[0].alarm.min_effect_size",
     "expected at most 1", ""),
    ("ert: 400", "ert: 400, srt: 1", 15, "monitors[0].detector.params.srt", "unknown parameter", "ert"),
    ("worker:", "capture: {upstream: 'localhost:9081'}\nworker:", 20, "capture.upstream", "own listen", ""),
    ("worker:", "capture: {admin: ':9081'}\nworker:", 20, "capture.admin", "another address than listen", ""),
    ("TabularDrift\n", "KSDrift\n", 14, "monitors[0].detector.reference", "'sex' is categorical", ""),
    ("name: age", 'name: ""', 4, "models[0].features[0].name", "is empty", ""),
    ("[F, M]", "[F, M", 5, "", "is no valid YAML", ""),
]  # fmt: skip


def test_the_examples_of_the_page_on_kafka_are_right(folder: Path) -> None:
    for name in ("ca.pem", "client.crt", "client.key"):
        (folder / name).touch()
    examples = re.findall(r"```yaml\n(.*?)```", (DOCS.parent / "kafka.md").read_text(), flags=re.DOTALL)
    assert len(examples) == 5
    for example in examples:
        assert check(folder, example) == [], example


@pytest.mark.parametrize(
    ("transport", "path", "expected"),
    [
        ("{type: kafkaa}", "transport.type", "embedded, kafka"),
        ("{type: kafka}", "transport.bootstrap", "required"),
        ("{type: kafka, bootstrap: a}", "transport.bootstrap", "host:port"),
        ("{type: kafka, bootstrap: 'a:1', bootstrp: b}", "transport.bootstrp", "unknown key"),
        ("{bootstrap: 'a:1'}", "transport.bootstrap", "known are type, path"),
        ("{type: kafka, bootstrap: 'a:1', security: {ca: train.csv}}", "transport.security.ca", "uses none"),
        (
            "{type: kafka, bootstrap: 'a:1', security: {protocol: SSL, ca: x}}",
            "transport.security.ca",
            "there is no such file",
        ),
        (
            "{type: kafka, bootstrap: 'a:1', security: {protocol: SASL_SSL}}",
            "transport.security.protocol",
            "needs a username",
        ),
        ("{type: kafka, bootstrap: 'a:1', state: payloads}", "transport.state", "another topic"),
        ("{type: kafka, bootstrap: 'a:1', state: offpath-summaries}", "transport.state", "another topic"),
        ("{type: kafka, bootstrap: 'a:1', summaries: payloads}", "transport.summaries", "another topic"),
        ("{summaries: dead-letters}", "transport.summaries", "another topic"),
    ],
)
def test_mistakes_of_a_transport(folder: Path, transport: str, path: str, expected: str) -> None:
    (mistake,) = check(folder, f"transport: {transport}\n")
    assert (mistake.path, expected in mistake.expected) == (path, True), mistake


def test_windows_that_cannot_be_merged(folder: Path) -> None:
    merging = GOOD.replace("{count: 100}", "{time: 5m, merge: true, sample: 50000}")
    assert check(folder, merging) == []
    (mistake,) = check(folder, merging + "transport: {type: kafka, bootstrap: 'a:1'}\n")
    assert mistake.path == "monitors[0].window.sample"
    assert "say at most 41,539" in mistake.expected
    assert check(folder, merging.replace("50000", "41539") + "transport: {type: kafka, bootstrap: 'a:1'}\n") == []
    (mistake,) = check(folder, merging.replace("TabularDrift", "IForest").replace("ert: 400", "share: 0.1"))
    assert (mistake.path, "no use to IForest" in mistake.expected) == ("monitors[0].window.merge", True)


def test_no_secret_of_kafka_is_shown(folder: Path) -> None:
    text = "transport: {type: kafka, bootstrap: 'a:1', security: {password: hush-hush}}\n"
    (mistake,) = check(folder, text, OFFPATH_KAFKA_PASSWORD="hush-hush")
    assert "hush-hush" not in str(mistake)


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "said", "nearest"), MISTAKES, ids=[str(m[1])[:30] for m in MISTAKES]
)
def test_one_mistake(folder: Path, old: str, new: str, line: int, path: str, said: str, nearest: str) -> None:
    assert GOOD.count(old) >= 1
    found = check(folder, GOOD.replace(old, new, 1))
    mistakes = [m for m in found if m.path == path and said in m.expected]
    assert mistakes, "\n".join(map(str, found))
    assert mistakes[0].line == line or not path
    assert mistakes[0].nearest == nearest
    assert str(mistakes[0]).startswith(f"{folder / 'offpath.yaml'}:{mistakes[0].line}:")


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    text = GOOD
    wanted = []
    for old, new, line, path, *_ in (MISTAKES[0], MISTAKES[3], MISTAKES[8], MISTAKES[17], MISTAKES[24]):
        text = text.replace(old, new, 1)
        wanted.append((line, path))
    assert {(m.line, m.path) for m in check(folder, text)} >= set(wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "expected keys such as models: and monitors:"),
        (b"text", "expected keys such as"),
        (b"models: \xff\xfe", "is no UTF-8 text"),
        (b"models: [" + b"[" * 100_000, "nested too deeply"),
        (b"a: &a [*a]", "holds itself"),
        (b"x" * 2_000_000, "is larger than"),
        (b"models: &a [&b [1, 1], *b]\nm2: !!python/object/apply:os.system [id]", "m2"),
    ],
)
def test_files_that_are_none(folder: Path, content: bytes, said: str | None) -> None:
    path = folder / "offpath.yaml"
    path.write_bytes(content)
    found = configuration.check(path, {})
    assert [said in str(m) for m in found].count(True) >= 1 if said else found == ()


def test_a_file_that_is_not_there(folder: Path) -> None:
    (mistake,) = configuration.check(folder / "missing.yaml", {})
    assert str(mistake) == f"{folder / 'missing.yaml'}: the file: cannot be read: No such file or directory"


def test_numbers_of_any_spelling_and_addresses_of_any_kind(folder: Path) -> None:
    text = (
        GOOD.replace("ert: 400", "p_val: 1e-3") + "capture: {sample: 1e-3, listen: 'unix:/run/in.sock', admin: ':1'}\n"
    )
    assert check(folder, text, OFFPATH_CAPTURE__SAMPLE="1e-2", OFFPATH_WORKER__LOOKBACK="10") == []
    loaded = configuration.load(folder / "offpath.yaml", {"OFFPATH_CAPTURE__SAMPLE": "1e-2"})
    assert (loaded.capture.sample, loaded.monitors[0].detector.params["p_val"]) == (0.01, 0.001)


def load(folder: Path, **environ: str) -> Settings:
    (folder / "offpath.yaml").write_text(GOOD)
    return configuration.load(folder / "offpath.yaml", environ)


def test_the_environment_overrides_single_values(folder: Path) -> None:
    loaded = load(
        folder,
        OFFPATH_WORKER__LISTEN="0.0.0.0:1",
        OFFPATH_MONITORS__DRIFT__WINDOW__COUNT="500",
        OFFPATH_MONITORS__0__ALARM__CONSECUTIVE="2",
        OFFPATH_SINKS__STORE__PATH="other.db",
        OFFPATH_MODELS__INCOME__NAMESPACE="123",
        OFFPATH_CAPTURE="{listen: ':1', model: m}",
        HOME="/root",
        OFFPATH_PORT="tcp://10.0.0.1:80",
    )
    assert loaded.worker.listen == "0.0.0.0:1"
    assert loaded.monitors[0].window.count == 500
    assert loaded.monitors[0].alarm.consecutive == 2
    assert loaded.sinks[0].path == str(folder / "other.db")  # type: ignore[union-attr]
    assert loaded.models[0].namespace == "123", "text stays text"
    assert loaded.capture.model == "m"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OFFPATH_WORKER__LISTN", "x:1", 'worker.listn: unknown key; did you mean "listen"?'),
        ("OFFPATH_WROKER__LISTEN", "x:1", 'did you mean "worker"?'),
        ("OFFPATH_WORKER_LISTEN", "x:1", 'did you mean "OFFPATH_WORKER__LISTEN"?'),
        ("OFFPATH_MONITORS__DRFT__MODEL", "x", 'did you mean "drift"?'),
        ("OFFPATH_MONITORS__DRIFT__WINDOW__COUNT", "many", "monitors[0].window.count: expected a whole number"),
        ("OFFPATH_WORKER__LISTEN__PORT", "1", "is a single value, with nothing below it"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(folder: Path, variable: str, value: str, said: str) -> None:
    (mistake,) = check(folder, GOOD, **{variable: value})
    assert said in str(mistake)
    assert mistake.origin == variable


def test_a_mistake_of_a_section_names_the_variable_that_made_it(folder: Path) -> None:
    (mistake,) = check(folder, GOOD, OFFPATH_MONITORS__DRIFT__WINDOW__COUNT="")
    assert mistake.path == "monitors[0].window"
    assert mistake.expected.endswith("(given: none), with OFFPATH_MONITORS__DRIFT__WINDOW__COUNT")


@pytest.mark.parametrize(
    ("window", "paths"),
    [
        ("{count: 100, lateness: 10s, step: 10}", ["lateness", "step"]),
        ("{time: 0s, step: 3}", ["time", "step"]),
        ("{count: 100, sliding: 100, lateness: 10s, merge: true}", ["", "lateness", "merge"]),
        ("{count: 100, time: 5m, step: 0}", ["", "step"]),
        ("{count: many}", ["count"]),
        ("{count: 100, lateness: many, step: 10}", ["lateness", "step"]),
        ("{time: many, lateness: 5s, step: 10}", ["time", "step"]),
        ("{time: 5m, smple: 9, merge: false, max_rows: 0}", ["smple", "max_rows"]),
    ],
)
def test_all_that_is_wrong_with_a_section_is_told_at_once(folder: Path, window: str, paths: list[str]) -> None:
    """And nothing that follows from a value that is wrong itself."""
    found = check(folder, GOOD.replace("{count: 100}", window))
    assert [mistake.path.removeprefix("monitors[0].window").removeprefix(".") for mistake in found] == paths


def test_conflicts_are_told_beside_wrong_values(folder: Path) -> None:
    wrong = "capture: {upstream: 'localhost:9081', mode: reqest, headers: [cookie, x-api-key], tls: {key: k}}\nworker:"
    found = check(folder, GOOD.replace("worker:", wrong))
    assert [mistake.path for mistake in found] == [
        f"capture.{key}" for key in ("upstream", "mode", "headers", "tls.key")
    ]


def test_a_section_that_is_only_in_the_environment(folder: Path) -> None:
    (folder / "offpath.yaml").write_text("models: []\n")
    loaded = configuration.load(folder / "offpath.yaml", {"OFFPATH_INGEST__MAX_BODY": "10MiB"})
    assert loaded.ingest.max_body == "10MiB"


def mutations(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below: list[tuple[Any, ...]] = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        below += mutations(inner, (*path, key))
    return below


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 999), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_other_value_anywhere_is_taken_or_told(folder: Path, data: st.DataObject) -> None:
    document = yaml.safe_load(GOOD)
    path = data.draw(st.sampled_from(mutations(document)))
    at = document
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = data.draw(anything)
    file = folder / "offpath.yaml"
    file.write_text(yaml.safe_dump(document))
    error: ConfigurationError | None = None
    try:
        configuration.load(file, {})
    except ConfigurationError as raised:
        error = raised
    assert error is None or (error.mistakes and all(m.expected for m in error.mistakes))


def test_the_schema_agrees_with_the_settings() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["properties"].keys() == Settings.model_fields.keys()
    assert schema["additionalProperties"] is False


def test_the_documented_reference_is_the_settings_own() -> None:
    assert DOCS.read_text().endswith(reference()), "offpath schema --markdown prints the end of docs/configuration.md"


def test_the_documented_example_is_right(folder: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    (folder / "train.csv").write_text("age,sex\n" + "1,Female\n2,Male\n" * 20)
    (folder / "answers.csv").write_text("p\n" + "0.1\n0.2\n" * 20)
    assert check(folder, example) == []


def test_the_examples_of_the_sidecars_page_are_right(folder: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (DOCS.parent / "capture.md").read_text(), flags=re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        assert check(folder, example) == [], example


@pytest.mark.parametrize(
    ("rule", "path", "said", "nearest"),
    [
        (
            "{column: sxe, action: mask}",
            "capture.redact[0].column",
            "is no column of a model that the rule is for",
            "sex",
        ),
        ("{column: sex, action: mak}", "capture.redact[0].action", "expected one of drop, mask, hash", "mask"),
        ("{column: sex}", "capture.redact[0].action", "is required and missing", ""),
        ("{action: drop}", "capture.redact[0]", "exactly one of header, pointer, tensor, column (given: none)", ""),
        ("{column: sex, tensor: x, action: drop}", "capture.redact[0]", "(given: tensor, column)", ""),
        ("{pointer: a, action: drop}", "capture.redact[0].pointer", "a JSON pointer begins with /", ""),
        ("{tensor: '', action: drop}", "capture.redact[0].tensor", "is empty", ""),
    ],
)
def test_mistakes_in_redaction(folder: Path, rule: str, path: str, said: str, nearest: str) -> None:
    found = check(folder, f"{GOOD}capture:\n  redact:\n    - {rule}\n")
    assert [(m.path, said in m.expected, m.nearest) for m in found] == [(path, True, nearest)], found


def test_redaction_of_other_models_and_unconfigured_columns(folder: Path) -> None:
    for rule in ("{column: x, action: mask, model: other}", "{column: sex, action: mask}", "{column: p, action: drop}"):
        assert check(folder, f"{GOOD}capture: {{redact: [{rule}]}}\n") == []


def test_headers_with_credentials_need_a_rule(folder: Path) -> None:
    (mistake,) = check(folder, GOOD + "capture: {headers: [x-user, Authorization]}\n")
    assert "authorization holds credentials" in mistake.expected
    ruled = "capture: {headers: [authorization], redact: [{header: Authorization, action: hash}]}\n"
    assert check(folder, GOOD + ruled) == []
    (mistake,) = check(folder, GOOD + "capture: {headers: ['x user']}\n")
    assert "the name of an HTTP header" in mistake.expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: []\n---\nmodels: []\n", "found another document: one file holds one document"),
        ("models: !!python/object/apply:os.system [ls]\n", "has a tag; only plain values are taken"),
        ("models: !secret x\n", "has a tag; only plain values are taken"),
    ],
)
def test_more_than_one_document_and_tags(folder: Path, text: str, said: str) -> None:
    assert any(said in str(mistake) for mistake in check(folder, text))


def test_the_environment_changes_the_type_of_a_transport_and_a_sink(folder: Path) -> None:
    kafka = load(folder, OFFPATH_TRANSPORT__BOOTSTRAP="b:9092", OFFPATH_TRANSPORT__TYPE="kafka").transport
    assert isinstance(kafka, KafkaTransportSettings)
    assert kafka.bootstrap == "b:9092"
    (folder / "offpath.yaml").write_text("models: [{name: m}]\n")
    found = configuration.load(
        folder / "offpath.yaml", {"OFFPATH_SINKS__0__TYPE": "jsonlines", "OFFPATH_SINKS__0__PATH": "x.jsonl"}
    )
    assert [sink.type for sink in found.sinks] == ["jsonlines", "prometheus"]
    assert configuration.load(folder / "offpath.yaml", {"OFFPATH_TRANSPORT__TYPE": "embedded"}).transport == (
        configuration.load(folder / "offpath.yaml", {}).transport
    )


def test_a_choice_of_a_detector_has_a_nearest_word(folder: Path) -> None:
    found = check(folder, GOOD.replace("ert: 400", "correction: bonferoni"))
    assert [(mistake.path, mistake.nearest) for mistake in found] == [
        ("monitors[0].detector.params.correction", "bonferroni")
    ]
