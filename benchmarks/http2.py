"""What gRPC costs the sidecar's shipper: CPU microseconds an exchange, from bytes to events, beside HTTP/1.

    python benchmarks/http2.py [--quick] [--json]

No publishing. The cases run in turns in one process, so ratios hold on a noisy machine. Messages are of 300 bytes and
4 KB; h2 writes HTTP/2's bytes, with Huffman's code and indexed fields, as gRPC for Go does.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from report import Row, main, row

from monitor.capture.conversation import Conversation
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import Counters
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder

EXCHANGES = 400
METHOD, PATH = "/inference.GRPCInferenceService/ModelInfer", "/v1/models/iris:predict"
GRPC = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1.70.0")]

Script = list[tuple[int, bytes]]


def message(size: int) -> bytes:
    body = b"\x0a\x04iris" + b"x" * (size - 6)
    return b"\0" + len(body).to_bytes(4, "big") + body


def calls(size: int, path: str, *, ids: bool) -> Script:
    """HTTP/2's bytes of some exchanges on one connection, one after the other."""
    peers = [H2Connection(H2Configuration(client_side=side, header_encoding="utf-8")) for side in (True, False)]
    client, server = peers
    script: Script = []

    def talk() -> None:
        while _said(script, CLIENT, peers) | _said(script, UPSTREAM, peers):
            pass

    for peer in peers:
        peer.initiate_connection()
        peer.increment_flow_control_window(2**30)
    talk()
    grpc = path == METHOD
    kind = GRPC if grpc else [("content-type", "application/json")]
    body = message(size) if grpc else b"x" * size
    for i in range(EXCHANGES):
        stream = client.get_next_available_stream_id()
        given = [("x-request-id", f"{i * 2654435761:032x}"), ("traceparent", f"00-{i:032x}-{i:016x}-01")] if ids else []
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "model:8001")]
        client.send_headers(stream, [*pseudo, *kind, *given])
        client.send_data(stream, body, end_stream=True)
        talk()
        server.send_headers(stream, [(":status", "200"), kind[0]])
        server.send_data(stream, body, end_stream=not grpc)
        if grpc:
            server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        talk()
    return script


def _said(script: Script, side: int, peers: list[H2Connection]) -> bool:
    data = peers[side].data_to_send()
    if data:
        script.append((side, data))
        peers[1 - side].receive_data(data)
    return bool(data)


def http1(size: int) -> Script:
    head = b"Host: model\r\nUser-Agent: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % size
    script: Script = []
    for i in range(EXCHANGES):
        request = b"POST %b HTTP/1.1\r\nX-Request-Id: %032d\r\n%b\r\n%b" % (PATH.encode(), i, head, b"x" * size)
        answer = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\n%b\r\n%b" % (i, head, b"x" * size)
        script += [(CLIENT, request), (UPSTREAM, answer)]
    return script


def run(script: Script) -> float:
    """CPU microseconds an exchange."""
    counters = Counters()
    recorder = Recorder(Shipping("http://sidecar"), lambda _: None, counters, time.time)
    conversation = Conversation(recorder, counters)
    began = time.process_time_ns()
    for side, data in script:
        conversation.data(side, data, 1.0)
        _ = conversation.open_messages  # as the shipper asks after each chunk
    taken = (time.process_time_ns() - began) / EXCHANGES / 1000
    assert sum(counters.values()) == 2 * EXCHANGES, counters
    return taken


def beside_http1(size: int, rounds: int) -> Iterator[Row]:
    scripts = {
        "HTTP/1, an id each": http1(size),
        "gRPC, same headers": calls(size, METHOD, ids=False),
        "gRPC, id and trace each": calls(size, METHOD, ids=True),
        "HTTP/2, same headers": calls(size, PATH, ids=False),
    }
    times: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name, script in scripts.items():
            times[name].append(run(script))
    base = times["HTTP/1, an id each"]
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        yield row(f"{name}, {size:,} B", statistics.median(found), "us CPU/exchange")
        yield row(f"{name}, {size:,} B: CPU to HTTP/1's", ratio, "x")


def measure(quick: bool) -> Iterator[Row]:
    for size in (300, 4_000):
        yield from beside_http1(size, 7 if quick else 40)


if __name__ == "__main__":
    sys.exit(main("http2", __doc__, measure))
