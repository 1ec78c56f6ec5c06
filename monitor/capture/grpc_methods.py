"""What the sidecar knows of gRPC services: which methods are inference, their protocol, the model that is asked.

Sources: Open Inference Protocol (gRPC), Seldon Core's prediction.proto, TensorFlow Serving's prediction_service.proto.
"""

from __future__ import annotations

import re
import zlib

INFERENCE = {
    "/inference.GRPCInferenceService/ModelInfer": "v2",
    "/inference.GRPCInferenceService/ModelStreamInfer": "v2",
    "/seldon.protos.Seldon/Predict": "seldon",
    "/seldon.protos.Model/Predict": "seldon",
    "/tensorflow.serving.PredictionService/Predict": "tensorflow",
}
"""Method to protocol, named as Seldon's loggers name it."""

FEEDBACK = {
    "/seldon.protos.Seldon/SendFeedback": "seldon",
    "/seldon.protos.Model/SendFeedback": "seldon",
}

PROBE = re.compile(
    r"^/grpc\.(?:health|reflection)\.v1(?:alpha)?\.\w+/"
    r"|^/inference\.GRPCInferenceService/(?:Server|Model)(?:Live|Ready|Metadata)$"
)

PEEK = 512
"""Bytes of a message in which its model's name is looked for: it is the first field."""

_NAMING = ("v2", "tensorflow")
"""Protocols whose requests begin with their model's name."""

_INFLATE = {"gzip": 31, "deflate": 15}


def is_grpc(content_type: str) -> bool:
    """Whether bodies of this type are length-prefixed messages. gRPC-Web has frames of its own.

    >>> is_grpc("application/grpc"), is_grpc("application/grpc+proto"), is_grpc("application/grpc-web")
    (True, True, False)
    """
    return content_type[:16] == "application/grpc" and content_type[16:17] in ("", "+", ";")


def protocol_of(path: str) -> str:
    """The protocol of a known gRPC method, else ``""``.

    >>> protocol_of("/inference.GRPCInferenceService/ModelInfer"), protocol_of("/v2/models/m/infer")
    ('v2', '')
    """
    return INFERENCE.get(path) or FEEDBACK.get(path, "")


def names_model(path: str) -> bool:
    """Whether the requests of a gRPC method name the model.

    >>> names_model("/inference.GRPCInferenceService/ModelInfer"), names_model("/seldon.protos.Seldon/Predict")
    (True, False)
    """
    return INFERENCE.get(path) in _NAMING


def model_in_message(protocol: str, message: bytes, encoding: str = "") -> str:
    """The model that a request names, or ``""``: V2's ``model_name``, TF Serving's ``model_spec.name``.

    >>> model_in_message("v2", b"\\x0a\\x04iris\\x1a\\x05req-2")
    'iris'
    >>> model_in_message("tensorflow", b"\\x0a\\x06\\x0a\\x04iris")
    'iris'
    """
    if protocol not in _NAMING:
        return ""
    start = _plain(message, encoding)
    if protocol == "tensorflow":
        start = _first_field(start)
    return _first_field(start).decode(errors="replace")


def _plain(message: bytes, encoding: str) -> bytes:
    if not encoding:
        return message[:PEEK]
    if encoding not in _INFLATE:
        return b""
    try:
        return zlib.decompressobj(_INFLATE[encoding]).decompress(message[: 4 * PEEK], PEEK)
    except zlib.error:
        return b""


def _first_field(message: bytes) -> bytes:
    """Field 1 of a message, if it comes first and has a length below 128 bytes, as names have."""
    if len(message) < 2 or message[0] != 0x0A or message[1] > 127 or len(message) < 2 + message[1]:
        return b""
    return message[2 : 2 + message[1]]
