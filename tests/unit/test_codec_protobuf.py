"""gRPC's payloads, as MLServer, Triton and Seldon's Python server write them, and whatever else may come."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.codecs.detect import REASONS, decode
from monitor.codecs.proto import open_inference_pb2, seldon_pb2, tensorflow_pb2
from monitor.events import Delivery, InvalidEvent, PayloadEvent, payload_event
from sinks.base import Record

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/seldon.protos.Seldon/Predict"
TENSORFLOW = "/tensorflow.serving.PredictionService/Predict"


def event(body: bytes, path: str = INFER, side: str = "request", **headers: str) -> PayloadEvent:
    told = {
        "ce_type": f"org.kubeflow.serving.inference.{side}", "ce_id": "1", "ce_source": "s", "ce_path": path,
        "content-type": "application/x-protobuf",
    }  # fmt: skip
    return payload_event(Delivery("t/0", 0, Record(None, {**told, **headers}, body, 0.0)))


def lists(body: bytes, path: str = INFER, side: str = "request", **headers: str) -> dict[str, Any]:
    return {name: tensor.data.tolist() for name, tensor in decode(event(body, path, side, **headers)).items()}


CAPTURED = [
    ("MLServer, typed", INFER, "request", {"x": [[0, 0], [3, 3]]},
     "0a04697269731a057265712d322a310a01781204465036341a0202022a223a200000000000000000000000000000000000000000000008400000000000000840"),
    ("MLServer, typed", INFER, "response", {"predict": [[0], [1]]},
     "0a0469726973120276311a057265712d322a300a07707265646963741205494e5436341a02020122140a0c636f6e74656e745f7479706512041a026e702a041a020001"),
    ("MLServer, raw", INFER, "response", {"predict": [[0], [1]]},
     "0a0469726973120276311a057265712d332a2c0a07707265646963741205494e5436341a02020122140a0c636f6e74656e745f7479706512041a026e702a00321000000000000000000100000000000000"),
    ("Triton, raw", INFER, "request", {"x": [[0, 0], [3, 3]]},
     "0a016d1a057265712d332a0d0a01781204465036341a0202023a200000000000000000000000000000000000000000000008400000000000000840"),
    ("Triton, raw", INFER, "response", {"y": [[0], [6]]},
     "0a016d1201311a057265712d332a0d0a01791204465036341a020201321000000000000000000000000000001840"),
    ("Seldon", PREDICT, "request", {"tensor": [[1, 2], [3, 4]]},
     "12080a066162633132331a2e0a01610a016212260a0202021220000000000000f03f000000000000004000000000000008400000000000001040"),
    ("Seldon", PREDICT, "response", {"tensor": [[3], [7]]},
     "123a0a0661626331323312080a017612031a013122260a03636c66121f4e4f545f494d504c454d454e5445443a4e4f545f494d504c454d454e5445441a1b0a017312160a020201121000000000000008400000000000001c40"),
]  # fmt: skip


@pytest.mark.parametrize(("server", "path", "side", "expected", "written"), CAPTURED)
def test_what_servers_write(server: str, path: str, side: str, expected: dict[str, Any], written: str) -> None:
    body = bytes.fromhex(written)
    assert lists(body, path, side) == expected
    framed = b"\0" + struct.pack(">I", len(body)) + body  # as KServe's loggers copy it
    assert lists(framed, path, side, **{"content-type": "application/grpc"}) == expected
    with pytest.raises(InvalidEvent) as refused:
        lists(framed[:-1], path, side)
    assert refused.value.reason == "truncated"


def test_seldons_columns_are_named() -> None:
    tensors = decode(event(bytes.fromhex(CAPTURED[5][4]), PREDICT))
    assert tensors["tensor"].columns == ("a", "b")


def test_a_streams_answer() -> None:
    answer = open_inference_pb2.ModelStreamInferResponse()
    answer.infer_response.ParseFromString(bytes.fromhex(CAPTURED[2][4]))
    assert lists(answer.SerializeToString(), side="response") == {"predict": [[0], [1]]}
    failed = open_inference_pb2.ModelStreamInferResponse(error_message="no such model")
    assert lists(failed.SerializeToString(), side="response") == {}


@pytest.mark.parametrize(
    ("datatype", "raw", "expected"),
    [
        ("FP16", np.array([1.5, -2], "<f2").tobytes(), [1.5, -2]),
        ("BF16", (np.array([1.5, -2], "<f4").view("<u4") >> 16).astype("<u2").tobytes(), [1.5, -2]),
        ("BOOL", b"\1\0", [True, False]),
        ("UINT8", b"\xff\1", [255, 1]),
        ("BYTES", b"\2\0\0\0hi\1\0\0\0!", ["hi", "!"]),
    ],
)
def test_raw_datatypes(datatype: str, raw: bytes, expected: list[Any]) -> None:
    request = open_inference_pb2.ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=[2])
    assert lists(request.SerializeToString()) == {"x": expected}


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]), ("INT8", "int_contents", [-1, 2]),
        ("INT64", "int64_contents", [-1, 2]),
        ("UINT32", "uint_contents", [1, 2]), ("UINT64", "uint64_contents", [1, 2]), ("FP32", "fp32_contents", [0.5, 2]),
        ("BYTES", "bytes_contents", [b"a", b"b"]),
    ],
)  # fmt: skip
def test_typed_datatypes(datatype: str, field: str, values: list[Any]) -> None:
    request = open_inference_pb2.ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=[2, 1])
    getattr(request.inputs[0].contents, field).extend(values)
    expected = [[value.decode() if isinstance(value, bytes) else value] for value in values]
    assert lists(request.SerializeToString()) == {"x": expected}


def test_seldon_messages_in_every_form() -> None:
    message = seldon_pb2.SeldonMessage
    table = message()
    table.data.ndarray.extend([[1, "a"], [2.5, None]])
    table.data.names.extend(["n", "s"])
    assert lists(table.SerializeToString(), PREDICT) == {"ndarray": [[1, "a"], [2.5, None]]}
    tensor = message()
    tensor.data.tftensor.dtype = 1
    tensor.data.tftensor.tensor_shape.dim.add(size=2)
    tensor.data.tftensor.float_val.extend([1, 2])
    assert lists(tensor.SerializeToString(), PREDICT) == {"tftensor": [1, 2]}
    assert lists(message(strData="text").SerializeToString(), PREDICT) == {"strData": ["text"]}
    assert lists(message(binData=b"\0\1").SerializeToString(), PREDICT) == {"binData": [b"\0\1"]}
    plain = message()
    plain.jsonData.list_value.extend([[1, 2]])
    assert lists(plain.SerializeToString(), PREDICT) == {"jsonData": [[1, 2]]}


def test_tensorflow_serving() -> None:
    request = tensorflow_pb2.PredictRequest()
    request.model_spec.name = "m"
    whole, filled, text, half = (request.inputs[name] for name in ("whole", "filled", "text", "half"))
    for tensor, dtype, shape in ((whole, 1, (1, 2)), (filled, 9, (2, 2)), (text, 7, (1,)), (half, 19, (1,))):
        tensor.dtype = dtype
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    whole.tensor_content = np.array([1.5, 2], "<f4").tobytes()
    filled.int64_val.append(7)
    text.string_val.append(b"hi")
    half.half_val.append(int(np.array([1.5], "<f2").view("<u2")[0]))
    assert lists(request.SerializeToString(), TENSORFLOW) == {
        "whole": [[1.5, 2]], "filled": [[7, 7], [7, 7]], "text": ["hi"], "half": [1.5],
    }  # fmt: skip


def reason_of(body: bytes, path: str, side: str = "request", **headers: str) -> str:
    try:
        decode(event(body, path, side, **headers))
    except InvalidEvent as error:
        return error.reason
    return ""


def test_the_reasons() -> None:
    huge = tensorflow_pb2.PredictRequest()
    huge.inputs["x"].dtype = 1
    huge.inputs["x"].tensor_shape.dim.add(size=2**60)
    huge.inputs["x"].float_val.append(1)
    odd = open_inference_pb2.ModelInferRequest()
    odd.inputs.add(name="x", datatype="FP64", shape=[3])
    assert reason_of(b"\xff\xff", INFER) == "invalid_protobuf"
    assert reason_of(huge.SerializeToString(), TENSORFLOW) == "too_large"
    assert reason_of(odd.SerializeToString(), INFER) == "bad_shape"
    assert reason_of(b"", "/x.Y/Z") == "unknown_protocol"


@given(st.binary(max_size=200), st.sampled_from([INFER, PREDICT, TENSORFLOW]), st.sampled_from(["request", "response"]))
def test_any_bytes(body: bytes, path: str, side: str) -> None:
    assert reason_of(body, path, side) in REASONS | {""}


@given(st.sampled_from(CAPTURED), st.data())
def test_any_damage(captured: Any, data: st.DataObject) -> None:
    _, path, side, _, written = captured
    body = bytearray.fromhex(written)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert reason_of(bytes(body), path, side) in REASONS | {""}
