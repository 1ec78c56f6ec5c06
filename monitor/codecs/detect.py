"""Which codec a payload needs, and the way from an event to its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from monitor.codecs import seldon, seldon_grpc, v1, v1_grpc, v2, v2_grpc
from monitor.codecs.base import Codec, Tensors
from monitor.codecs.inflate import MAX_BYTES, inflate
from monitor.codecs.values import parse_object
from monitor.events import InvalidEvent, PayloadEvent

CODECS: Mapping[str, Codec] = {
    "v1": v1.V1Codec(),
    "v2": v2.V2Codec(),
    "seldon": seldon.SeldonCodec(),
    "v1-grpc": v1_grpc.TensorflowProtobuf(),
    "v2-grpc": v2_grpc.V2Protobuf(),
    "seldon-grpc": seldon_grpc.SeldonProtobuf(),
}
"""Protocol to codec; ``-grpc`` are its messages as protobuf."""

_ALIASES = {
    "tensorflow": "v1", "v1": "v1", "v2": "v2", "kfserving": "v2", "oip": "v2", "open-inference-protocol": "v2",
    "seldon": "seldon",
}  # fmt: skip

_PROTOBUF = frozenset(
    {"application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf", "application/grpc",
     "application/grpc+proto"}
)  # fmt: skip
_GZIP = b"\x1f\x8b"
_HEALTH = re.compile(rb'\s*\{\s*("(status|ready|live|name)"\s*:\s*("[^"]*"|true|false)\s*,?\s*)+\}\s*')

_METHODS = {
    "/inference.GRPCInferenceService/ModelInfer": "v2", "/inference.GRPCInferenceService/ModelStreamInfer": "v2",
    "/seldon.protos.Seldon/Predict": "seldon", "/seldon.protos.Model/Predict": "seldon",
    "/tensorflow.serving.PredictionService/Predict": "v1",
}  # fmt: skip

REASONS = frozenset(
    {
        "bad_shape", "empty_body", "inflate_limit", "invalid_base64", "invalid_encoding", "invalid_json",
        "invalid_protobuf", "not_numeric", "ragged", "too_large", "truncated", "unknown_datatype", "unknown_encoding",
        "unknown_protocol", "unknown_tensor", "withheld",
        "wrong_columns",
    }
)  # fmt: skip
"""Every reason for which a payload is refused."""


def decode(event: PayloadEvent, protocol: str = "auto", max_bytes: int = MAX_BYTES) -> Tensors:
    """The event's tensors.

    ``protocol`` of ``auto``: what the event says (its ``protocol``, its path), else what the body looks like.

    Raises
    ------
    InvalidEvent : with one of :data:`REASONS`.
    """
    body = event.data
    if event.headers.get("ce_redacted") == "withheld":
        raise InvalidEvent("withheld", "the sidecar could not read the body to redact it, and left it out")
    if event.headers.get("ce_truncated") == "true":
        raise InvalidEvent("truncated", f"the sidecar cut the body at {len(body)} bytes (capture.max_body)")
    if len(body) > max_bytes:
        raise InvalidEvent("too_large", f"the body has {len(body)} bytes, at most {max_bytes} are decoded")
    if event.content_encoding:
        body = inflate(body, event.content_encoding, max_bytes)
    elif body[:2] == _GZIP:  # KServe's agent passes the body on, but not its encoding
        body = inflate(body, "gzip", max_bytes)
    name = protocol if protocol in CODECS else named(event)
    if is_protobuf(event.content_type):
        if not name:
            raise InvalidEvent("unknown_protocol", f"the event does not say whose message {event.content_type[:80]} is")
        headers = {**event.headers, "offpath-side": event.side}  # a combined event's own type says nothing of it
        return CODECS[name.removesuffix("-grpc") + "-grpc"].decode(body, headers)
    if name:
        return CODECS[name].decode(body, event.headers)
    return sniff(body, event.headers)


def named(event: PayloadEvent) -> str:
    """The codec that the event itself names, or ``""``."""
    if event.protocol:
        return _ALIASES.get(event.protocol, "")
    path = event.path
    if not path:
        return ""
    if path in _METHODS:
        return _METHODS[path]
    if path.startswith("/v1/"):
        return "v1"
    if path.startswith("/v2/"):
        return "v2"
    return "seldon" if path.endswith(("/predictions", "/api/v1.0/explain")) else ""


@lru_cache(maxsize=256)
def is_protobuf(content_type: str) -> bool:
    """Whether the body is a protobuf message.

    >>> is_protobuf("application/x-protobuf"), is_protobuf("application/grpc+proto"), is_protobuf("application/json")
    (True, True, False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _PROTOBUF


def sniff(body: bytes, headers: Mapping[str, str]) -> Tensors:
    """Decode by what the body looks like: KServe's events carry no path."""
    if b'"binary_data_size"' in body:
        return CODECS["v2"].decode(body, headers)
    message = parse_object(body)
    if isinstance(message.get("inputs"), list) and _tensors(message["inputs"]):
        return v2.tensors(message)
    if isinstance(message.get("outputs"), list) and _tensors(message["outputs"]):
        return v2.tensors(message)
    if any(key in message for key in ("instances", "predictions", "inputs", "outputs")):
        return v1.tensors(message)
    if any(key in message for key in ("data", "strData", "binData", "jsonData")):
        return seldon.tensors(message)
    raise InvalidEvent("unknown_protocol", "the body is of no known protocol: V1, V2 or a SeldonMessage")


def is_probe(event: PayloadEvent) -> bool:
    """Whether it is a health check that a logger without paths took for inference: KServe's agent copies them too."""
    if event.path or len(event.data) > 200:
        return False
    return not event.data.strip() or _HEALTH.fullmatch(event.data) is not None


def _tensors(entries: list[Any]) -> bool:
    return bool(entries) and isinstance(entries[0], dict) and "datatype" in entries[0]
