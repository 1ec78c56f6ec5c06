"""gRPC's payloads: ModelInfer (V2), SeldonMessage, and TensorFlow Serving's Predict, as protobuf messages.

A sidecar sends a message as it is, KServe's loggers with gRPC's five bytes of length before it. The classes of the
messages are loaded when the first one is decoded.

Sources: Open Inference Protocol (gRPC), Seldon Core's prediction.proto, TensorFlow's tensor.proto and predict.proto;
gRPC over HTTP/2 (length-prefixed messages).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monitor.codecs import seldon
from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.v2 import binary_data, reshape
from monitor.events import InvalidEvent

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PREFIX = 5
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_TENSOR: Mapping[int, tuple[str, str]] = {
    1: ("float_val", "<f4"), 2: ("double_val", "<f8"), 3: ("int_val", "<i4"), 4: ("int_val", "<u1"),
    5: ("int_val", "<i2"), 6: ("int_val", "<i1"), 9: ("int64_val", "<i8"), 10: ("bool_val", "?"),
    17: ("int_val", "<u2"), 22: ("uint32_val", "<u4"), 23: ("uint64_val", "<u8"),
}  # fmt: skip
_STRING, _HALF = 7, 19
MAX_FILLED = 10_000_000
"""Values that one value may stand for."""


class V2Protobuf:
    """``ModelInferRequest``, ``ModelInferResponse`` (alone or of a stream), typed or raw contents.

    >>> codec = V2Protobuf()
    >>> body = codec.encode({"x": Tensor("x", np.array([[1.0, 2.0]]))})
    >>> codec.decode(body, {})["x"].data.tolist()
    [[1.0, 2.0]]
    """

    name = "v2-grpc"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:
        from monitor.codecs.proto import open_inference_pb2 as proto

        if not is_response(headers):
            request = _read(proto.ModelInferRequest(), body)
            return _tensors(request.inputs, request.raw_input_contents)
        response = _streamed(proto.ModelStreamInferResponse(), body) or _read(proto.ModelInferResponse(), body)
        return _tensors(response.outputs, response.raw_output_contents)

    def encode(self, tensors: Tensors) -> bytes:
        """A request with all tensors as FP64, or as BYTES where they hold text."""
        from monitor.codecs.proto import open_inference_pb2 as proto

        request = proto.ModelInferRequest()
        for tensor in tensors.values():
            entry = request.inputs.add(name=tensor.name, shape=tensor.data.shape)
            if tensor.data.dtype == object:
                entry.datatype = "BYTES"
                entry.contents.bytes_contents.extend(str(value).encode() for value in tensor.data.flat)
            else:
                entry.datatype = "FP64"
                entry.contents.fp64_contents.extend(tensor.data.astype(np.float64).ravel().tolist())
        return request.SerializeToString()


class SeldonProtobuf:
    """``SeldonMessage`` in all forms of its data.

    >>> codec = SeldonProtobuf()
    >>> body = codec.encode({"x": Tensor("x", np.array([[1.0, 2.0]]), ("a", "b"))})
    >>> codec.decode(body, {})["tensor"].columns
    ('a', 'b')
    """

    name = "seldon-grpc"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:  # noqa: ARG002
        from google.protobuf.json_format import MessageToDict

        from monitor.codecs.proto import seldon_pb2 as proto

        message = _read(proto.SeldonMessage(), body)
        form = message.WhichOneof("data_oneof")
        if form == "data" and message.data.WhichOneof("data_oneof") == "tftensor":
            return seldon.one("tftensor", _tensor(message.data.tftensor, "data.tftensor"), list(message.data.names))
        if form == "data" and message.data.WhichOneof("data_oneof") == "tensor":
            tensor = message.data.tensor
            values = reshape(np.array(tensor.values, dtype=np.float64), list(tensor.shape), "data.tensor")
            return seldon.one("tensor", values, list(message.data.names))
        try:
            return seldon.tensors(MessageToDict(message))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidEvent):
                raise
            raise InvalidEvent("bad_shape", f"the SeldonMessage cannot be read: {error}") from None

    def encode(self, tensors: Tensors) -> bytes:
        """The first tensor as ``data.tensor``."""
        from monitor.codecs.proto import seldon_pb2 as proto

        tensor = next(iter(tensors.values()))
        message = proto.SeldonMessage()
        message.data.names.extend(tensor.columns)
        message.data.tensor.shape.extend(tensor.data.shape)
        message.data.tensor.values.extend(tensor.data.astype(np.float64).ravel().tolist())
        return message.SerializeToString()


class TensorflowProtobuf:
    """``PredictRequest`` and ``PredictResponse``: every input or output is one tensor.

    >>> codec = TensorflowProtobuf()
    >>> codec.decode(codec.encode({"x": Tensor("x", np.array([[1.0, 2.0]]))}), {})["x"].data.tolist()
    [[1.0, 2.0]]
    """

    name = "v1-grpc"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:
        from monitor.codecs.proto import tensorflow_pb2 as proto

        if is_response(headers):
            entries = _read(proto.PredictResponse(), body).outputs
        else:
            entries = _read(proto.PredictRequest(), body).inputs
        return {name: Tensor(name, _tensor(entries[name], name[:80])) for name in sorted(entries)}

    def encode(self, tensors: Tensors) -> bytes:
        """A request with all tensors as DT_DOUBLE."""
        from monitor.codecs.proto import tensorflow_pb2 as proto

        request = proto.PredictRequest()
        for name, tensor in tensors.items():
            entry = request.inputs[name]
            entry.dtype = 2
            for size in tensor.data.shape:
                entry.tensor_shape.dim.add(size=size)
            entry.tensor_content = tensor.data.astype("<f8").tobytes()
        return request.SerializeToString()


def _streamed(message: Any, body: bytes) -> Any:
    """The response inside a stream's answer, or ``None``: its field 2 is a response, a response's is its version."""
    try:
        _read(message, body)
    except InvalidEvent:
        return None
    return message.infer_response if message.infer_response.outputs else None


def is_response(headers: Mapping[str, str]) -> bool:
    """Requests and responses are different messages, and only the event says which it is."""
    return (headers.get("offpath-side") or headers.get("ce_type") or headers.get("type", "")).endswith("response")


def _read(message: Any, body: bytes) -> Any:
    """The parsed message. Raises :class:`InvalidEvent` (``invalid_protobuf``)."""
    if body[:1] == b"\0":  # no message begins so: it is gRPC's prefix, not compressed
        if int.from_bytes(body[1:_PREFIX], "big") != len(body) - _PREFIX:
            raise InvalidEvent("truncated", f"gRPC's prefix does not announce the {len(body)} bytes that are there")
        body = body[_PREFIX:]
    try:
        message.ParseFromString(body)
    except (ValueError, RecursionError) as error:  # protobuf's DecodeError is none of Python's own kinds
        raise InvalidEvent("invalid_protobuf", f"the body is no {_name(message)}: {error}") from None
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        raise InvalidEvent("invalid_protobuf", f"the body is no {_name(message)}") from None
    return message


def _name(message: Message) -> str:
    return message.DESCRIPTOR.name


def _tensors(entries: Sequence[Any], raw: Sequence[bytes]) -> Tensors:
    if raw and len(raw) != len(entries):
        raise InvalidEvent("bad_shape", f"{len(entries)} tensors, but {len(raw)} raw contents")
    found = dict(_each(entries, raw))
    if len(found) < len(entries):
        raise InvalidEvent("bad_shape", "two tensors have the same name")
    return found


def _each(entries: Sequence[Any], raw: Sequence[bytes]) -> Iterator[tuple[str, Tensor]]:
    for i, entry in enumerate(entries):
        where = f"tensor {entry.name[:80]!r}"
        shape = _sizes(list(entry.shape), where)
        if raw:
            data = binary_data(raw[i], entry.datatype, shape, where)
        else:
            field = _CONTENTS.get(entry.datatype)
            if field is None:
                raise InvalidEvent("unknown_datatype", f"{where}: datatype {entry.datatype[:40]!r} has no contents")
            data = reshape(_values(getattr(entry.contents, field)), shape, where)
        yield entry.name, Tensor(entry.name, data)


def _sizes(shape: list[int], where: str) -> list[int]:
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise InvalidEvent("bad_shape", f"{where}: shape {shape!r:.80} is none")
    return shape or [1]


def _values(values: Sequence[Any]) -> npt.NDArray[Any]:
    if values and isinstance(values[0], bytes):
        return np.array([value.decode(errors="replace") for value in values], dtype=object)
    return np.array(values, dtype=np.float64)


def _tensor(tensor: Any, where: str) -> npt.NDArray[Any]:
    """A TensorProto: its content as bytes, or a list of values, the last of which stands for all that are missing."""
    shape = _sizes([dim.size for dim in tensor.tensor_shape.dim], where)
    wanted = int(np.prod([float(size) for size in shape]))
    if wanted > MAX_FILLED:
        raise InvalidEvent("too_large", f"{where}: {wanted} values")
    if tensor.dtype == _STRING:
        return reshape(_values(tensor.string_val), shape, where)
    if tensor.dtype == _HALF and not tensor.tensor_content:
        bits = np.array(tensor.half_val, dtype=np.int64).astype("<u2")
        return reshape(_filled(bits.view("<f2").astype(np.float64), wanted), shape, where)
    field, code = ("", "<f2") if tensor.dtype == _HALF else _TENSOR.get(tensor.dtype, ("", ""))
    if not code:
        raise InvalidEvent("unknown_datatype", f"{where}: DataType {tensor.dtype} is no numeric one")
    if tensor.tensor_content:
        if len(tensor.tensor_content) % np.dtype(code).itemsize:
            raise InvalidEvent(
                "truncated", f"{where}: {len(tensor.tensor_content)} bytes are no whole number of values"
            )
        return reshape(np.frombuffer(tensor.tensor_content, dtype=code).astype(np.float64), shape, where)
    return reshape(_filled(_values(getattr(tensor, field)), wanted), shape, where)


def _filled(values: npt.NDArray[Any], wanted: int) -> npt.NDArray[Any]:
    if 0 < len(values) < wanted:
        return np.append(values, np.full(wanted - len(values), values[-1]))
    return values
