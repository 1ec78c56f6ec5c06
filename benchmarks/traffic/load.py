"""Load: as much as goes (wrk, h2load), or an open loop at a fixed rate."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from traffic.servers import LOAD_CORE, PATH, RPC

_SCRIPT = """
wrk.method = "POST"
wrk.body = string.rep("a", {size})
wrk.headers["content-type"] = "application/json"
wrk.headers["x-size"] = "{size}"
function done(summary, latency, requests)
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %.1f, "p99": %.1f, "errors": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""


class Answered(NamedTuple):
    """Requests, seconds, and latencies in microseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float


def closed(port: int, size: int, connections: int, seconds: float, folder: Path) -> Answered:
    """wrk: each connection sends its next request when it has its answer."""
    script = folder / f"post-{size}.lua"
    script.write_text(_SCRIPT.format(size=size))
    line = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(round(seconds), 1)}s",
        "-s",
        str(script),
    ]
    said = subprocess.run([*line, f"http://127.0.0.1:{port}{PATH}"], capture_output=True, text=True, check=True).stdout
    told = json.loads(said.strip().splitlines()[-1])
    if told["errors"]:
        raise SystemExit(f"port {port} answered with errors: {told}")
    return Answered(told["requests"], told["us"] / 1e6, told["p50"], told["p99"])


def http2(port: int, size: int, connections: int, streams: int, seconds: float, folder: Path) -> Answered:
    """h2load: as a gRPC client does, one POST a call; ``streams`` calls at once on each connection."""
    body = folder / f"body-{size}"
    body.write_bytes(b"\0" + (size - 5).to_bytes(4, "big") + bytes(size - 5))
    line = ["taskset", "-c", str(LOAD_CORE), "h2load", "-t1", f"-c{connections}", f"-m{streams}", "-D", f"{seconds:g}"]
    line += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", f"x-size: {size}"]
    said = subprocess.run([*line, f"http://127.0.0.1:{port}{RPC}"], capture_output=True, text=True, check=True).stdout
    good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    failed = sum(map(int, good.groups()[1:])) if good is not None else 0
    if good is None or failed > 0.001 * int(good[1]):  # nginx, ending idle connections, fails a call in thousands
        raise SystemExit(f"port {port} answered with errors:\n{said}")
    return Answered(int(good[1]), seconds, 0.0, 0.0)


def paced(port: int, size: int, connections: int, seconds: float, rate: float) -> Answered:
    """An open loop: requests leave at their moments, evenly, each on the connection that has been idle longest.

    Latency counts from the moment a request is due.
    """
    wire = (
        f"POST {PATH} HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nx-size: {size}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode() + b"a" * size
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for connection in idle:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pending: dict[socket.socket, tuple[float, int]] = {}
    latencies: list[float] = []
    total, sent = round(seconds * rate), 0
    begin = time.perf_counter() + 0.01
    while len(latencies) < total:
        due = begin + sent / rate
        now = time.perf_counter()
        if sent < total and idle and now >= due:
            connection = idle.pop(0)
            connection.sendall(wire)
            pending[connection] = (due, -1)
            sent += 1
            continue
        wait = max(due - now, 0.0) if sent < total and idle else None
        for connection in select.select(list(pending), [], [], wait)[0]:
            if _take(connection, pending):
                latencies.append(time.perf_counter() - pending.pop(connection)[0])
                idle.append(connection)
    took = time.perf_counter() - begin
    for connection in idle:
        connection.close()
    latencies.sort()
    return Answered(total, took, latencies[total // 2] * 1e6, latencies[total * 99 // 100] * 1e6)


def _take(connection: socket.socket, pending: dict[socket.socket, tuple[float, int]]) -> bool:
    """Read; whether the answer is complete."""
    data = connection.recv(1 << 18)
    due, left = pending[connection]
    if left < 0:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise SystemExit(f"an answer is wrong: {data[:200]!r}")
        left = int(length[1]) - len(rest)
    else:
        left -= len(data)
    pending[connection] = (due, left)
    return left == 0
