"""Seldon's protocol over gRPC.

Source: Seldon Core's prediction.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monitor.codecs import seldon
from monitor.codecs.base import Tensors
from monitor.codecs.protobuf import read_message
from monitor.codecs.tensor_proto import read_tensor
from monitor.codecs.v2 import reshape
from monitor.events import InvalidEvent


class SeldonProtobuf:
    """``SeldonMessage`` in all forms of its data.

    >>> from monitor.codecs.base import Tensor
    >>> codec = SeldonProtobuf()
    >>> body = codec.encode({"x": Tensor("x", np.array([[1.0, 2.0]]), ("a", "b"))})
    >>> codec.decode(body, {})["tensor"].columns
    ('a', 'b')
    """

    name = "seldon-grpc"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:  # noqa: ARG002
        from google.protobuf.json_format import MessageToDict

        from monitor.codecs.proto import seldon_pb2 as proto

        message = read_message(proto.SeldonMessage(), body)
        form = message.WhichOneof("data_oneof")
        if form == "data" and message.data.WhichOneof("data_oneof") == "tftensor":
            return seldon.one("tftensor", read_tensor(message.data.tftensor, "data.tftensor"), list(message.data.names))
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
