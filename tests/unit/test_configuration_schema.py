"""The JSON Schema refuses in an editor what ``offpath check`` refuses, and takes what it takes."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from monitor.configuration.schema import json_schema
from monitor.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
VALIDATOR = Draft202012Validator(json_schema())

GOOD = yaml.safe_load("""\
models:
  - name: income
    match: {namespace: production}
    features: [{name: age}, {name: sex, type: categorical, categories: [F, M]}]
monitors:
  - {name: a, model: income, window: {count: 100}, columns: [age], detector: {type: KSDrift, artifact: a}}
  - {name: b, model: income, window: {time: 5m, lateness: 10s}, detector: {type: KNN, reference: b.csv}, sinks: [store]}
  - {name: c, model: income, window: {sliding: 100, step: 10}, detector: {type: KNN, artifact: c, params: {k: 3}}}
transport: {type: kafka, bootstrap: "kafka:9092", retention: 7d, max_record: 1000000}
sinks: [{type: store, keep: 10}, {type: cloudevents, url: "http://a/", only_alarms: true}]
capture:
  listen: unix:/run/offpath.sock
  sample: 0.5
  include: [inference, /v1/*]
  exclude: [/health]
  headers: [x-user]
  redact: [{column: age, action: mask}]
  sample_rules: [{model: "*", rate: 0.5}]
worker: {listen: ":9090", commit_every: 1s}
payloads: {above: 256KiB}
""")


def taken_by_settings(document: Any) -> bool:
    try:
        Settings.model_validate(document)
    except ValidationError:
        return False
    return True


def test_the_schema_is_one_and_takes_what_is_right() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert [error.message for error in VALIDATOR.iter_errors(GOOD)] == []
    assert taken_by_settings(GOOD)


@pytest.mark.parametrize("page", ["configuration.md", "capture.md", "kafka.md"])
def test_it_takes_the_documented_examples(page: str) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    assert examples
    for example in examples:
        assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(example))] == [], example


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("monitors.0.window", {"count": 10, "time": "5m"}),
        ("monitors.0.window", {}),
        ("monitors.0.window", {"count": None}),
        ("monitors.0.window", {"count": 10, "lateness": "5s"}),
        ("monitors.0.window", {"count": 10, "step": 5}),
        ("monitors.0.window.count", True),
        ("monitors.0.window.count", "10"),
        ("monitors.0.window.count", 0),
        ("monitors.0.columns", []),
        ("monitors.0.detector", {"type": "KNN"}),
        ("monitors.0.detector", {"type": "KNN", "artifact": "a", "reference": "b"}),
        ("monitors.1.window.time", "5 minutes"),
        ("monitors.1.window.time", True),
        ("monitors.1.window.time", -1),
        ("models.0.name", "in come"),
        ("models.0.features.0.name", ""),
        ("worker.listen", "localhost"),
        ("worker.listen", "http://localhost:80"),
        ("worker.commit_every", "soon"),
        ("capture.listen", "unix:"),
        ("capture.sample", 1.5),
        ("capture.sample", "0.5"),
        ("capture.include", []),
        ("capture.include", ["score"]),
        ("capture.exclude", ["inference"]),
        ("capture.headers", ["x user"]),
        ("capture.redact", [{"action": "mask"}]),
        ("capture.redact", [{"action": "mask", "column": "a", "header": "b"}]),
        ("capture.redact", [{"action": "mask", "pointer": "a"}]),
        ("capture", {"combined": True, "mode": "request"}),
        ("capture", {"combined": True, "sample_rules": [{"side": "request", "rate": 1}]}),
        ("capture.combined", "yes"),
        ("sinks.0.keep", True),
        ("sinks.1.url", "nowhere"),
        ("sinks.1.url", "http://[::1/"),
        ("sinks.1.url", "http://a:b/"),
        ("sinks.1.url", "http://me@/"),
        ("sinks.1", {"type": "cloudevents"}),
        ("sinks.1", {"type": "cloudevents", "url": "http://a", "topic": "b"}),
        ("payloads.above", "256 kilobytes"),
        ("transport.create_topics", 1),
    ],
)
def test_both_refuse(path: str, value: Any) -> None:
    document = copy.deepcopy(GOOD)
    at = document
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        at = at[step]
    at[last] = value
    assert not taken_by_settings(document)
    assert not VALIDATOR.is_valid(document)


def test_it_knows_the_detectors_and_that_numbers_have_no_categories() -> None:
    document = copy.deepcopy(GOOD)
    document["monitors"][0]["detector"]["type"] = "KSDrft"
    document["models"][0]["features"][1].pop("type")
    assert {error.json_path for error in VALIDATOR.iter_errors(document)} == {
        "$.monitors[0].detector.type", "$.models[0].features[1]",
    }  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        below += places(inner, (*path, key))
    return below


plain = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 99), st.text("a1:/*. ", max_size=5),
    st.floats(-2, 2).filter(lambda x: not x.is_integer()), st.just("5m"), st.just("http://a"),
)  # fmt: skip
anything = st.one_of(plain, st.lists(plain, max_size=2), st.dictionaries(st.sampled_from(["type", "a"]), plain))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_the_schema_takes_the_settings_take(data: st.DataObject) -> None:
    document = copy.deepcopy(GOOD)
    path = data.draw(st.sampled_from(places(document)))
    at = document
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = data.draw(anything)
    limited = path[-2:] in {("window", "time"), ("window", "step")}  # by 0, by the window: no schema says so
    if VALIDATOR.is_valid(document) and not limited:
        assert taken_by_settings(document)
