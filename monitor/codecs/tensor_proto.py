"""TensorFlow's TensorProto, which Seldon's messages may hold too.

Source: TensorFlow's tensor.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.codecs.protobuf import sizes, values_of
from monitor.codecs.v2 import reshape
from monitor.codecs.values import MAX_FILLED, booleans
from monitor.events import InvalidEvent

_TENSOR: Mapping[int, tuple[str, str]] = {
    1: ("float_val", "<f4"), 2: ("double_val", "<f8"), 3: ("int_val", "<i4"), 4: ("int_val", "<u1"),
    5: ("int_val", "<i2"), 6: ("int_val", "<i1"), 9: ("int64_val", "<i8"), 10: ("bool_val", "?"),
    17: ("int_val", "<u2"), 22: ("uint32_val", "<u4"), 23: ("uint64_val", "<u8"),
}  # fmt: skip
_STRING, _HALF = 7, 19


def read_tensor(tensor: Any, where: str) -> npt.NDArray[Any]:
    """A TensorProto: its content as bytes, or a list of values, the last of which stands for all that are missing."""
    shape = sizes([dim.size for dim in tensor.tensor_shape.dim], where)
    wanted = int(np.prod([float(size) for size in shape]))
    if tensor.dtype == _STRING:
        return reshape(values_of(tensor.string_val), shape, where)
    if tensor.dtype == _HALF and not tensor.tensor_content:
        bits = np.array(tensor.half_val, dtype=np.int64).astype("<u2")
        return reshape(_filled(bits.view("<f2").astype(np.float64), wanted, where), shape, where)
    field, code = ("", "<f2") if tensor.dtype == _HALF else _TENSOR.get(tensor.dtype, ("", ""))
    if not code:
        raise InvalidEvent("unknown_datatype", f"{where}: DataType {tensor.dtype} is no numeric one")
    if tensor.tensor_content:
        if len(tensor.tensor_content) % np.dtype(code).itemsize:
            raise InvalidEvent(
                "truncated", f"{where}: {len(tensor.tensor_content)} bytes are no whole number of values"
            )
        values = np.frombuffer(tensor.tensor_content, dtype=code).astype(np.float64)
    else:
        values = _filled(values_of(getattr(tensor, field)), wanted, where)
    return reshape(booleans(values) if code == "?" else values, shape, where)


def _filled(values: npt.NDArray[Any], wanted: int, where: str) -> npt.NDArray[Any]:
    """The last value stands for all that are not there."""
    if 0 < len(values) < wanted:
        if wanted > MAX_FILLED:
            raise InvalidEvent("too_large", f"{where}: {len(values)} values for {wanted:,}, at most for {MAX_FILLED:,}")
        return np.append(values, np.full(wanted - len(values), values[-1]))
    return values
