"""gRPC through the sidecar: a real client, a real server, and on to the rows that a monitor would judge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.capture.child import command
from monitor.capture.plan import Address, Plan, Shipping, write_plan
from monitor.codecs.detect import decode
from monitor.codecs.proto import open_inference_pb2 as v2
from monitor.codecs.proto import seldon_pb2 as seldon
from monitor.events import PayloadEvent, payload_event
from monitor.transport.log import EmbeddedLog

grpc: Any = pytest.importorskip("grpc", reason="grpcio is not installed")

SERVICE = "/inference.GRPCInferenceService/"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; the limit is there to end a broken test."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


def infer(request: bytes, context: Any) -> bytes:
    """Doubles the input; a model named ``missing`` is not there."""
    asked = v2.ModelInferRequest.FromString(request)
    if asked.model_name == "missing":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model: missing")
    answer = v2.ModelInferResponse(model_name=asked.model_name, model_version="1")
    answer.outputs.add(name="y", datatype="FP64", shape=list(asked.inputs[0].shape))
    answer.outputs[0].contents.fp64_contents.extend(2 * x for x in asked.inputs[0].contents.fp64_contents)
    return answer.SerializeToString()


def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        answer = v2.ModelStreamInferResponse()
        answer.infer_response.ParseFromString(infer(request, context))
        yield answer.SerializeToString()


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    def service(self, details: Any) -> Any:
        if details.method in (SERVICE + "ModelInfer", "/inference.GRPCInferenceService/ModelReady"):
            return grpc.unary_unary_rpc_method_handler(infer)
        if details.method == SERVICE + "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(stream)
        if details.method == "/seldon.protos.Seldon/Predict":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        return None


@pytest.fixture
def server() -> Iterator[int]:
    running = grpc.server(ThreadPoolExecutor(4), compression=grpc.Compression.NoCompression)
    running.add_generic_rpc_handlers((Handlers(),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield port
    running.stop(None).wait()


class Sidecar:
    def __init__(self, folder: Path, upstream: int, **shipping: Any) -> None:
        self.log = folder / "log.db"
        local = Address("127.0.0.1", 0)
        told = Shipping("http://sidecar", log=str(self.log), spool=str(folder / "spool.db"), **shipping)
        descriptor = write_plan(Plan(local, Address("127.0.0.1", upstream), local, told))
        self.process = subprocess.Popen(
            command("relay", str(descriptor)), pass_fds=(descriptor,), stderr=subprocess.PIPE, text=True
        )
        os.close(descriptor)
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        found = re.search(r"relaying \S+:(\d+) to .* http://\S+:(\d+)", said)
        assert found, said
        self.address, self.admin = f"127.0.0.1:{found[1]}", found[2]

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.admin}/metrics").text

    def events(self) -> list[PayloadEvent]:
        """Stop, and read what was captured."""
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        log = EmbeddedLog(self.log)
        found = [payload_event(d) for block in log.scan("payloads") for d in block.deliveries]
        log.close()
        return found


@pytest.fixture
def sidecar(server: int, tmp_path: Path) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path, server)
    yield running
    running.process.kill()
    running.process.wait()
    running.process.stderr.close()


def request(model: str, *values: float) -> bytes:
    asked = v2.ModelInferRequest(model_name=model)
    asked.inputs.add(name="x", datatype="FP64", shape=[len(values), 1])
    asked.inputs[0].contents.fp64_contents.extend(values)
    return asked.SerializeToString()


def rows(event: PayloadEvent) -> Any:
    (tensor,) = decode(event).values()
    return tensor.data.tolist()


@pytest.mark.parametrize("compression", ["NoCompression", "Gzip", "Deflate"])
def test_unary_calls(sidecar: Sidecar, compression: str) -> None:
    with grpc.insecure_channel(sidecar.address, compression=getattr(grpc.Compression, compression)) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        for i in range(20):
            answer = v2.ModelInferResponse.FromString(
                call(request("iris", i, -i), metadata=(("x-request-id", f"r{i}"),))
            )
            assert list(answer.outputs[0].contents.fp64_contents) == [2 * i, -2 * i]
        with pytest.raises(grpc.RpcError, match="no such model"):
            call(request("missing", 1))
    events = sidecar.events()
    asked = [event for event in events if event.side == "request"]
    answered = [event for event in events if event.side == "response"]
    assert len(asked) == len(answered) == 21
    assert {event.model for event in asked[:20]} == {"iris"}
    for i in range(20):
        assert (asked[i].request_id, rows(asked[i])) == (f"r{i}", [[i], [-i]])
        assert (answered[i].request_id, answered[i].status, rows(answered[i])) == (f"r{i}", 200, [[2 * i], [-2 * i]])
    failed = answered[20]
    assert (failed.model, failed.status, failed.headers["ce_grpcstatus"]) == ("missing", 404, "5")
    assert failed.headers["ce_grpcmessage"] == "no such model: missing"


def test_a_stream_is_captured_message_by_message(sidecar: Sidecar) -> None:
    with grpc.insecure_channel(sidecar.address) as channel:
        call = channel.stream_stream(SERVICE + "ModelStreamInfer")
        answers = list(call(iter([request("iris", i) for i in range(5)])))
    assert len(answers) == 5
    events = sidecar.events()
    assert [rows(event) for event in events if event.side == "request"] == [[[i]] for i in range(5)]
    assert [rows(event) for event in events if event.side == "response"] == [[[2 * i]] for i in range(5)]
    pairs = {event.request_id for event in events}
    assert len(pairs) == 5, "request and response of a message share their id"


def test_seldon_and_what_is_no_inference(sidecar: Sidecar) -> None:
    message = seldon.SeldonMessage()
    message.data.names.append("a")
    message.data.tensor.shape.extend([1, 1])
    message.data.tensor.values.append(7)
    with grpc.insecure_channel(sidecar.address) as channel:
        channel.unary_unary("/seldon.protos.Seldon/Predict")(message.SerializeToString())
        channel.unary_unary(SERVICE + "ModelReady")(request("iris", 1))
        skipped = (("seldon-skip-logging", "true"),)
        channel.unary_unary(SERVICE + "ModelInfer")(request("iris", 1), metadata=skipped)
    until(lambda: 'skipped_total{reason="header"} 1' in sidecar.metrics(), "the skipped call")
    assert 'skipped_total{reason="probe"} 1' in sidecar.metrics()
    events = sidecar.events()
    assert [(event.side, rows(event)) for event in events] == [("request", [[7]]), ("response", [[7]])]
    assert decode(events[0])["tensor"].columns == ("a",)


def test_a_big_message_and_many_at_once(sidecar: Sidecar) -> None:
    big = [float(i) for i in range(50_000)]
    with grpc.insecure_channel(sidecar.address) as channel, ThreadPoolExecutor(8) as pool:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        call(request("iris", *big))
        list(pool.map(lambda i: call(request("iris", i)), range(200)))
    events = sidecar.events()
    sizes = sorted((len(rows(event)) for event in events), reverse=True)
    assert sizes == [50_000, 50_000] + [1] * 400
    asked = {event.request_id: rows(event) for event in events if event.side == "request"}
    for event in events:
        if event.side == "response":
            assert rows(event) == [[2 * x] for (x,) in asked[event.request_id]]


def test_the_shipper_loads_no_protobuf() -> None:
    """The sidecar is small; reading messages is the worker's part."""
    program = "import json, sys, monitor.capture.shipper, monitor.capture.sidecar; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert not [name for name in loaded if name.startswith(("google.protobuf", "grpc", "numpy", "torch"))]
