"""Tensors to rows: which columns, in which order, labels as codes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from detectors.base import UNSEEN, Feature
from monitor.codecs.detect import CODECS
from monitor.codecs.v1 import V1Codec
from monitor.columns import Columns
from monitor.events import InvalidEvent
from monitor.labels import Labels

AGE, SEX, GRADE = Feature("age"), Feature("sex", "categorical", ("F", "M")), Feature("grade", "categorical", ("1", "3"))
NAN = float("nan")


def rows(columns: Columns, body: Any, codec: str = "v1") -> list[list[float]]:
    found = columns.rows(CODECS[codec].decode(json.dumps(body).encode(), {}))
    assert found.dtype == np.float64
    listed: list[list[float]] = found.tolist()
    return listed


def v2(**tensors: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": name,
                "shape": list(np.shape(data)),
                "datatype": "BYTES" if np.asarray(data).dtype.kind == "U" else "FP64",
                "data": data,
            }
            for name, data in tensors.items()
        ]
    }


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        ("v1", {"instances": [[39, "M"], [21, "F"]]}),
        ("v1", {"instances": [[39, 1], [21, 0]]}),
        ("v1", {"instances": [{"sex": "M", "age": 39}, {"sex": "F", "age": 21}]}),
        ("v1", {"inputs": {"sex": ["M", "F"], "age": [39, 21]}}),
        ("v1", {"inputs": {"sex": [["M"], ["F"]], "age": [[39], [21]]}}),
        ("v2", v2(sex=["M", "F"], age=[39, 21])),
        ("v2", v2(sex=[["M"], ["F"]], age=[[39], [21]])),
        ("v2", v2(x=[[39, 1], [21, 0]])),
        ("v2", v2(first=[39, 21], second=[1, 0])),
        ("seldon", {"data": {"names": ["sex", "age"], "ndarray": [["M", 39], ["F", 21]]}}),
        ("seldon", {"data": {"names": ["t0", "t1"], "ndarray": [[39, "M"], [21, "F"]]}}),
        ("seldon", {"data": {"tensor": {"shape": [2, 2], "values": [39, 1, 21, 0]}}}),
    ],
)
def test_the_same_rows_in_every_form(codec: str, body: Any) -> None:
    assert rows(Columns([AGE, SEX]), body, codec) == [[39, 1], [21, 0]]


def test_names_that_nobody_configured_are_passed_over() -> None:
    columns = Columns([AGE, SEX])
    assert rows(columns, {"instances": [{"weight": 9, "sex": "M", "age": 39}]}) == [[39, 1]]
    assert rows(columns, v2(weight=[9.5], sex=["M"], age=[39.0]), "v2") == [[39, 1]]
    assert rows(columns, v2(whatever=[[39, 1]]), "v2") == [[39, 1]], "no known name: by position"


def test_names_are_never_taken_by_position_where_one_is_known() -> None:
    columns = Columns([AGE, Feature("hours")])
    for body, codec in (({"instances": [{"age": 1, "weight": 2}]}, "v1"), (v2(weight=[0.5], age=[1.0]), "v2")):
        with pytest.raises(InvalidEvent, match="lacks hours"):
            rows(columns, body, codec)


def test_categories_that_are_numbers() -> None:
    signs = Columns([Feature("sign", "categorical", ("-1", "1"))])
    assert rows(signs, {"instances": [["-1"], ["1"], ["zzz"], [1], [0], [None]]})[:5] == [[0], [1], [-1], [1], [-1]]
    assert rows(signs, {"instances": [[-1], [1], [7]]}) == [[0], [1], [-1]]
    mixed = Columns([Feature("doors", "categorical", ("1", "2", "more"))])
    assert rows(mixed, {"instances": [[1], ["more"], [2], [0]]}) == [[0], [2], [1], [-1]]


def test_some_columns_in_another_order() -> None:
    columns = Columns([AGE, SEX, Feature("hours")], columns=["hours", "age"])
    assert [feature.name for feature in columns.features] == ["hours", "age"]
    assert rows(columns, {"instances": [[39, "M", 40], [21, "F", 8]]}) == [[40, 39], [8, 21]]


def test_one_tensor_of_several() -> None:
    columns = Columns([], tensor="b")
    assert rows(columns, v2(a=[[1, 2]], b=[[3, 4]]), "v2") == [[3, 4]]


def test_without_configured_features_all_is_taken_flat() -> None:
    assert rows(Columns([]), {"instances": [[[1, 2], [3, 4]]]}) == [[1, 2, 3, 4]]
    assert rows(Columns([]), v2(a=[1, 2], b=[[3, 4], [5, 6]]), "v2") == [[1, 3, 4], [2, 5, 6]]


def test_missing_unseen_and_infinite_values_reach_the_detector() -> None:
    found = rows(Columns([AGE, SEX]), {"instances": [[None, "M"], [39, "?"], [39, None]]})
    assert np.array_equal(found, [[NAN, 1], [39, UNSEEN], [39, NAN]], equal_nan=True)


def test_labels_that_are_numbers_are_labels_and_no_codes() -> None:
    assert rows(Columns([GRADE]), {"instances": [[1], [3], [2]]}) == [[0], [1], [UNSEEN]]
    assert rows(Columns([GRADE]), {"instances": [["1"], ["3"], [None]]})[:2] == [[0], [1]]


def test_an_empty_batch_is_no_rows() -> None:
    assert Columns([AGE, SEX]).rows(CODECS["v1"].decode(b'{"instances": []}', {})).shape == (0, 2)


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        ({"instances": [{"Age": 1, "Sex": 1}]}, "wrong_columns", "names Age, Sex, none of which is one of age, sex"),
        ({"inputs": {"Sex": [1], "Age": [1]}}, "wrong_columns", "names Sex, Age, none of which is one of age, sex"),
        ({"instances": [[1, 1, 1]]}, "wrong_columns", "3 columns, not 2: age, sex"),
        ({"instances": [1, 2]}, "wrong_columns", "1 columns, not 2: age, sex"),
        ({"instances": [["x", "M"]]}, "not_numeric", "age: 'x' where a number belongs"),
        ({"instances": [["39", "M"]]}, "not_numeric", "age: '39' where a number belongs"),
        ({"inputs": {"age": [1]}}, "wrong_columns", "lacks sex"),
        ({"inputs": {"age": [1, 2], "sex": ["M"]}}, "bad_shape", "as many rows"),
        ({"inputs": {"age": [[1, 2]], "sex": ["M"]}}, "bad_shape", "one value a row"),
    ],
)
def test_what_is_refused(body: Any, reason: str, said: str) -> None:
    with pytest.raises(InvalidEvent, match=said) as refused:
        rows(Columns([AGE, SEX]), body)
    assert refused.value.reason == reason


def test_without_features_tensors_need_as_many_rows() -> None:
    tensors = V1Codec().decode(b'{"inputs": {"a": [1, 2], "b": [1]}}', {})
    with pytest.raises(InvalidEvent, match="different numbers of rows") as refused:
        Columns(()).rows(tensors)
    assert refused.value.reason == "bad_shape"


def test_a_tensor_that_is_not_there() -> None:
    with pytest.raises(InvalidEvent, match="no tensor 'c' in the payload; there are a, b") as refused:
        rows(Columns([], tensor="c"), v2(a=[1], b=[2]), "v2")
    assert refused.value.reason == "unknown_tensor"


def test_a_column_that_is_not_configured() -> None:
    with pytest.raises(ValueError, match="no such column: agee; there are age, sex"):
        Columns([AGE, SEX], columns=["agee"])


def test_the_payload_is_left_as_it_was() -> None:
    tensors = CODECS["v1"].decode(b'{"instances": [[1, 3], [3, 1]]}', {})
    before = tensors["instances"].data.copy()
    Columns([GRADE, AGE]).rows(tensors)
    assert np.array_equal(tensors["instances"].data, before)


def test_labels_as_bytes() -> None:
    """V1 writes bytes as ``{"b64": ...}``, wherever a value stands."""
    features = (Feature("age"), Feature("sex", "categorical", ("F", "M")))
    tensors = V1Codec().decode(b'{"instances": [[1, {"b64": "TQ=="}], [2, {"b64": "/w=="}]]}', {})
    assert Columns(features).rows(tensors).tolist() == [[1.0, 1.0], [2.0, -1.0]]


@pytest.mark.parametrize("labels", [("true", "false"), ("False", "True")])
def test_booleans_are_labels_and_no_codes(labels: tuple[str, str]) -> None:
    columns = Columns((Feature("b", "categorical", labels), Feature("x")))
    places = [float(labels.index(label)) for label in labels if label.lower() == "true"] * 2
    tensors = V1Codec().decode(b'{"instances": [[true, 1], [true, true]]}', {})
    assert columns.rows(tensors).tolist() == [[places[0], 1.0], [places[1], 1.0]]
    body = b'{"inputs": [{"name": "b", "shape": [1], "datatype": "BOOL", "data": [1]}, ' + (
        b'{"name": "x", "shape": [1], "datatype": "BOOL", "data": [true]}]}'
    )
    assert columns.rows(CODECS["v2"].decode(body, {})).tolist() == [[places[0], 1.0]]


def test_a_boolean_that_is_no_label_is_unseen() -> None:
    columns = Columns((Feature("sex", "categorical", ("F", "M")),))
    assert columns.rows(V1Codec().decode(b'{"instances": [[true]]}', {})).tolist() == [[-1.0]]


@pytest.mark.parametrize("label", ["nan", "inf", "Infinity", "1_000", "0x10", " 4", "\u0664"])
def test_words_that_python_takes_for_numbers_are_labels(label: str) -> None:
    labels = Labels(Feature("c", "categorical", ("yes", "no", label)))
    assert not labels.are_numbers
    assert labels.of([0, 1, 2, label]) == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("label", ["2", "-2.5", "1e3", "+.5", "3."])
def test_any_label_that_is_a_number_makes_numbers_labels(label: str) -> None:
    labels = Labels(Feature("c", "categorical", ("yes", label)))
    assert labels.of([float(label), 0, "yes"]) == [1.0, UNSEEN, 0.0]
