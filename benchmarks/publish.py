"""CPU of delivery: an event over HTTP, beside httpx; and the whole shipper process, per exchange.

    python benchmarks/publish.py [--quick] [--json]

*publish*: batches of 20 events, as the shipper has them at 1,000 requests a second, to a receiver in another process;
in turns, our client (one request at a time, and pipelined) and ``httpx.AsyncClient``.
*shipper*: the real process, fed with 1,000 exchanges a second over the tap's socket, as the relay does every 10 ms; two
events an exchange, to the same receiver and, for comparison, to an embedded log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httptools
import httpx
import uvloop

from monitor.capture.child import command
from monitor.capture.frames import CLIENT, DATA, HEADER, REPORT, UPSTREAM, FrameReader
from monitor.capture.metrics import sample
from monitor.capture.plan import Address, Plan, Shipping, write_plan
from monitor.events import Record
from monitor.transport.cloudevent_http import http_headers
from monitor.transport.http import HttpPublisher

RATE, TICK, CONNECTIONS = 1000, 0.01, 16
BATCH = 20
SIZES = {300: 300, 4096: 4096}
TARGET_MICROSECONDS = 60.0


class Answering(asyncio.Protocol):
    """Takes everything with 202."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.parser = httptools.HttpRequestParser(self)
        self.answers = 0

    def on_message_complete(self) -> None:
        self.answers += 1

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        answers, self.answers = self.answers, 0
        self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n" * answers)


def receive(ports: multiprocessing.Queue[int]) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def record(number: int, size: int) -> Record:
    """An event as the recorder makes it."""
    headers = {
        "ce_specversion": "1.0",
        "ce_source": "http://127.0.0.1:9081",
        "ce_type": "org.kubeflow.serving.inference.request",
        "ce_partitionkey": "default/income",
        "ce_namespace": "default",
        "ce_path": "/v1/models/income:predict",
        "ce_modelid": "income",
        "ce_inferenceservicename": "income",
        "ce_id": f"0123456789abcdef-{number:x}",
        "ce_time": "2026-01-01T00:00:00.123456Z",
        "ce_requestid": f"0123456789abcdef-{number + 1:x}",
        "ce_method": "POST",
        "content-type": "application/json",
    }
    return Record("default/income", headers, bytes(size), 0.0)


async def with_httpx(url: str, batches: list[list[Record]]) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        for batch in batches:
            for one in batch:
                answer = await client.post(url, content=one.value, headers=http_headers(one))
                assert answer.status_code == 202


def ours(pipeline: int) -> Callable[[str, list[list[Record]]], Awaitable[None]]:
    async def run(url: str, batches: list[list[Record]]) -> None:
        publisher = HttpPublisher(url, pipeline=pipeline)
        for batch in batches:
            await publisher.publish(batch)
        await publisher.close()

    return run


def publishing(url: str, size: int, events: int, rounds: int) -> list[dict[str, Any]]:
    """CPU microseconds an event of this process, median of the rounds, in turns."""
    ways = {"httpx": with_httpx, "one at a time": ours(1), "pipelined": ours(32)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    batches = [[record(i, size) for i in range(BATCH)] for _ in range(events // BATCH)]
    for _ in range(rounds):
        for name, way in ways.items():
            some = batches if name != "httpx" else batches[: len(batches) // 4]
            before = time.process_time()
            uvloop.run(way(url, some))
            found[name].append((time.process_time() - before) / (len(some) * BATCH) * 1e6)
    return [
        {"part": "publish", "way": name, "bytes": size, "microseconds": round(statistics.median(times), 1)}
        for name, times in found.items()
    ]


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def shipping(url: str, size: int, seconds: float, folder: Path) -> dict[str, Any]:
    """CPU microseconds an exchange, and memory, of a shipper process."""
    local = Address("127.0.0.1", 1)
    told = Shipping("http://127.0.0.1:9081", url=url, log=str(folder / "log.db"), spool=str(folder / "spool.db"))
    plan = write_plan(Plan(local, local, local, told))
    near, far = socket.socketpair()
    far.set_inheritable(True)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
    descriptors = (plan, far.fileno())
    process = subprocess.Popen(command("shipper", *map(str, descriptors)), pass_fds=descriptors)
    far.close()
    os.close(plan)
    request = b"POST /v1/models/income:predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
    request += b"User-Agent: wrk\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    response = b"HTTP/1.1 200 OK\r\nServer: model\r\nContent-Type: application/json\r\n"
    response += b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    reader, counters = FrameReader(), dict[str, float]()

    def listen() -> None:
        with suppress(BlockingIOError):
            while data := near.recv(65536, socket.MSG_DONTWAIT):
                for frame in reader.feed(data):
                    if frame.kind == REPORT:
                        counters.update(json.loads(frame.payload)["counters"])

    def feed(seconds: float) -> int:
        fed, began = 0, time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            parts = []
            for i in range(int(RATE * TICK)):
                connection = (fed + i) % CONNECTIONS
                parts.append(HEADER.pack(DATA, CLIENT, len(request), connection, now) + request)
                parts.append(HEADER.pack(DATA, UPSTREAM, len(response), connection, now) + response)
            near.sendall(b"".join(parts))
            fed += int(RATE * TICK)
            listen()
            time.sleep(max(0.0, began + fed / RATE - time.monotonic()))
        return fed

    time.sleep(0.5)
    at_rest = resident(process.pid)
    fed = feed(1.0)
    before = cpu_seconds(process.pid)
    measured = feed(seconds)
    used = cpu_seconds(process.pid) - before
    busy = resident(process.pid)
    fed += measured
    deadline = time.monotonic() + 10
    while counters.get(sample("published_total"), 0) < 2 * fed and time.monotonic() < deadline:
        listen()
        time.sleep(0.05)
    published = int(counters.get(sample("published_total"), 0))
    near.close()
    process.wait(20)
    micro = used / measured * 1e6
    return {
        "part": "shipper",
        "way": "http" if url else "embedded log",
        "bytes": size,
        "microseconds": round(micro, 1),
        "at_rest_mib": round(at_rest, 1),
        "busy_mib": round(busy, 1),
        "published": f"{published} of {2 * fed}",
        **(
            {"target": TARGET_MICROSECONDS, "holds": micro <= TARGET_MICROSECONDS and published == 2 * fed}
            if url
            else {}
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    args = parser.parse_args()
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    receiver = multiprocessing.Process(target=receive, args=(ports,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{ports.get(timeout=20)}/"
    rows: list[dict[str, Any]] = []
    try:
        for size in SIZES:
            rows += publishing(url, size, 4000 if args.quick else 20000, 3 if args.quick else 5)
            for to in (url, ""):
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(shipping(to, size, 4.0 if args.quick else 15.0, Path(folder)))
    finally:
        receiver.terminate()
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if args.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
