"""Whatever a body or its headers say, decoding gives rows or one of the stated reasons, in bounded work."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.base import Feature
from monitor.codecs import numbers
from monitor.codecs.detect import REASONS, decode
from monitor.columns import Columns
from monitor.events import Delivery, InvalidEvent, payload_event
from sinks.base import Record

FEATURES = (Feature("a"), Feature("b", "categorical", ("x", "1")))
KNOWN = REASONS | {"invalid_time", ""}
KEYS = st.sampled_from(
    ["instances", "inputs", "outputs", "predictions", "data", "ndarray", "tensor", "tftensor", "dtype", "shape",
     "names", "values", "datatype", "name", "parameters", "binary_data_size", "b64", "tensorShape", "dim", "size",
     "doubleVal", "strData", "binData", "jsonData", "a", "b"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from(["FP32", "BYTES", "BF16", "DT_DOUBLE", 10**400, "Mzk="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["ce_status", "ce_time", "ce_path", "ce_protocol", "ce_contentencoding", "content-type",
                     "inference-header-content-length", "ce_truncated", "ce_metadata"]),
    st.sampled_from(["", "\u00b2", "9" * 5000, "200", "-1", "v1", "v2", "seldon", "gzip", "zstd", "/v2/models/m/infer",
                     "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "12"]),
    max_size=3,
)  # fmt: skip


def judge(body: bytes, headers: dict[str, str], *features: tuple[Feature, ...]) -> str:
    """The reason for which it is refused, or nothing."""
    told = {"ce_type": "org.kubeflow.serving.inference.request", "ce_id": "1", "ce_source": "s", **headers}
    try:
        event = payload_event(Delivery("t/0", 0, Record(None, told, body, 1e9)))
        tensors = decode(event)
        for columns in features or (FEATURES,):
            assert Columns(columns).rows(tensors).dtype == np.float64
    except InvalidEvent as error:
        return error.reason
    return ""


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # deep values take a while to make
@given(st.dictionaries(KEYS, VALUES, max_size=4), HEADERS)
def test_any_json(value: Any, headers: dict[str, str]) -> None:
    for features in (FEATURES, ()):
        assert judge(json.dumps(value).encode(), headers, features) in KNOWN


@given(st.binary(max_size=200), HEADERS)
def test_any_bytes(body: bytes, headers: dict[str, str]) -> None:
    for features in (FEATURES, ()):
        assert judge(body, headers, features) in KNOWN


LONG = b"[" + b"1," * 600 + b"1]"


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b'{"instances": [[1, 2]]}', {"ce_status": "\u00b2"}, ""),
        (b'{"inputs": []}', {"ce_protocol": "v2", "inference-header-content-length": "\u00b2"}, "truncated"),
        (b'{"instances": %b, "x": %b}' % (LONG, b"[" * 1000 + b"]" * 1000), {}, "invalid_json"),
        (b'{"instances": ' + b"[" * 40 + b"]" * 40 + b"}", {}, "bad_shape"),
        (b'{"data": {"tftensor": {"dtype": []}}}', {}, "unknown_datatype"),
        (b'{"data": {"tftensor": {"dtype": "DT_DOUBLE", "doubleVal": [1%b]}}}' % (b"0" * 400), {}, "bad_shape"),
        (b'{"instances": [[1, 1%b]]}' % (b"0" * 400), {}, "not_numeric"),
        (b'{"instances": [1, [2]]}', {}, "ragged"),
        (b'{"instances": [[1, 2], [1]]}', {}, "ragged"),
        (b'{"instances": [[[1], [2]], [[1], 2]]}', {}, "ragged"),
        (b'{"instances": [{"a": {"b64": "Mzk="}, "b": "x"}]}', {}, "not_numeric"),
        (b'{"instances": [{"a": 1, "weight": 2}]}', {}, "wrong_columns"),
        (b'{"instances": [{"a": 1, "weight": 2, "b": "x"}]}', {}, ""),
        (b'{"data": {"names": ["a", "a"], "ndarray": [[1, 2]]}}', {}, "bad_shape"),
    ],
)  # fmt: skip
def test_the_outcome(body: bytes, headers: dict[str, str], reason: str) -> None:
    assert judge(body, headers) == reason


def test_one_long_text_among_many_costs_no_more_than_they_hold() -> None:
    """A text array of numpy would be as wide as the longest for all: terabytes."""
    body = orjson.dumps({"instances": [["a", "x"]] * 100_000 + [["a" * 1_000_000, "x"]]})
    assert judge(body, {}) == "not_numeric"


def test_two_tensors_of_one_name_are_refused() -> None:
    tensor = {"name": "a", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    assert judge(orjson.dumps({"inputs": [tensor, tensor]}), {}) == "bad_shape"


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": [' + b'{"data": [' * 4000 + b'"t"' + b"]}" * 4000 + b"]}",
        b'{"x": [' + b'{"data": [["t"], ' * 2000 + b"1" + b"]}" * 2000 + b"]}",
        b'{"inputs": [' + b", ".join([b'{"data": [["%b"]]}' % (b"t" * 600)] * 500) + b"]}",
        b'{"data": [[' * 5000,
    ],
)
def test_text_that_looks_like_arrays_is_looked_at_a_few_times_only(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    real = numbers._numbers

    def count(text: bytes) -> Any:
        nonlocal looked
        looked += len(text)
        return real(text)

    monkeypatch.setattr(numbers, "_numbers", count)
    numbers.extract(body)
    assert looked <= 6 * len(body)


def test_many_small_named_inputs_are_all_found() -> None:
    inputs = [
        {"name": f"x{i}", "shape": [200], "datatype": "FP64", "data": list(range(200))}
        if i % 2
        else {"name": f"x{i}", "shape": [200], "datatype": "BYTES", "data": ["t"] * 200}
        for i in range(40)
    ]
    _, arrays = numbers.extract(orjson.dumps({"inputs": inputs}))
    assert len(arrays) == 20
