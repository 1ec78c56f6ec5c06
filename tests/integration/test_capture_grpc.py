"""gRPC through the sidecar: a real client, a real server, and on to the rows that a monitor would judge."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sidecar as sidecar_processes
from servers import free_port, until

from monitor.codecs.detect import decode
from monitor.codecs.proto import open_inference_pb2 as v2
from monitor.codecs.proto import seldon_pb2 as seldon
from monitor.events import PayloadEvent, payload_event
from monitor.transport.log import EmbeddedLog

grpc: Any = pytest.importorskip("grpc", reason="grpcio is not installed")

SERVICE = "/inference.GRPCInferenceService/"


def infer(request: bytes, context: Any) -> bytes:
    """Doubles the input; a model named ``missing`` is not there, one named ``slow`` waits until the client gives up."""
    asked = v2.ModelInferRequest.FromString(request)
    if asked.model_name == "slow":
        until(lambda: not context.is_active(), "the client's giving up")
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
def server(request: pytest.FixtureRequest) -> Iterator[int]:
    options = getattr(request, "param", ())
    running = grpc.server(ThreadPoolExecutor(4), options=options, compression=grpc.Compression.NoCompression)
    running.add_generic_rpc_handlers((Handlers(),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield port
    running.stop(None).wait()


class Sidecar(sidecar_processes.Sidecar):
    """Answers what it has captured as the events that a worker sees."""

    def __init__(self, folder: Path, upstream: int, **plan: Any) -> None:
        # Nobody waits for events before the end: on a busy machine they need more than the usual seconds then.
        patient: dict[str, Any] = {"shipping": {"drain": 30.0}, "grace": 50.0}
        super().__init__(folder, upstream, **patient, **plan)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def events(self) -> list[PayloadEvent]:
        """Stop, and read what was captured."""
        self.stop()
        log = EmbeddedLog(self.folder / "log.db")
        found = [payload_event(d) for block in log.scan("payloads") for d in block.deliveries]
        log.close()
        return found


@pytest.fixture
def sidecar(server: int, tmp_path: Path) -> Iterator[Sidecar]:
    running = Sidecar(tmp_path, server)
    yield running
    running.kill()


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
    until(lambda: sidecar.metric("skipped_total", reason="header") == 1, "the skipped call")
    assert sidecar.metric("skipped_total", reason="probe") == 1
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


def test_a_call_that_is_given_up(sidecar: Sidecar) -> None:
    """RST_STREAM: the request is an event, the answer that never came is none, and the connection goes on."""
    with grpc.insecure_channel(sidecar.address) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        given_up = call.future(request("slow", 1))
        until(lambda: sidecar.metric("events_total", side="request") == 1, "the request's event")
        given_up.cancel()
        call(request("iris", 2))
    events = sidecar.events()
    assert [(event.side, event.model) for event in events] == [
        ("request", "slow"),
        ("request", "iris"),
        ("response", "iris"),
    ]


@pytest.mark.parametrize(
    "server", [(("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 2000))], indirect=True
)
def test_a_server_that_goes_away_again_and_again(sidecar: Sidecar) -> None:
    """GOAWAY: the client opens other connections; every call is captured."""
    with grpc.insecure_channel(sidecar.address) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        for i in range(40):
            call(request("iris", i), wait_for_ready=True)
            time.sleep(0.01)
    assert sidecar.metric("connections_total") > 1
    events = sidecar.events()
    assert sorted(rows(event) for event in events) == sorted([[i]] for i in [*range(40), *(2 * i for i in range(40))])


def test_a_stopped_shipper_costs_data_only(server: int, tmp_path: Path) -> None:
    """Behind a queue that was full the connection is still followed, and every message is an event or counted."""
    sidecar = Sidecar(tmp_path, server, queue=100_000)
    try:
        with grpc.insecure_channel(sidecar.address) as channel:
            call = channel.unary_unary(SERVICE + "ModelInfer")
            call(request("iris", 0))
            until(lambda: sidecar.metric("published_total") == 2, "the first events")
            (shipper,) = sidecar.shippers()
            os.kill(shipper, signal.SIGSTOP)
            values = [float(i) for i in range(500)]
            calls = 1
            while sidecar.metric("dropped_frames_total", reason="http2_data") < 20:
                for _ in range(20):
                    call(request("iris", *values))
                calls += 20
                assert calls < 2000
            os.kill(shipper, signal.SIGCONT)
            until(lambda: sidecar.metric("queue_bytes") == 0, "the queue's end")
            for _ in range(20):
                call(request("after", *values))
        until(lambda: sidecar.metric("connections") == 0, "the connection's end")
        until(lambda: sidecar.metric("queue_bytes") == 0, "the queue's end")
        told = lambda: sum(sidecar.metric("events_total", side=side) for side in ("request", "response"))  # noqa: E731
        lost = lambda: sidecar.metric("discarded_messages_total", reason="gap")  # noqa: E731
        until(lambda: told() + lost() == 2 * (calls + 20), f"an account of {calls} calls")
        assert lost() > 0
        assert sidecar.metric("gaps_total") == 0
        events = sidecar.events()
        assert len([event for event in events if event.model == "after"]) == 40
        for event in events:
            assert len(rows(event)) in (1, 500), "nothing half"
    finally:
        sidecar.kill()


NGINX = """user {user}; daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/p;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 1m;
large_client_header_buffers 8 64k;
server {{ listen 127.0.0.1:{port} http2; location / {{ proxy_pass http://unix:{folder}/model; }} }}
server {{ listen unix:{folder}/model; location / {{ default_type application/json; return 200 '{answer}'; }} }}
}}
"""
PREDICT, ANSWER = "/v1/models/iris:predict", '{"predictions":[1]}'


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    (folder / "conf").write_text(NGINX.format(user=getpass.getuser(), answer=ANSWER, folder=folder, port=port))
    running = subprocess.Popen(["nginx", "-c", str(folder / "conf"), "-e", str(folder / "error.log")])
    until(lambda: _listens(port), "nginx's start")
    yield port
    running.terminate()
    running.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("client", "calls"),
    [
        (["h2load", "-n", "400", "-c", "3", "-m", "30", "-d", "{body}", "{url}"], 400),
        (["nghttp", "-n", "-d", "{body}", "--continuation", "--padding=200",
          "{url}"], 1),
        (["nghttp", "-n", "-m", "5", "-d", "{body}", "--header-table-size=0", "--encoder-header-table-size=8192",
          "-w", "14", "{url}"], 5),
        (["curl", "-sS", "--http2-prior-knowledge", "--data-binary", "@{body}", "{url}"], 1),
    ],
    ids=["h2load", "nghttp continuation, padding", "nghttp header tables, windows", "curl"],
)  # fmt: skip
def test_ordinary_http2(nginx: int, tmp_path: Path, client: list[str], calls: int) -> None:
    if shutil.which(client[0]) is None:
        pytest.skip(f"{client[0]} is not installed (Debian: apt-get install nghttp2-client curl)")
    body = tmp_path / "body"
    body.write_bytes(b'{"instances": [[1]]}' + b" " * 40_000)
    sidecar = Sidecar(tmp_path, nginx)
    try:
        url = f"http://{sidecar.address}{PREDICT}"
        command = [part.format(body=body, url=url) for part in client]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        if client[0] == "h2load":
            assert "400 succeeded" in done.stdout
        events = sidecar.events()
        assert len(events) == 2 * calls
        asked = [event for event in events if event.side == "request"]
        assert {event.data for event in asked} == {body.read_bytes()}
        answered = [event for event in events if event.side == "response"]
        assert {(event.status, event.data) for event in answered} == {(200, ANSWER.encode())}
        assert {event.request_id for event in asked} == {event.request_id for event in answered}
    finally:
        sidecar.kill()


def test_the_shipper_loads_no_protobuf() -> None:
    """The sidecar is small; reading messages is the worker's part."""
    program = "import json, sys, monitor.capture.processes, monitor.capture.shipper; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert not [name for name in loaded if name.startswith(("google.protobuf", "grpc", "numpy", "torch"))]
