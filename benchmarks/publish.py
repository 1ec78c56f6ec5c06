"""CPU of delivery: an event over HTTP, beside httpx; and the whole shipper process, per exchange.

    python benchmarks/publish.py [--quick] [--json]

*publish*: batches of 20 events, as the shipper has them at 1,000 requests a second, to a receiver in another process;
in turns, our client (one request at a time, and pipelined) and ``httpx.AsyncClient``.
*shipper*: the real process, fed with 1,000 exchanges a second over the tap's socket, as the relay does every 10 ms; two
events an exchange, to the same receiver and, for comparison, to an embedded log.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httptools
import httpx
import uvloop
from report import Row, main, row
from traffic.meters import cpu, resident

from monitor.capture.board import Board
from monitor.capture.child import SOCKET_BYTES, command
from monitor.capture.frames import CLIENT, DATA, HEADER, UPSTREAM
from monitor.capture.metrics import sample
from monitor.capture.plan import Address, Plan, Shipping, write_plan
from monitor.events import Record
from monitor.transport.cloudevent_http import http_headers
from monitor.transport.http import HttpPublisher

RATE, TICK, CONNECTIONS = 1000, 0.01, 16
BATCH = 20
SIZES = (300, 4096)
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


def publishing(url: str, size: int, events: int, rounds: int) -> Iterator[Row]:
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
    for name, times in found.items():
        yield row(f"publish, {name}, {size:,} B", statistics.median(times), "us CPU/event")


class Shipper:
    """A shipper process, fed over the tap's socket as the relay does."""

    def __init__(self, url: str, size: int, folder: Path) -> None:
        local = Address("127.0.0.1", 1)
        told = Shipping("http://127.0.0.1:9081", url=url, log=str(folder / "log.db"), spool=str(folder / "spool.db"))
        descriptor = write_plan(Plan(local, local, local, told))
        board = Board.make()
        self._board = Board(board)
        self._tap, far = socket.socketpair()
        self._tap.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        descriptors = (descriptor, board, far.fileno())
        self.process = subprocess.Popen(command("shipper", *map(str, descriptors), "0"), pass_fds=descriptors)
        far.close()
        for inherited in (descriptor, board):
            os.close(inherited)
        self._request, self._response = exchange(size)
        self._fed = 0

    def feed(self, seconds: float) -> int:
        """Exchanges at the rate; how many."""
        fed, began = 0, time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            parts = []
            for i in range(int(RATE * TICK)):
                connection = (fed + i) % CONNECTIONS
                parts.append(HEADER.pack(DATA, CLIENT, len(self._request), connection, now) + self._request)
                parts.append(HEADER.pack(DATA, UPSTREAM, len(self._response), connection, now) + self._response)
            self._tap.sendall(b"".join(parts))
            fed += int(RATE * TICK)
            time.sleep(max(0.0, began + fed / RATE - time.monotonic()))
        self._fed += fed
        return fed

    def lost(self) -> int:
        """Events that were not published, ten seconds after the last exchange."""
        deadline = time.monotonic() + 10
        while self._published() < 2 * self._fed and time.monotonic() < deadline:
            time.sleep(0.05)
        return 2 * self._fed - self._published()

    def end(self) -> None:
        self._tap.close()
        self.process.wait(20)

    def _published(self) -> int:
        return int(self._board.read().counters[sample("published_total")])


def exchange(size: int) -> tuple[bytes, bytes]:
    """A request and its response."""
    request = b"POST /v1/models/income:predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
    request += b"User-Agent: wrk\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    response = b"HTTP/1.1 200 OK\r\nServer: model\r\nContent-Type: application/json\r\n"
    response += b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    return request, response


def shipping(url: str, size: int, seconds: float, folder: Path) -> Iterator[Row]:
    """CPU microseconds an exchange, and memory, of a shipper process."""
    shipper = Shipper(url, size, folder)
    pids = [shipper.process.pid]
    time.sleep(0.5)
    at_rest = resident(pids)
    shipper.feed(1.0)
    before = cpu(pids)
    measured = shipper.feed(seconds)
    used = cpu(pids) - before
    busy = resident(pids)
    lost = shipper.lost()
    shipper.end()
    about = f"shipper to {'HTTP' if url else 'the embedded log'}, {size:,} B"
    yield row(about, used / measured * 1e6, "us CPU/exchange", TARGET_MICROSECONDS if url else None)
    yield row(f"{about}: events not published", lost, "events", 0)
    yield row(f"{about}: memory at rest", at_rest, "MiB")
    yield row(f"{about}: memory when busy", busy, "MiB")


def measure(quick: bool) -> Iterator[Row]:
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    receiver = multiprocessing.Process(target=receive, args=(ports,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{ports.get(timeout=20)}/"
    try:
        for size in SIZES:
            yield from publishing(url, size, 4000 if quick else 20000, 3 if quick else 5)
            for to in (url, ""):
                with tempfile.TemporaryDirectory() as folder:
                    yield from shipping(to, size, 4.0 if quick else 15.0, Path(folder))
    finally:
        receiver.terminate()


if __name__ == "__main__":
    sys.exit(main("publish", __doc__, measure))
