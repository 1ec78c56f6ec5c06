"""Messages of gRPC as they travel, and what the protocols' messages have in common.

A sidecar sends a message as it is, KServe's loggers with gRPC's five bytes of length before it. The classes of the
messages are loaded when the first one is decoded.

Source: gRPC over HTTP/2 (length-prefixed messages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monitor.events import InvalidEvent

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PREFIX = 5


def is_response(headers: Mapping[str, str]) -> bool:
    """Requests and responses are different messages, and only the event says which it is."""
    return (headers.get("offpath-side") or headers.get("ce_type") or headers.get("type", "")).endswith("response")


def read_message(message: Any, body: bytes) -> Any:
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


def sizes(shape: list[int], where: str) -> list[int]:
    """The shape as it may stand: of no size given, one value. Raises :class:`InvalidEvent` (``bad_shape``)."""
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise InvalidEvent("bad_shape", f"{where}: shape {shape!r:.80} is none")
    return shape or [1]


def values_of(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Numbers as ``float64``, text as objects."""
    if values and isinstance(values[0], bytes):
        return np.array([value.decode(errors="replace") for value in values], dtype=object)
    return np.array(values, dtype=np.float64)
