"""The Open Inference Protocol (V2) over gRPC: typed or raw contents.

Source: Open Inference Protocol (gRPC).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.protobuf import is_response, read_message, sizes, values_of
from monitor.codecs.v2 import binary_data, reshape
from monitor.codecs.values import booleans
from monitor.events import InvalidEvent

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


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
            request = read_message(proto.ModelInferRequest(), body)
            return _tensors(request.inputs, request.raw_input_contents)
        response = _streamed(proto.ModelStreamInferResponse(), body) or read_message(proto.ModelInferResponse(), body)
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


def _streamed(message: Any, body: bytes) -> Any:
    """The response inside a stream's answer, or ``None``: its field 2 is a response, a response's is its version."""
    try:
        read_message(message, body)
    except InvalidEvent:
        return None
    return message.infer_response if message.infer_response.outputs else None


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
        shape = sizes(list(entry.shape), where)
        if raw:
            data = binary_data(raw[i], entry.datatype, shape, where)
        else:
            field = _CONTENTS.get(entry.datatype)
            if field is None:
                raise InvalidEvent("unknown_datatype", f"{where}: datatype {entry.datatype[:40]!r} has no contents")
            values = values_of(getattr(entry.contents, field))
            data = reshape(booleans(values) if entry.datatype == "BOOL" else values, shape, where)
        yield entry.name, Tensor(entry.name, data)
