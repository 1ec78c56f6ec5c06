"""Redaction: what is taken out, what takes its place, and that nothing leaves that could not be read."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import math
from contextlib import suppress
from typing import Any

import brotli
import numpy as np
import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from monitor.capture.conversation import Conversation
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.keys import read_key
from monitor.capture.masking import BITS, Masker
from monitor.capture.metrics import METRICS, Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.pointer import parse_pointer
from monitor.capture.record import Recorder
from monitor.capture.redact_binary import UnreadableError
from monitor.capture.redaction import BodyRules, Redactor
from monitor.capture.rules import ModelColumns, RedactRule
from monitor.codecs.combined import split
from monitor.codecs.detect import decode
from monitor.codecs.v2 import V2Codec
from monitor.events import Delivery, InvalidEvent, payload_event
from sinks.base import Record

KEY = b"0123456789abcdef"
COLUMNS = (ModelColumns("income", ("age", "sex", "hours"), ("p",)),)
LENGTH = "inference-header-content-length"


def digest(text: str) -> str:
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()[:32]


def number(text: str, bits: int = 53) -> int:
    return int(hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest(), 16) >> (256 - bits)


def rules(*given: RedactRule, side: str = "request", columns: Any = COLUMNS) -> BodyRules:
    found = Redactor(given, columns, KEY).bodies("income", side)
    assert found is not None
    return found


def redact(body: Any, *given: RedactRule, **more: Any) -> Any:
    return orjson.loads(rules(*given, **more).apply({}, orjson.dumps(body)))


def column(name: str, action: str = "mask", **more: str) -> RedactRule:
    return RedactRule("column", name, action, **more)


def tensor(name: str, action: str = "mask") -> RedactRule:
    return RedactRule("tensor", name, action)


def pointer(text: str, action: str = "mask") -> RedactRule:
    return RedactRule("pointer", text, action)


class TestActions:
    def test_hash_is_the_documented_one(self) -> None:
        masker = Masker(KEY)
        assert masker.replaced("hash", "Ada") == digest("Ada")
        assert masker.replaced("hash", 36) == masker.replaced("hash", 36.0) == number("36")
        assert masker.replaced("hash", 0.5) == number("0.5")
        assert Masker(KEY + b"!").replaced("hash", "Ada") != digest("Ada")

    def test_leaves_are_replaced_and_shapes_stay(self) -> None:
        given = {"a": ["x", 1.5, True, None], "b": {}}
        assert Masker(KEY).replaced("mask", given) == {"a": ["***", None, None, None], "b": {}}
        assert Masker(KEY).replaced("hash", given) == {"a": [digest("x"), number("1.5"), None, None], "b": {}}

    @given(st.floats(allow_nan=True), st.sampled_from([name for name in BITS if name not in ("BF16", "FP16")]))
    def test_a_hashed_number_fits_its_datatype(self, value: float, datatype: str) -> None:
        found = Masker(KEY).replaced("hash", value, datatype)
        kinds = {"FP32": np.float32, "FP64": np.float64}
        kind = kinds.get(datatype) or getattr(np, datatype.lower())
        assert int(kind(found)) == found


class TestPointers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("/a/*/b", {"a": [{"b": None}, {"b": None}, 3], "x/y": 1, "~": 2}),
            ("/a/1/b", {"a": [{"b": 1}, {"b": None}, 3], "x/y": 1, "~": 2}),
            ("/a/2", {"a": [{"b": 1}, {"b": 2}, None], "x/y": 1, "~": 2}),
            ("/*/0", {"a": [{"b": None}, {"b": 2}, 3], "x/y": 1, "~": 2}),
            ("/a/*", {"a": [{"b": None}, {"b": None}, None], "x/y": 1, "~": 2}),
            ("/*/*/*", {"a": [{"b": None}, {"b": None}, 3], "x/y": 1, "~": 2}),
            ("/x~1y", {"a": [{"b": 1}, {"b": 2}, 3], "x/y": None, "~": 2}),
            ("/~0", {"a": [{"b": 1}, {"b": 2}, 3], "x/y": 1, "~": None}),
            *((nothing, None) for nothing in ("/a/9/b", "/a/-1", "/", "/a/b", "/x~1y/0", "/a/2/0/0", "/a/1x")),
        ],
    )
    def test_find(self, text: str, expected: Any) -> None:
        value = {"a": [{"b": 1}, {"b": 2}, 3], "x/y": 1, "~": 2}
        assert redact(value, pointer(text)) == (expected or value)

    def test_drop_takes_members_out_and_empties_elements(self) -> None:
        body = {"instances": [{"ssn": "1", "age": 3}, {"age": 4}], "l": [1, 2]}
        assert redact(body, pointer("/instances/*/ssn", "drop"), pointer("/l/0", "drop")) == {
            "instances": [{"age": 3}, {"age": 4}],
            "l": [None, 2],
        }

    @pytest.mark.parametrize("text", ["", "a", "/a~2", "/~"])
    def test_what_is_no_pointer(self, text: str) -> None:
        with pytest.raises(ValueError, match="JSON pointer"):
            parse_pointer(text)

    def test_a_key_given_twice_does_not_slip_through(self) -> None:
        body = b'{"a": [{"ssn": "secret"}], "a": [], "ssn": "secret", "ssn": "other"}'
        assert b"secret" not in rules(pointer("/a/*/ssn"), pointer("/ssn")).apply({}, body)


V2 = {"inputs": [
    {"name": "age", "shape": [2, 1], "datatype": "INT32", "data": [39, 40]},
    {"name": "sex", "shape": [2, 1], "datatype": "BYTES", "data": ["M", "F"]},
]}  # fmt: skip


class TestColumns:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"instances": [[39, "M", 40], [40, "F", 50]]}, {"instances": [[39, "***", 40], [40, "***", 50]]}),
            ({"instances": [{"sex": "M", "age": 1}, {}]}, {"instances": [{"sex": "***", "age": 1}, {}]}),
            ({"inputs": {"age": [1], "sex": ["M"]}}, {"inputs": {"age": [1], "sex": ["***"]}}),
            ({"inputs": {"x": [[1, "M", 2]]}}, {"inputs": {"x": [[1, "***", 2]]}}),
            ({"inputs": {"a": [[1]], "b": [["M", 2]]}}, {"inputs": {"a": [[1]], "b": [["***", 2]]}}),
            ({"inputs": [[1, "M", 2]]}, {"inputs": [[1, "***", 2]]}),
            (
                {"data": {"names": ["sex", "x"], "ndarray": [["M", 1]]}, "meta": {"puid": "p"}},
                {"data": {"names": ["sex", "x"], "ndarray": [["***", 1]]}, "meta": {"puid": "p"}},
            ),
            ({"data": {"ndarray": [[1, "M", 2]]}}, {"data": {"ndarray": [[1, "***", 2]]}}),
            (
                {"data": {"tensor": {"shape": [2, 3], "values": [1, 2, 3, 4, 5, 6]}}},
                {"data": {"tensor": {"shape": [2, 3], "values": [1, None, 3, 4, None, 6]}}},
            ),
            ({"data": {"names": ["a"], "ndarray": [[1]]}}, {"data": {"names": ["a"], "ndarray": [[1]]}}),
            (V2, {"inputs": [V2["inputs"][0], {**V2["inputs"][1], "data": ["***", "***"]}]}),
            (
                {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]},
                {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, None, 3, 4, None, 6]}]},
            ),
            (
                {"inputs": [{"name": "x", "shape": [1, 3], "data": [[1, 2, 3]]}], "outputs": [{"name": "y"}]},
                {"inputs": [{"name": "x", "shape": [1, 3], "data": [[1, None, 3]]}], "outputs": [{"name": "y"}]},
            ),
            ({"instances": []}, {"instances": []}),
        ],
    )  # fmt: skip
    def test_every_form(self, body: Any, expected: Any) -> None:
        assert redact(body, column("sex")) == expected

    def test_drop_keeps_places(self) -> None:
        assert redact({"instances": [[1, "M", 2]]}, column("sex", "drop")) == {"instances": [[1, None, 2]]}
        assert redact({"instances": [{"sex": "M", "a": 1}]}, column("sex", "drop")) == {"instances": [{"a": 1}]}
        assert redact(V2, column("sex", "drop")) == {"inputs": V2["inputs"][:1]}

    def test_hash_keeps_types(self) -> None:
        assert redact(V2, column("age", "hash"))["inputs"][0]["data"] == [number("39", 31), number("40", 31)]
        assert redact({"instances": [[39, "M", 1]]}, column("sex", "hash"))["instances"] == [[39, digest("M"), 1]]

    def test_a_side_has_its_own_columns(self) -> None:
        given = column("p")
        assert redact({"predictions": [0.5, 0.25]}, given, side="response") == {"predictions": [None, None]}
        assert Redactor([given], COLUMNS, KEY).bodies("income", "request") is None
        assert Redactor([column("sex")], COLUMNS, KEY).bodies("income", "response") is None
        assert Redactor([column("sex", model="movie")], COLUMNS, KEY).bodies("income", "request") is None

    @pytest.mark.parametrize(
        "body",
        [
            {"instances": [[39, "M"]]},
            {"instances": [39, "M", 40]},
            {"instances": "M"},
            {"instances": [{"b64": "TQ=="}]},
            {"instances": [{"sex": "M"}, ["M"]]},
            {"inputs": {"x": [[1, "M"]]}},
            {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]}]},
            {"inputs": [{"name": "x", "datatype": "FP32", "data": [1, 2, 3]}]},
            {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "contents": {"fp32_contents": [1, 2, 3]}}]},
            {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[[1, 2, 3]]]}]},
            {"inputs": [{"name": "x", "shape": [0, 3], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
            {"data": {"ndarray": [[1, 2]]}},
            {"data": {"tensor": {"shape": [3], "values": [1, 2]}}},
            {"data": {"tftensor": {"dtype": "DT_DOUBLE"}}},
            {"data": {"other": [[1, "M", 2]]}},
            {"strData": "M"},
            {"jsonData": {"sex": "M"}},
            {"rows": [[1, "M", 2]]},
            {"error": "invalid value M"},
            [[1, "M", 2]],
            "M",
        ],
        ids=str,
    )
    def test_where_a_column_cannot_be_found_the_body_is_unreadable(self, body: Any) -> None:
        with pytest.raises(UnreadableError):
            redact(body, column("sex"))

    def test_unconfigured_columns_must_be_named(self) -> None:
        nothing: Any = ()
        with pytest.raises(UnreadableError, match="none are configured"):
            redact({"instances": [[1, 2]]}, column("sex"), columns=nothing)
        named = {"instances": [{"sex": "M"}]}
        assert redact(named, column("sex"), columns=nothing) == {"instances": [{"sex": "***"}]}


class TestTensors:
    @pytest.mark.parametrize(
        ("body", "name", "expected"),
        [
            (V2, "sex", {"inputs": [V2["inputs"][0], {**V2["inputs"][1], "data": ["***", "***"]}]}),
            ({"instances": [[1, "a"]]}, "instances", {"instances": [[None, "***"]]}),
            ({"inputs": {"x": ["a"], "y": [1]}}, "x", {"inputs": {"x": ["***"], "y": [1]}}),
            ({"instances": [{"x": "a", "y": 1}]}, "x", {"instances": [{"x": "***", "y": 1}]}),
            ({"strData": "hello"}, "strData", {"strData": "***"}),
            (
                {"data": {"tensor": {"shape": [1], "values": [1]}}},
                "tensor",
                {"data": {"tensor": {"shape": [1], "values": [None]}}},
            ),
            ({"data": {"ndarray": [[1]]}}, "tensor", {"data": {"ndarray": [[1]]}}),
        ],
    )
    def test_mask(self, body: Any, name: str, expected: Any) -> None:
        assert redact(body, tensor(name)) == expected

    def test_drop(self) -> None:
        assert redact(V2, tensor("age", "drop")) == {"inputs": V2["inputs"][1:]}
        assert redact({"data": {"tftensor": {}, "names": []}}, tensor("tftensor", "drop")) == {"data": {"names": []}}


def binary(*tensors: tuple[str, str, list[int], bytes]) -> tuple[dict[str, str], bytes]:
    entries = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, kind, shape, raw in tensors
    ]
    head = orjson.dumps({"inputs": entries})
    return {LENGTH: str(len(head))}, head + b"".join(raw for *_, raw in tensors)


class TestBinaryTensors:
    def test_columns_and_tensors(self) -> None:
        x = np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4")
        texts = b"\x01\0\0\0M\x03\0\0\0Ada"
        headers, body = binary(
            ("x", "FP32", [2, 3], x.tobytes()), ("name", "BYTES", [2], texts), ("z", "INT8", [1], b"\7")
        )
        given = (column("sex"), tensor("name", "hash"), tensor("z", "drop"))
        for known in (dict(headers), {}):  # KServe's events lack the header
            with pytest.raises(UnreadableError):
                rules(*given).apply(dict(known), body)  # three columns are configured, five are there
        wide = (ModelColumns("income", ("age", "sex", "hours", "name", "z")),)
        ready = rules(*given, columns=wide).apply(headers, body)
        tensors = V2Codec().decode(ready, headers)
        assert list(tensors) == ["x", "name"]
        assert np.array_equal(tensors["x"].data, [[1, math.nan, 3], [4, math.nan, 6]], equal_nan=True)
        assert tensors["name"].data.tolist() == [digest("M"), digest("Ada")]

    @pytest.mark.parametrize("datatype", sorted(BITS))
    def test_every_datatype_hashed_masked_dropped(self, datatype: str) -> None:
        size = {"FP16": 2, "BF16": 2}.get(datatype) or int(datatype.lstrip("UINTFP")) // 8
        raw = bytes(range(size)) * 3
        values = {}
        for action in ("hash", "mask"):
            headers, body = binary(("x", datatype, [3], raw))
            ready = rules(tensor("x", action)).apply(headers, body)
            values[action] = V2Codec().decode(ready, headers)["x"].data.tolist()
        assert len(set(values["hash"])) == 1
        assert 0 <= values["hash"][0] < 2 ** BITS[datatype]
        blank = values["mask"][0]
        assert math.isnan(blank) if datatype[:2] in ("FP", "BF") else blank == 0
        headers, body = binary(("x", datatype, [3], raw), ("y", "BOOL", [2], b"\1\0"))
        ready = rules(tensor("x", "drop"), tensor("y")).apply(headers, body)
        assert V2Codec().decode(ready, headers)["y"].data.tolist() == [0.0, 0.0]

    @pytest.mark.parametrize(
        ("shape", "kind", "raw"),
        [
            ([2, 3], "FP32", b"\0" * 20),
            ([2, 3], "FP32", b"\0" * 28),
            ([2, 3], "FP31", b"\0" * 24),
            ([1, 3], "BYTES", b"\x09\0\0\0M"),
            ([1, 3], "BYTES", b"\x01\0\0\0M"),
        ],
    )
    def test_what_does_not_fit_is_unreadable(self, shape: list[int], kind: str, raw: bytes) -> None:
        headers, body = binary(("x", kind, shape, raw))
        with pytest.raises(UnreadableError):
            rules(column("sex")).apply(headers, body)

    @pytest.mark.parametrize("more", [b"M", b" "])
    def test_bytes_that_belong_to_no_tensor_do_not_leave(self, more: bytes) -> None:
        headers, body = binary(("sex", "INT8", [1], b"\1"))
        with pytest.raises(UnreadableError):
            rules(column("sex")).apply(headers, body + more)
        with pytest.raises(UnreadableError):
            rules(column("sex")).apply({LENGTH: "2"}, b"{}" + more)

    def test_data_in_two_places_does_not_leave(self) -> None:
        entry = {"name": "x", "datatype": "INT8", "shape": [1], "data": [1], "parameters": {"binary_data_size": 1}}
        with pytest.raises(UnreadableError):
            rules(tensor("y")).apply({}, orjson.dumps({"inputs": [entry]}) + b"\1")


KEYS = ["instances", "inputs", "data", "names", "ndarray", "name", "shape", "datatype", "sex", "x"]
LEAVES = (st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.just("SECRET"), st.text("ab"))
JSON = st.recursive(
    st.one_of(*LEAVES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=20,
)


@given(JSON)
def test_whatever_the_body_a_tensor_rule_for_everything_leaves_no_secret(body: Any) -> None:
    """A tensor of every known name is masked: either the known places are clean, or the body is unreadable."""
    given = [
        tensor(name) for name in ("instances", "inputs", "ndarray", "tensor", "tftensor", "sex", "x", "0", "1", "2")
    ]
    try:
        ready = redact(body, *given)
    except UnreadableError:
        return
    assert "SECRET" not in json.dumps(ready.get("instances", ""))


@given(st.binary(max_size=60))
def test_any_bytes_are_redacted_or_unreadable(body: bytes) -> None:
    for some in ((pointer("/*/a"),), (column("sex"), tensor("x")), (column("sex", "drop"), pointer("/*", "drop"))):
        for headers in ({}, {LENGTH: "3"}):
            with suppress(UnreadableError):
                rules(*some).apply(headers, body)


@pytest.mark.parametrize("depth", [100, 300, 2000, 100_000])
def test_deep_bodies(depth: int) -> None:
    body = b'{"instances": ' + b"[" * depth + b'"SECRET"' + b"]" * depth + b"}"
    try:
        assert b"SECRET" not in rules(tensor("instances")).apply({}, body)
    except UnreadableError:
        assert depth > 200


def test_not_finite_numbers_and_large_ones() -> None:
    ready = rules(column("sex")).apply({}, b'{"instances": [[NaN, "M", Infinity]]}')
    assert ready == b'{"instances":[[null,"***",null]]}'
    ready = rules(column("sex")).apply({}, b'{"instances": [[NaN, "M", 123456789012345678901]]}')
    assert ready == b'{"instances":[[NaN,"***",123456789012345678901]]}'


class TestEvents:
    """Through the recorder: attributes, marks and counts."""

    def capture(self, request: bytes, response: bytes = b"{}", head: str = "", answer: str = "", **plan: Any) -> Any:
        self.records: list[Record] = []
        self.counters = Counters()
        shipping = Shipping("s", columns=COLUMNS, **plan)
        recorder = Recorder(shipping, self.records.append, self.counters, lambda: 1e9, KEY)
        conversation = Conversation(recorder, self.counters)
        start = f"POST /v1/models/income:predict HTTP/1.1\r\nContent-Length: {len(request)}\r\n{head}\r\n"
        conversation.data(CLIENT, start.encode() + request, 1.0)
        start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(response)}\r\n{answer}\r\n"
        conversation.data(UPSTREAM, start.encode() + response, 2.0)
        assert set(self.counters) <= {name for metric in METRICS for name in metric.samples}
        assert recorder.memory.take(shipping.held)
        return self.records

    def outcome(self, outcome: str) -> int:
        return self.counters[sample("redacted_total", outcome=outcome)]

    def test_marked_and_counted(self) -> None:
        request, response = self.capture(b'{"instances": [[1, "M", 2]]}', redact=(column("sex"),))
        assert request.value == b'{"instances":[[1,"***",2]]}'
        assert request.headers["ce_redacted"] == "true"
        assert "ce_redacted" not in response.headers, "no rule is for it: it is not even read"
        assert (self.outcome("redacted"), self.outcome("withheld")) == (1, 0)

    @pytest.mark.parametrize(
        ("body", "head", "plan"),
        [
            (b"no JSON, M", "", {}),
            (b'{"instances": [[1, "M", 2]]}', "", {"max_body": 10}),
            (gzip.compress(b'{"instances": [[1, "M", 2]]}', mtime=0)[:-4], "Content-Encoding: gzip\r\n", {}),
            (b'{"instances": [[1, "M", 2]]}', "Content-Encoding: rot13\r\n", {}),
            (
                gzip.compress(b" " * 100_000 + b'{"instances": []}', mtime=0),
                "Content-Encoding: gzip\r\n",
                {"inflate_limit": 99_999},
            ),
            (b'{"instances": [[1, "M", 2]]}', f"{LENGTH}: 9999\r\n", {}),
        ],
    )
    def test_what_cannot_be_read_is_withheld(self, body: bytes, head: str, plan: dict[str, Any]) -> None:
        request, _ = self.capture(body, head=head, redact=(column("sex"),), **plan)
        assert request.value == b""
        assert request.headers["ce_redacted"] == "withheld"
        assert "M" not in str({k: v for k, v in request.headers.items() if k.startswith("ce_redact")})
        assert (self.outcome("redacted"), self.outcome("withheld")) == (0, 1)
        with pytest.raises(InvalidEvent) as raised:
            decode(payload_event(Delivery("t/0", 0, request)))
        assert raised.value.reason in ("withheld", "truncated")

    def test_compressed_bodies_are_inflated_for_it(self) -> None:
        plain = b'{"instances": [[1, "M", 2]]}'
        for name, packed in (
            ("gzip", gzip.compress(plain, mtime=0)),
            ("br", brotli.compress(plain)),
            ("zstd", zstandard.compress(plain)),
        ):
            request, _ = self.capture(packed, head=f"Content-Encoding: {name}\r\n", redact=(column("sex"),))
            assert request.value == b'{"instances":[[1,"***",2]]}'
            assert "ce_contentencoding" not in request.headers

    def test_what_is_larger_afterwards_is_cut(self) -> None:
        body = orjson.dumps({"instances": [[1, "M", 2]] * 100})
        request, _ = self.capture(body, redact=(column("sex", "hash"),), max_body=len(body))
        assert request.headers["ce_truncated"] == "true"
        assert len(request.value) == len(body)
        assert b'"M"' not in request.value

    def test_headers(self) -> None:
        head = "X-User: grace\r\nX-Team: t1\r\nX-Request-Id: r-1\r\nTraceparent: 00-1\r\nX-Other: no\r\n"
        given = (
            RedactRule("header", "X-User", "hash"),
            RedactRule("header", "traceparent", "drop"),
            RedactRule("header", "x-secret", "mask", side="response"),
        )
        request, response = self.capture(
            b"{}",
            head=head,
            answer="X-Secret: s\r\nX-Team: t2\r\n",
            redact=given,
            headers=("x-user", "x-team", "x-secret"),
        )
        assert json.loads(request.headers["ce_metadata"]) == {"x-user": [digest("grace")], "x-team": ["t1"]}
        assert json.loads(response.headers["ce_metadata"]) == {"x-team": ["t2"], "x-secret": ["***"]}
        assert "ce_traceparent" not in request.headers | response.headers
        assert request.headers["ce_requestid"] == response.headers["ce_requestid"] == "r-1"
        assert "grace" not in str((request, response))

    @pytest.mark.parametrize(("action", "expected"), [("hash", digest("r-1")), ("mask", ""), ("drop", "")])
    def test_request_ids(self, action: str, expected: str) -> None:
        given = (RedactRule("header", "x-request-id", action),)
        request, response = self.capture(b"{}", head="X-Request-Id: r-1\r\n", redact=given)
        assert request.headers["ce_requestid"] == response.headers["ce_requestid"]
        assert "r-1" not in str(self.records)
        assert "***" not in request.headers["ce_requestid"]
        assert not expected or request.headers["ce_requestid"] == expected

    def test_combined_events(self) -> None:
        given = (column("sex"), column("p"))
        (record,) = self.capture(b'{"instances": [[1, "M", 2]]}', b'{"predictions": ["M"]', redact=given, combined=True)
        request, response = split(payload_event(Delivery("t/0", 0, record)))
        assert orjson.loads(request.data) == {"instances": [[1, "***", 2]]}
        assert (response.data, response.headers["ce_redacted"]) == (b"", "withheld")
        assert record.headers["ce_redacted"] == "withheld"
        assert b'"M"' not in (record.value or b"")

    def test_feedback(self) -> None:
        """A feedback holds messages in messages: nobody looks into it, so it does not leave."""
        records: list[Record] = []
        counters = Counters()
        recorder = Recorder(Shipping("s", redact=(tensor("ndarray"),)), records.append, counters, lambda: 1e9, KEY)
        body = b'{"request": {"data": {"ndarray": [["M"]]}}, "reward": 1}'
        start = f"POST /api/v1.0/feedback HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        Conversation(recorder, counters).data(CLIENT, start + body, 1.0)
        assert records[0].value == b""


class TestInflating:
    capture = TestEvents.capture

    def test_bodies_are_sent_inflated(self) -> None:
        request, _ = self.capture(gzip.compress(b"{}", mtime=0), head="Content-Encoding: gzip\r\n", inflate=True)
        assert (request.value, "ce_contentencoding" in request.headers) == (b"{}", False)
        assert self.counters[sample("inflated_total", outcome="inflated")] == 1

    @pytest.mark.parametrize("body", [gzip.compress(b"x" * 10_000, mtime=0), b"broken"])
    def test_what_cannot_be_is_left_as_it_is(self, body: bytes) -> None:
        request, _ = self.capture(body, head="Content-Encoding: gzip\r\n", inflate=True, max_body=5000)
        assert (request.value, request.headers["ce_contentencoding"]) == (body, "gzip")
        assert self.counters[sample("inflated_total", outcome="left")] == 1


class TestKeys:
    def test_from_the_environment_or_a_file(self, tmp_path: Any) -> None:
        assert read_key("", "K", {"K": f" {KEY.decode()}\n"}) == KEY
        (tmp_path / "key").write_bytes(KEY + b"\n")
        assert read_key(str(tmp_path / "key"), "K", {}) == KEY

    @pytest.mark.parametrize(("value", "said"), [("", "needs a key"), ("short", "has 5 bytes; give 16 to 4096")])
    def test_mistakes_do_not_tell_it(self, value: str, said: str) -> None:
        with pytest.raises(ValueError, match=said) as raised:
            read_key("", "SOME_KEY", {"SOME_KEY": value})
        assert "SOME_KEY" in str(raised.value)
        assert "short" not in str(raised.value).replace("too short", "")

    def test_a_missing_file(self) -> None:
        with pytest.raises(ValueError, match="No such file"):
            read_key("/nowhere/key", "K", {})
