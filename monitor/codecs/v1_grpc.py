"""TensorFlow Serving's Predict over gRPC.

Source: TensorFlow Serving's predict.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.protobuf import is_response, read_message
from monitor.codecs.tensor_proto import read_tensor


class TensorflowProtobuf:
    """``PredictRequest`` and ``PredictResponse``: every input or output is one tensor.

    >>> import numpy as np
    >>> codec = TensorflowProtobuf()
    >>> codec.decode(codec.encode({"x": Tensor("x", np.array([[1.0, 2.0]]))}), {})["x"].data.tolist()
    [[1.0, 2.0]]
    """

    name = "v1-grpc"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:
        from monitor.codecs.proto import tensorflow_pb2 as proto

        if is_response(headers):
            entries = read_message(proto.PredictResponse(), body).outputs
        else:
            entries = read_message(proto.PredictRequest(), body).inputs
        return {name: Tensor(name, read_tensor(entries[name], name[:80])) for name in sorted(entries)}

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
