"""V2, the Open Inference Protocol over REST: JSON, and the binary tensor extension.

Source: Open Inference Protocol, https://github.com/kserve/open-inference-protocol; Triton's binary data extension.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.values import array, booleans, is_list, parse_object
from monitor.events import InvalidEvent, is_count

DTYPES: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""Datatypes of the protocol and numpy's; BF16 and BYTES have none."""

_HEADER_LENGTH = "inference-header-content-length"
_DATATYPES = {np.dtype(code): name for name, code in DTYPES.items()}


class V2Codec:
    """Every input or output is one tensor of its shape.

    >>> body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}'
    >>> V2Codec().decode(body, {})["x"].data.tolist()
    [[1.0, 2.0]]
    """

    name = "v2"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:
        length = headers.get(_HEADER_LENGTH, "")
        if length:
            if not is_count(length) or int(length) > len(body):
                raise InvalidEvent("truncated", f"{_HEADER_LENGTH} is {length!r}, the body has {len(body)} bytes")
            return tensors(parse_object(body[: int(length)]), body[int(length) :])
        if b'"binary_data_size"' in body:
            return tensors(*_split(body))
        return tensors(parse_object(body), b"")

    def encode(self, tensors: Tensors) -> bytes:
        """A request with all tensors in JSON; objects and text become BYTES."""
        inputs = [_entry(tensor) for tensor in tensors.values()]
        return orjson.dumps({"inputs": inputs})


def _entry(tensor: Tensor) -> dict[str, Any]:
    data = tensor.data
    datatype = _DATATYPES.get(data.dtype.newbyteorder("<") if data.dtype.itemsize > 1 else data.dtype, "BYTES")
    return {"name": tensor.name, "shape": list(data.shape), "datatype": datatype, "data": data.ravel().tolist()}


def tensors(message: dict[str, Any], binary: bytes = b"") -> Tensors:
    """The tensors of a parsed V2 message and the bytes behind it. Raises :class:`InvalidEvent`."""
    for key in ("inputs", "outputs"):
        entries = message.get(key)
        if isinstance(entries, list) and (key == "outputs" or "outputs" not in message or entries):
            found = dict(_each(key, entries, binary))
            if len(found) < len(entries):
                raise InvalidEvent("bad_shape", f"two of the {key} have the same name")
            return found
    raise InvalidEvent("unknown_protocol", "a V2 body has a list of inputs or of outputs")


def _each(key: str, entries: list[Any], binary: bytes) -> Iterator[tuple[str, Tensor]]:
    at = 0
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidEvent("bad_shape", f"{key}[{i}] must be an object, got {type(entry).__name__}")
        name = str(entry.get("name", i))
        where = f"{key}[{i}] {name[:80]!r}"
        shape = _shape(entry, where)
        parameters = entry.get("parameters") or {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            data = _json_data(entry, shape, where)
        else:
            if not isinstance(size, int) or size < 0 or at + size > len(binary):
                raise InvalidEvent("truncated", f"{where}: needs {size} binary bytes, {len(binary) - at} are left")
            data = binary_data(binary[at : at + size], entry.get("datatype"), shape, where)
            at += size
        yield name, Tensor(name, data)


def _shape(entry: Mapping[str, Any], where: str) -> list[int]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not shape or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise InvalidEvent("bad_shape", f"{where}: shape must be a list of sizes, got {shape!r:.80}")
    return shape


def _json_data(entry: Mapping[str, Any], shape: list[int], where: str) -> npt.NDArray[Any]:
    values = entry.get("data")
    if not is_list(values):
        raise InvalidEvent("bad_shape", f"{where}: data must be a list, got {type(values).__name__}")
    found = array(values, where)
    if entry.get("datatype") == "BYTES" and found.dtype != object:
        found = found.astype(object)
    if entry.get("datatype") == "BOOL" and found.dtype != object:
        found = booleans(found)
    return reshape(found, shape, where)


def binary_data(raw: bytes, datatype: Any, shape: list[int], where: str) -> npt.NDArray[Any]:
    """Little-endian values, as the binary extension of V2 and its gRPC form have them. Raises :class:`InvalidEvent`."""
    if datatype == "BYTES":
        return reshape(np.array(list(_strings(raw, where)), dtype=object), shape, where)
    if datatype == "BF16":
        if len(raw) % 2:
            raise InvalidEvent("truncated", f"{where}: {len(raw)} bytes are no whole number of BF16")
        widened = np.frombuffer(raw, dtype="<u2").astype("<u4") << 16  # the upper half of a float32
        return reshape(widened.view("<f4").astype(np.float64), shape, where)
    code = DTYPES.get(str(datatype))
    if code is None:
        raise InvalidEvent("unknown_datatype", f"{where}: datatype {datatype!r:.40} is none of the protocol's")
    if len(raw) % np.dtype(code).itemsize:
        raise InvalidEvent("truncated", f"{where}: {len(raw)} bytes are no whole number of {datatype}")
    values = np.frombuffer(raw, dtype=code)
    return reshape(booleans(values) if code == "?" else values.astype(np.float64), shape, where)


def _strings(raw: bytes, where: str) -> Iterator[str]:
    at = 0
    while at < len(raw):
        size, left = int.from_bytes(raw[at : at + 4], "little"), len(raw) - at - 4
        if left < 0:
            raise InvalidEvent("truncated", f"{where}: a string's length takes 4 bytes, {left + 4} are left")
        if size > left:
            raise InvalidEvent("truncated", f"{where}: a string of {size} bytes, {left} are left")
        yield raw[at + 4 : at + 4 + size].decode(errors="replace")
        at += 4 + size


def reshape(found: npt.NDArray[Any], shape: list[int], where: str) -> npt.NDArray[Any]:
    if list(found.shape) == shape:
        return found
    try:
        return found.reshape(shape)
    except ValueError:
        raise InvalidEvent("bad_shape", f"{where}: shape {shape} does not fit its {found.size} values") from None


def _split(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON in front and the bytes behind: KServe's events lack the header that says where."""
    text = body.decode("latin-1")  # one character a byte, so that the end of the JSON is a place in the bytes
    blank = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        _, end = json.JSONDecoder().raw_decode(text, blank)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent("invalid_json", f"the body does not begin with JSON: {error}") from None
    return parse_object(body[:end]), body[end:]
