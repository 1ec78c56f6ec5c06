"""Payloads of V1, V2 and Seldon as their servers and clients write them."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import brotli
import numpy as np
import orjson
import pytest
import zstandard

from monitor.codecs.detect import decode
from monitor.codecs.inflate import inflate
from monitor.codecs.seldon import SeldonCodec
from monitor.events import Delivery, InvalidEvent, PayloadEvent, payload_event
from sinks.base import Record

REQUEST = "org.kubeflow.serving.inference.request"


def event(body: bytes, path: str = "", **headers: str) -> PayloadEvent:
    told = {"ce_type": REQUEST, "ce_id": "1", "ce_source": "s", "ce_path": path}
    return payload_event(Delivery("t/0", 0, Record(None, {**told, **headers}, body, 0.0)))


def lists(body: Any, path: str = "", **headers: str) -> dict[str, Any]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {name: tensor.data.tolist() for name, tensor in decode(event(text, path, **headers)).items()}


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


V1, V2, SELDON = "/v1/models/m:predict", "/v2/models/m/infer", "/api/v1.0/predictions"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [[1, 2], [3, 4.5]]}, {"instances": [[1, 2], [3, 4.5]]}),
        ({"predictions": [0.1, 0.9]}, {"predictions": [0.1, 0.9]}),
        ({"signature_name": "s", "inputs": {"a": [1, 2], "b": [[3], [4]]}}, {"a": [1, 2], "b": [[3], [4]]}),
        ({"inputs": [[1, 2]]}, {"inputs": [[1, 2]]}),
        ({"outputs": [[1, 2]]}, {"outputs": [[1, 2]]}),
        ({"instances": [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]}, {"a": [1, 2], "b": ["x", "y"]}),
        ({"instances": [[1, "x"], [None, "y"]]}, {"instances": [[1, "x"], [None, "y"]]}),
        ({"instances": [{"b64": b64(b"raw")}]}, {"instances": [b"raw"]}),
        ({"instances": []}, {"instances": []}),
        ({"instances": [True, False]}, {"instances": [1.0, 0.0]}),
    ],
)
def test_v1(body: Any, expected: Any) -> None:
    assert lists(body, V1) == expected
    assert lists(body) == expected, "without a path it is told by its looks"


def test_v1_takes_the_numbers_that_json_has_not() -> None:
    found = lists(b'{"instances": [[NaN, Infinity, -Infinity, 1e400]]}', V1)["instances"][0]
    assert np.isnan(found[0])
    assert found[1:] == [np.inf, -np.inf, np.inf]


def tensor(name: str, shape: list[int], datatype: str, data: Any, **parameters: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    return {**told, "data": data} if data is not None else {**told, "parameters": parameters}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": [tensor("x", [2, 2], "FP32", [1, 2, 3, 4])]}, {"x": [[1, 2], [3, 4]]}),
        ({"inputs": [tensor("x", [2, 2], "FP32", [[1, 2], [3, 4]])]}, {"x": [[1, 2], [3, 4]]}),
        (
            {"inputs": [tensor("a", [2], "INT64", [1, 2]), tensor("b", [2, 1], "BYTES", ["u", "v"])]},
            {"a": [1, 2], "b": [["u"], ["v"]]},
        ),
        ({"model_name": "m", "outputs": [tensor("y", [1], "BOOL", [True])]}, {"y": [1.0]}),
        ({"inputs": [tensor("x", [1, 1], "BYTES", [5])]}, {"x": [[5]]}),
        ({"inputs": [tensor("x", [0, 3], "FP64", [])]}, {"x": []}),
    ],
)
def test_v2(body: Any, expected: Any) -> None:
    assert lists(body, V2) == expected
    assert lists(body) == expected


BINARY = [
    ("FP32", struct.pack("<2f", 1.5, 2), [1.5, 2]),
    ("FP64", struct.pack("<2d", 1.5, 2), [1.5, 2]),
    ("FP16", np.array([1.5, 2], "<f2").tobytes(), [1.5, 2]),
    ("BF16", b"\xc0\x3f\x00\x40", [1.5, 2]),
    ("INT8", struct.pack("<2b", -1, 2), [-1, 2]),
    ("UINT16", struct.pack("<2H", 65535, 2), [65535, 2]),
    ("INT64", struct.pack("<2q", -5, 2), [-5, 2]),
    ("BOOL", b"\x01\x00", [1, 0]),
    ("BYTES", struct.pack("<I", 2) + b"ab" + struct.pack("<I", 1) + b"c", ["ab", "c"]),
]


@pytest.mark.parametrize(("datatype", "raw", "expected"), BINARY, ids=[row[0] for row in BINARY])
@pytest.mark.parametrize("told", [True, False], ids=["length header", "without"])
def test_v2_binary(datatype: str, raw: bytes, expected: list[Any], told: bool) -> None:
    text = json.dumps({"inputs": [tensor("x", [2], datatype, None, binary_data_size=len(raw))]}).encode()
    headers = {"inference-header-content-length": str(len(text))} if told else {}
    assert lists(text + raw, V2, **headers) == {"x": expected}


def test_v2_binary_and_json_inputs_in_one_request() -> None:
    raw = struct.pack("<2f", 3, 4)
    entries = [tensor("a", [2], "FP32", [1, 2]), tensor("b", [2], "FP32", None, binary_data_size=8)]
    assert lists(json.dumps({"inputs": entries}).encode() + raw) == {"a": [1, 2], "b": [3, 4]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": {"ndarray": [[1, 2], [3, 4]]}}, {"ndarray": [[1, 2], [3, 4]]}),
        ({"data": {"names": ["a", "b"], "ndarray": [["u", 2]]}, "meta": {"puid": "1"}}, {"ndarray": [["u", 2]]}),
        ({"data": {"tensor": {"shape": [2, 1], "values": [1, 2]}}}, {"tensor": [[1], [2]]}),
        (
            {
                "data": {
                    "tftensor": {"dtype": "DT_DOUBLE", "tensorShape": {"dim": [{"size": "2"}]}, "doubleVal": [1, 2]}
                }
            },
            {"tftensor": [1, 2]},
        ),
        (
            {"data": {"tftensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": 2}]}, "floatVal": [7]}}},
            {"tftensor": [7, 7]},
        ),
        (
            {
                "data": {
                    "tftensor": {
                        "dtype": "DT_INT32",
                        "tensorShape": {"dim": [{"size": "1"}, {"size": "2"}]},
                        "tensorContent": b64(struct.pack("<2i", 1, -2)),
                    }
                }
            },
            {"tftensor": [[1, -2]]},
        ),
        ({"strData": "good film"}, {"strData": ["good film"]}),
        ({"binData": b64(b"\x00\x01")}, {"binData": [b"\x00\x01"]}),
        ({"jsonData": [[1, 2]]}, {"jsonData": [[1, 2]]}),
        ({"jsonData": {"a": 1}}, {"a": [1.0]}),
    ],
)
def test_seldon(body: Any, expected: Any) -> None:
    assert lists(body, SELDON) == expected
    assert lists(body) == expected


def test_names_of_a_seldon_message_are_the_columns() -> None:
    found = decode(event(b'{"data": {"names": ["a", "b"], "ndarray": [[1, 2]]}}'))
    assert found["ndarray"].columns == ("a", "b")


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        (b"", V1, "empty_body"),
        (b"  ", V1, "empty_body"),
        (b'{"instances": [[1, 2', V1, "invalid_json"),
        (b"[1, 2]", V1, "invalid_json"),
        (b'"text"', "", "invalid_json"),
        (b"\xff\xfe", "", "invalid_json"),
        (b"[" * 100_000, "", "invalid_json"),
        (b"{}", V1, "unknown_protocol"),
        (b"{}", V2, "unknown_protocol"),
        (b"{}", SELDON, "unknown_protocol"),
        (b'{"question": 1}', "", "unknown_protocol"),
        (b'{"instances": 5}', V1, "bad_shape"),
        (b'{"instances": [[1, 2], [3]]}', V1, "ragged"),
        (b'{"instances": [{"a": 1}, {"b": 1}]}', V1, "ragged"),
        (b'{"instances": [[{"c": 1}]]}', V1, "not_numeric"),
        (b'{"instances": [{"b64": "%"}]}', V1, "invalid_base64"),
        (b'{"inputs": [5]}', V2, "bad_shape"),
        (b'{"inputs": [{"name": "x", "data": [1]}]}', V2, "bad_shape"),
        (b'{"inputs": [{"name": "x", "shape": [-1], "data": [1]}]}', V2, "bad_shape"),
        (b'{"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1, 2]}]}', V2, "bad_shape"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": 1}]}', V2, "bad_shape"),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}\x00',
            V2,
            "truncated",
        ),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP31", "parameters": {"binary_data_size": 1}}]}\x00',
            V2,
            "unknown_datatype",
        ),
        (b'{"data": {"names": "a", "ndarray": [[1]]}}', SELDON, "bad_shape"),
        (b'{"data": {"ndarray": 5}}', SELDON, "bad_shape"),
        (b'{"data": {"tensor": {"shape": [2], "values": [1]}}}', SELDON, "bad_shape"),
        (b'{"data": {"tftensor": {"dtype": "DT_VARIANT"}}}', SELDON, "unknown_datatype"),
        (
            b'{"data": {"tftensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": -1}]}, "floatVal": [1]}}}',
            SELDON,
            "bad_shape",
        ),
        (
            b'{"data": {"tftensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": 3e6}]}, "floatVal": [1]}}}',
            SELDON,
            "too_large",
        ),
        (b'{"data": {}}', SELDON, "unknown_protocol"),
        (b'{"binData": "%"}', SELDON, "invalid_base64"),
    ],
)
def test_what_is_refused_and_why(body: bytes, path: str, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        decode(event(body, path))
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 400, "a message is for people, and never the payload"


def test_the_path_and_the_configuration_win_over_looks() -> None:
    body = {"inputs": [tensor("x", [1], "FP64", [1])]}
    assert lists(body, V2) == {"x": [1]}
    with pytest.raises(InvalidEvent, match="an object where a value belongs"):
        decode(event(json.dumps(body).encode(), V2), "v1")
    assert list(decode(event(b'{"data": {"ndarray": [1]}}', ce_protocol="seldon"))) == ["ndarray"]


def test_a_cut_body_is_said_to_be_cut() -> None:
    with pytest.raises(InvalidEvent, match=r"cut the body at 14 bytes \(capture.max_body\)") as refused:
        decode(event(b'{"instances": ', ce_truncated="true"))
    assert refused.value.reason == "truncated"


def test_a_body_above_the_limit_is_not_decoded() -> None:
    with pytest.raises(InvalidEvent) as refused:
        decode(event(b'{"instances": [[1]]}'), max_bytes=10)
    assert refused.value.reason == "too_large"


RAW = b'{"instances": [[1, 2]]}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(RAW, mtime=0)),
        ("gzip", gzip.compress(RAW[:7], mtime=0) + gzip.compress(RAW[7:], mtime=0)),
        ("gzip", gzip.compress(RAW, mtime=0) + bytes(300)),
        ("X-GZIP", gzip.compress(RAW, mtime=0)),
        ("deflate", zlib.compress(RAW)),
        ("deflate", zlib.compress(RAW)[2:-4]),  # raw, without the header and checksum of zlib
        ("identity", RAW),
        ("br", brotli.compress(RAW)),
        ("zstd", zstandard.compress(RAW)),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(RAW)),
        ("zstd", zstandard.compress(RAW[:9]) + zstandard.compress(RAW[9:])),
        ("deflate, gzip", gzip.compress(zlib.compress(RAW), mtime=0)),
        ("zstd, br", brotli.compress(zstandard.compress(RAW))),
    ],
)
def test_encodings(encoding: str, body: bytes) -> None:
    assert lists(body, V1, ce_contentencoding=encoding) == {"instances": [[1, 2]]}


# a window of 128 MiB, which a receiver would have to hold: RFC 9659 allows 8 MiB
_WIDE = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27)).compressobj()
WIDE = _WIDE.compress(RAW) + _WIDE.flush()


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("gzip", RAW, "invalid_encoding"),
        ("gzip", gzip.compress(RAW, mtime=0)[:-9], "invalid_encoding"),
        ("gzip", gzip.compress(RAW, mtime=0) + b"more", "invalid_encoding"),
        ("deflate", zlib.compress(RAW) + b"more", "invalid_encoding"),
        ("gzip", gzip.compress(b"", mtime=0) * 100_000 + gzip.compress(RAW, mtime=0), "invalid_encoding"),
        ("gzip", gzip.compress(RAW, mtime=0)[:-1], "invalid_encoding"),
        ("rot13", RAW, "unknown_encoding"),
        ("br", RAW, "invalid_encoding"),
        ("br", brotli.compress(RAW)[:-3], "invalid_encoding"),
        ("br", brotli.compress(RAW) + b"more", "invalid_encoding"),
        ("br", brotli.compress(bytes(2_000_000)), "inflate_limit"),
        ("br", b"", "invalid_encoding"),
        ("zstd", RAW, "invalid_encoding"),
        ("zstd", zstandard.compress(RAW)[:-3], "invalid_encoding"),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(RAW)[:-3], "invalid_encoding"),
        ("zstd", zstandard.compress(RAW) + b"more", "invalid_encoding"),
        ("zstd", zstandard.compress(bytes(2_000_000)), "inflate_limit"),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2_000_000)), "inflate_limit"),
        ("zstd", WIDE, "invalid_encoding"),
        ("zstd", b"", "invalid_encoding"),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(b"") * 400_000, "invalid_encoding"),
        ("gzip, gzip, gzip, identity, gzip, gzip", RAW, "unknown_encoding"),
        ("gzip", gzip.compress(bytes(2_000_000), mtime=0), "inflate_limit"),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(2_000_000), mtime=0), mtime=0), "inflate_limit"),
    ],
)
def test_what_cannot_be_inflated(encoding: str, body: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        inflate(body, encoding, 1_000_000)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "s": "M"},
        [{"a": 1, "s": "M"}],
        {"a": [1], "s": ["M"]},
        {"instances": [{"a": 1, "s": "M"}]},
        {"inputs": {"a": [1], "s": ["M"]}},
    ],
)
def test_seldon_json_data_with_names(value: Any) -> None:
    tensors = SeldonCodec().decode(orjson.dumps({"jsonData": value}), {})
    assert {name: tensor.data.tolist() for name, tensor in tensors.items()} == {"a": [1.0], "s": ["M"]}


def test_seldon_json_data_as_rows() -> None:
    assert SeldonCodec().decode(b'{"jsonData": [[1, 2]]}', {})["jsonData"].data.tolist() == [[1.0, 2.0]]
    assert SeldonCodec().decode(b'{"jsonData": {"instances": [[1, 2]]}}', {})["instances"].data.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("dtype", "field", "given", "expected"),
    [
        ("DT_HALF", "halfVal", [15360, 16384], [1.0, 2.0]),
        ("DT_UINT32", "uint32Val", [1, 4294967295], [1.0, 4294967295.0]),
        ("DT_UINT64", "uint64Val", ["1", "2"], [1.0, 2.0]),
        ("DT_STRING", "stringVal", ["TQ==", "Rg=="], [b"M", b"F"]),
    ],
)
def test_seldon_tftensor_values(dtype: str, field: str, given: list[Any], expected: list[Any]) -> None:
    tensor = {"dtype": dtype, "tensorShape": {"dim": [{"size": "2"}]}, field: given}
    found = SeldonCodec().decode(orjson.dumps({"data": {"tftensor": tensor}}), {})
    assert found["tftensor"].data.tolist() == expected
