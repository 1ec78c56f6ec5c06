"""A request and its response in one event: a JSON object with both, and back to two events.

Each part is written as the CloudEvents JSON event format writes an event: ``data`` if the body is JSON, word for word,
else ``data_base64``; with it its ``datacontenttype`` and what else there is to say of it. A part that was never
complete is not there.

    {"request": {"datacontenttype": "application/json", "data": {"instances": [[1, 2]]}},
     "response": {"datacontenttype": "application/json", "data": {"predictions": [0]}}}

Source: CloudEvents 1.0.2, JSON event format, section 3.1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from monitor.events import InvalidEvent, PayloadEvent

COMBINED_TYPE: Final = "io.offpath.inference.exchange"
CONTENT_TYPE: Final = "application/json"

LARGE = 4096
"""Bytes from which on another parser is worth its start."""

_TOLD = {
    "content-type": "datacontenttype",
    "ce_contentencoding": "contentencoding",
    "inference-header-content-length": "inferenceheadercontentlength",
    "ce_truncated": "truncated",
    "ce_redacted": "redacted",
    "ce_metadata": "metadata",
}
"""Headers that belong to one body, and what they are called in its part."""

Part = tuple[Mapping[str, str], bytes]
"""The headers of one message's event, and its body."""


def join(request: Part | None, response: Part | None) -> bytes:
    """The body of the combined event.

    >>> join(({"content-type": "application/json"}, b'{"instances": []}'), None)
    b'{"request":{"datacontenttype":"application/json","data":{"instances": []}}}'
    >>> join(None, ({"content-type": "text/plain"}, b"no"))
    b'{"response":{"datacontenttype":"text/plain","data_base64":"bm8="}}'
    """
    parts = (("request", request), ("response", response))
    return orjson.dumps({name: _written(*part) for name, part in parts if part is not None})


def _written(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {name: headers[key] for key, name in _TOLD.items() if key in headers}
    if "ce_contentencoding" not in headers and _is_json(headers.get("content-type", "")) and _parses(body):
        return {**told, "data": orjson.Fragment(body)}
    return {**told, "data_base64": base64.b64encode(body).decode()}


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return not media_type or media_type.endswith(("/json", "+json"))


def _parses(body: bytes) -> bool:
    """Whether it is JSON: not if it is cut, if binary tensors are behind it, or NaN is in it."""
    try:
        if len(body) < LARGE:
            orjson.loads(body)
        else:
            from simdjson import Parser  # makes no objects: ten times as fast

            Parser().parse(body)
    except ValueError:
        return False
    return True


def split(event: PayloadEvent) -> tuple[PayloadEvent, ...]:
    """The one or two events that a combined one stands for, with its id, time and attributes.

    Raises
    ------
    InvalidEvent : ``truncated``, ``invalid_json`` or ``invalid_base64``.
    """
    from monitor.codecs.values import parse  # the sidecar, which only joins, does without numpy

    message = parse(event.data)
    if not isinstance(message, dict) or not message.keys() & {"request", "response"}:
        raise InvalidEvent("invalid_json", "a combined event holds an object with request, response or both")
    shared = {name: value for name, value in event.headers.items() if name not in _TOLD}
    parts = []
    for side in ("request", "response"):
        if side in message:
            headers, body = _read(message[side], side)
            parts.append(
                event._replace(
                    side=side,
                    content_type=headers.get("content-type", ""),
                    content_encoding=headers.get("ce_contentencoding", ""),
                    status=event.status if side == "response" else 0,
                    data=body,
                    headers={**shared, **headers},
                )
            )
    return tuple(parts)


def _read(part: Any, side: str) -> Part:
    if not isinstance(part, dict):
        raise InvalidEvent("invalid_json", f"{side} must be an object, got {type(part).__name__}")
    headers = {key: str(part[name]) for key, name in _TOLD.items() if name in part}
    try:
        if "data_base64" not in part:
            return headers, orjson.dumps(part["data"]) if "data" in part else b""
    except orjson.JSONEncodeError as error:  # nested too deeply, or a number beyond 64 bits
        raise InvalidEvent("invalid_json", f"{side}.data: {error}") from None
    try:
        return headers, base64.b64decode(part["data_base64"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidEvent("invalid_base64", f"{side}.data_base64: no valid base64") from None
