"""Arrays of numbers taken out of JSON text are what a JSON parser says they are, or are left alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.codecs.numbers import extract, restore, table
from monitor.codecs.values import parse_object
from monitor.events import InvalidEvent

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9)
)
rows = st.integers(1, 6).flatmap(lambda d: st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=1))
odd = st.recursive(st.one_of(numbers, st.none(), st.booleans(), st.text()), lambda inner: st.lists(inner, max_size=4))
values = st.one_of(rows, st.lists(numbers), odd, st.lists(odd))
keys = st.sampled_from(["instances", "predictions", "data", "ndarray", "values", "names", "]],[["])
bodies = st.recursive(st.dictionaries(keys, values, max_size=3), lambda inner: st.dictionaries(keys, inner, max_size=3))


def plain(value: Any) -> Any:
    """JSON values as Python's parser tells them, with every number a float."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


@settings(max_examples=300)
@given(bodies, st.sampled_from([None, 1]), st.integers(0, 40))
def test_what_is_put_back_is_what_json_says(body: dict[str, Any], indent: int | None, repeat: int) -> None:
    many = {key: value * repeat if isinstance(value, list) else value for key, value in body.items()}
    text = json.dumps(many, indent=indent, ensure_ascii=False).encode(errors="replace").ljust(600)
    rest, arrays = extract(text)
    assert plain(restore(orjson.loads(rest), arrays)) == plain(orjson.loads(text))


@pytest.mark.parametrize("path", ["instances", "predictions", "data", "ndarray", "values"])
def test_large_arrays_are_taken_out(path: str) -> None:
    values = [[i, i / 3, -i] for i in range(200)]
    rest, arrays = extract(json.dumps({"meta": {"b": [1]}, path: values}).encode())
    assert len(rest) < 100
    assert arrays[0].tolist() == values
    assert arrays[0].dtype == np.float64


@settings(max_examples=200)
@given(
    st.sampled_from(["instances", "predictions"]),
    st.one_of(rows, st.lists(numbers), st.lists(odd)),
    st.sampled_from([None, 1]),
    st.integers(1, 200),
)
def test_a_body_that_is_one_table_is_what_json_says(key: str, some: list[Any], indent: int | None, repeat: int) -> None:
    text = json.dumps({key: some * repeat}, indent=indent, ensure_ascii=False).encode(errors="replace")
    if found := table(text):
        assert found[0] == key
        assert plain(found[1]) == plain(orjson.loads(text)[key])


@pytest.mark.parametrize("rows", [[[1, 2.5]] * 200, [0.5] * 200])
def test_a_table_alone_is_found(rows: list[Any]) -> None:
    name, found = table(json.dumps({"predictions": rows}, indent=1).encode()) or ("", np.empty(0))
    assert (name, found.tolist()) == ("predictions", rows)


@pytest.mark.parametrize("after", [b"", b"}}", b" 5}", b" -}", b', "instances": 1}', b"]}", b"} 1}", b"}\n"])
def test_more_than_a_table_takes_the_ordinary_way(after: bytes) -> None:
    assert table(b'{"instances": [' + b", ".join([b"[1, 2]"] * 200) + b"]" + after) is None


def test_several_inputs_of_v2() -> None:
    inputs = [{"name": n, "shape": [300], "datatype": "FP64", "data": list(range(300))} for n in "abc"]
    found = parse_object(json.dumps({"inputs": inputs}, indent=2).encode())
    assert [entry["data"].tolist() for entry in found["inputs"]] == [list(range(300))] * 3
    assert [entry["shape"] for entry in found["inputs"]] == [[300]] * 3


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2]] * 200 + [[1]] + [[1, 2, 3]],  # ragged, and the total fits
        [[1, 2]] * 200 + [[1, None]],
        [[1, 2]] * 200 + [[1, True]],
        [[1, 2]] * 200 + [[1, "2"]],
        [[[1], [2]]] * 200,
        [[]] * 200,
        [1, 2, [3]] * 200,
        [2**64, 1] * 200,
    ],
)
def test_anything_else_takes_the_ordinary_way(rows: list[Any]) -> None:
    text = orjson.dumps({"instances": rows}) if rows[0] != 2**64 else json.dumps({"instances": rows}).encode()
    assert extract(text) == (text, [])


@pytest.mark.parametrize("cut", [b"[[1,2],[3,4", b"[[1,2],,[3,4]]", b"[[1,2],[3,]]", b"[[1,2],[3-,4]]", b"[1 2]"])
def test_what_is_no_json_is_left_to_the_parser_to_refuse(cut: bytes) -> None:
    with pytest.raises(InvalidEvent, match="no JSON"):
        parse_object(b'{"instances": ' + cut.replace(b"1", b"1" * 600) + b"}")


def test_a_payload_that_holds_our_mark_is_left_alone() -> None:
    values = [[1, 2]] * 200
    text = json.dumps({"a": "\ue000offpath array 7", "instances": values}, ensure_ascii=False).encode()
    assert extract(text) == (text, [])
    assert parse_object(text)["instances"] == values


def test_a_key_inside_text_is_no_key() -> None:
    text = json.dumps({"note": '"instances": [' + "1, " * 300 + "1]", "x": 1}).encode()
    assert extract(text) == (text, [])
