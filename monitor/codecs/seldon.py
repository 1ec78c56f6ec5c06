"""SeldonMessage as JSON: ``data`` (ndarray, tensor, tftensor), ``strData``, ``binData``, ``jsonData``.

Source: Seldon Core's prediction.proto and external API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from monitor.codecs import v1
from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.v2 import reshape
from monitor.codecs.values import MAX_FILLED, array, b64, booleans, is_list, parse_object
from monitor.events import InvalidEvent

_TF_TYPES: Mapping[Any, tuple[str, str]] = {
    "DT_FLOAT": ("floatVal", "<f4"), "DT_DOUBLE": ("doubleVal", "<f8"), "DT_INT32": ("intVal", "<i4"),
    "DT_INT64": ("int64Val", "<i8"), "DT_BOOL": ("boolVal", "?"), "DT_UINT8": ("intVal", "<u1"),
    "DT_INT8": ("intVal", "<i1"), "DT_INT16": ("intVal", "<i2"), "DT_UINT16": ("intVal", "<u2"),
    "DT_UINT32": ("uint32Val", "<u4"), "DT_UINT64": ("uint64Val", "<u8"), "DT_HALF": ("halfVal", "<f2"),
    "DT_STRING": ("stringVal", "O"),
}  # fmt: skip


class SeldonCodec:
    """One tensor, named after the form that it came in; ``names`` are its columns; ``meta`` is passed over.

    >>> tensors = SeldonCodec().decode(b'{"data": {"names": ["a", "b"], "ndarray": [[1, 2]]}}', {})
    >>> tensors["ndarray"].columns
    ('a', 'b')
    """

    name = "seldon"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:  # noqa: ARG002
        return tensors(parse_object(body))

    def encode(self, tensors: Tensors) -> bytes:
        """The first tensor as ``data.ndarray``."""
        tensor = next(iter(tensors.values()))
        return orjson.dumps({"data": {"names": list(tensor.columns), "ndarray": tensor.data.tolist()}})


def tensors(message: dict[str, Any]) -> Tensors:
    """The tensors of a parsed SeldonMessage. Raises :class:`InvalidEvent`."""
    data = message.get("data")
    if isinstance(data, dict):
        return _data(data)
    if "strData" in message:
        return {"strData": Tensor("strData", np.array([message["strData"]], dtype=object))}
    if "binData" in message:
        return {"binData": Tensor("binData", np.array([b64(message["binData"], "binData")], dtype=object))}
    if "jsonData" in message:
        return _json(message["jsonData"])
    raise InvalidEvent("unknown_protocol", "a SeldonMessage has one of data, strData, binData, jsonData")


def _json(value: Any) -> Tensors:
    """Rows, rows that are objects, one such row, or what V1 says of rows and columns."""
    if not isinstance(value, dict):
        return v1.table_of("jsonData", value if is_list(value) else [value])
    if not value.keys().isdisjoint(("instances", "predictions", "inputs", "outputs")):
        return v1.tensors(value)
    if value and all(map(is_list, value.values())):
        return v1.tensors({"inputs": value})
    return v1.table_of("jsonData", [value])


def _data(data: dict[str, Any]) -> Tensors:
    names = data.get("names") or ()
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InvalidEvent("bad_shape", "data.names must be a list of strings")
    if len(set(names)) < len(names):
        raise InvalidEvent("bad_shape", "data.names holds a name twice")
    if "ndarray" in data:
        return one("ndarray", array(data["ndarray"], "data.ndarray"), names)
    if "tensor" in data:
        tensor = data["tensor"]
        if not isinstance(tensor, dict) or not is_list(tensor.get("values")):
            raise InvalidEvent("bad_shape", "data.tensor must have a shape and a list of values")
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
            raise InvalidEvent("bad_shape", f"data.tensor.shape must be a list of sizes, got {shape!r:.80}")
        return one("tensor", reshape(array(tensor["values"], "data.tensor"), shape, "data.tensor"), names)
    if "tftensor" in data:
        return one("tftensor", _tftensor(data["tftensor"]), names)
    raise InvalidEvent("unknown_protocol", "data has one of ndarray, tensor, tftensor")


def one(name: str, values: npt.NDArray[Any], names: Any) -> Tensors:
    """The one tensor of a message, its columns named if the names fit."""
    if values.ndim == 0:
        raise InvalidEvent("bad_shape", f"data.{name} must be a list")
    fits = values.ndim == 2 and len(names) == values.shape[1]
    return {name: Tensor(name, values, tuple(names) if fits else ())}


def _tftensor(tensor: Any) -> npt.NDArray[Any]:
    """TensorProto in proto3 JSON: ``tensorContent`` in base64, or a list of values, one standing for all."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("dtype"), str) or tensor["dtype"] not in _TF_TYPES:
        raise InvalidEvent("unknown_datatype", "data.tftensor must have a dtype such as DT_DOUBLE or DT_STRING")
    field, code = _TF_TYPES[tensor["dtype"]]
    try:
        shape = [int(dim.get("size", 0)) for dim in (tensor.get("tensorShape") or {}).get("dim", [])]
        if "tensorContent" in tensor and code != "O":
            values = np.frombuffer(b64(tensor["tensorContent"], "data.tftensor"), dtype=code)
        else:
            values = _listed(tensor.get(field, []), field)
            if any(size < 0 for size in shape):
                raise InvalidEvent("bad_shape", f"data.tftensor: a dimension of {min(shape)}")
            wanted = int(np.prod([float(size) for size in shape]))
            if len(values) == 1 and wanted > MAX_FILLED:
                raise InvalidEvent("too_large", f"data.tftensor: one value for {wanted:,}, at most for {MAX_FILLED:,}")
            if len(values) == 1:
                values = np.full(wanted, values[0])
    except InvalidEvent:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidEvent("bad_shape", f"data.tftensor: {error}") from None
    if code == "?":
        values = booleans(values)
    return reshape(values if code in "O?" else values.astype(np.float64), shape, "data.tftensor")


def _listed(given: Any, field: str) -> npt.NDArray[Any]:
    if field == "stringVal":
        return np.array([b64(value, "data.tftensor") for value in given], dtype=object)
    if field == "halfVal":  # the bits of each as a whole number
        return np.array([int(value) for value in given], dtype=np.uint16).view(np.float16)
    return np.array([float(value) for value in given])
