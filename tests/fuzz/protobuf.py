"""Any bytes are a protobuf message's tensors or are refused with a known reason. The first byte chooses the message."""

from __future__ import annotations

from monitor.codecs.base import Tensors
from monitor.codecs.detect import REASONS, decode
from monitor.events import Delivery, InvalidEvent, payload_event
from sinks.base import Record

MAX_INPUT = 4096

PATHS = (
    "/inference.GRPCInferenceService/ModelInfer",
    "/seldon.protos.Seldon/Predict",
    "/tensorflow.serving.PredictionService/Predict",
)


def run(data: bytes) -> None:
    """One input. Raises whatever is wrong."""
    chosen = data[0] if data else 0
    headers = {
        "ce_type": f"org.kubeflow.serving.inference.{('request', 'response')[chosen >> 7]}",
        "ce_id": "1",
        "ce_source": "fuzz",
        "ce_path": PATHS[chosen % 3],
        "content-type": "application/grpc" if chosen & 64 else "application/x-protobuf",
    }
    tensors: Tensors = {}
    reason = ""
    try:
        tensors = decode(payload_event(Delivery("t/0", 0, Record(None, headers, data[1:], 0.0))))
    except InvalidEvent as error:
        reason = error.reason
    assert reason in REASONS | {""}
    assert all(tensor.data.ndim for tensor in tensors.values())
