"""Faults of clients and model server, under load: answers stay as they are, every event is accounted for.

Exchanges are counted at the clients and at the model server, events at their receiver, losses by the sidecar's metrics.
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_delivery import PATIENCE, PREDICT, Http, Load, Scene, Serving, Sidecar, until

from monitor.capture.outbox import BATCH

RESET = struct.pack("ii", 1, 0)


class Model(Http):
    """Echoes, and counts what it heard; ``/reset`` breaks off in the middle of its answer."""

    heard: Counter[str]

    def on_url(self, url: bytes) -> None:
        self.path = url.decode()

    def answer(self) -> None:
        self.heard[self.path] += 1
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(self.body)
        if "reset" not in self.path:
            self.transport.write(head + self.body)
            return
        self.transport.write(head + self.body[: len(self.body) // 2])
        own = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.get_loop().call_later(0.05, self.transport.abort)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A model server that counts, a receiver of events, and what is started between them."""
    one = Scene(tmp_path)
    one.upstream.close()
    heard: Counter[str] = Counter()
    counting = type("Counting", (Model,), {"heard": heard})
    one.upstream = Serving(lambda: counting(lambda: one.upstream))
    one.heard = heard  # type: ignore[attr-defined]
    yield one
    one.close()


def request(body: bytes, path: str = "/v1/models/m:predict") -> bytes:
    head = PREDICT.replace(b"/v1/models/m:predict", path.encode())
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class Clients:
    """Connections to a sidecar, closed at the end."""

    def __init__(self) -> None:
        self.open: list[socket.socket] = []

    def __call__(self, sidecar: Sidecar, buffer: int = 0) -> socket.socket:
        client = socket.socket()
        self.open.append(client)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", sidecar.port))
        return client

    def close(self) -> None:
        for client in self.open:
            client.close()


@pytest.fixture
def connect() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


def read_all(client: socket.socket) -> tuple[bytes, bool]:
    """Everything until the end, and whether that was a reset."""
    heard = b""
    try:
        while data := client.recv(65536):
            heard += data
    except ConnectionResetError:
        return heard, True
    return heard, False


def read_until(client: socket.socket, ending: bytes) -> bytes:
    heard = bytearray()
    while not heard.endswith(ending):
        data = client.recv(1 << 20)
        assert data, f"the connection ended after {len(heard)} bytes"
        heard += data
    return bytes(heard)


def accounted(scene: Scene, sidecar: Sidecar, events: int) -> int:
    """Wait until so many events are delivered or counted as lost; exactly. Returns the lost ones."""
    told = lambda: (len(scene.sink.got), sidecar.lost())  # noqa: E731 - said often
    try:
        until(lambda: sum(told()) >= events and sidecar.metric("spool_events") == 0)
    except AssertionError:
        pytest.fail(f"of {events} events so many are delivered, and counted as lost: {told()}; {sidecar.metrics()}")
    time.sleep(0.3)  # for what should not come
    assert sum(told()) == events, sidecar.metrics()
    assert sidecar.peak < 100
    return told()[1]


def test_a_client_that_reads_one_byte_a_second(scene: Scene, connect: Clients) -> None:
    """It holds what one connection may hold, and nobody else waits."""
    sidecar = scene.start()
    body = os.urandom(2_000_000).hex().encode()
    slow = [connect(sidecar, buffer=4096) for _ in range(5)]
    for client in slow:
        threading.Thread(target=client.sendall, args=(request(body),), daemon=True).start()
    load = Load(sidecar.port, 300)
    until(lambda: scene.heard["/v1/models/m:predict"] >= 5 + load.answered, "the requests' arrival")  # type: ignore[attr-defined]
    started = [client.recv(1) for client in slow]
    for _ in range(2):
        time.sleep(1.0)
        started = [seen + client.recv(1) for seen, client in zip(started, slow, strict=True)]
    assert started == [b"HTT"] * 5
    exchanges = load.until(load.answered + 200)
    assert read_until(slow[0], body[-100:]).endswith(body), "patience is rewarded"
    connect.close()
    lost = accounted(scene, sidecar, 2 * exchanges + 2 * 5)
    assert lost == sidecar.metric('discarded_messages_total{reason="incomplete"}') == 4, "four answers never ended"


def test_an_upstream_that_resets_in_the_middle_of_an_answer(scene: Scene, connect: Clients) -> None:
    """Clients see the same as without a sidecar: half an answer, and a reset."""
    sidecar = scene.start()
    load = Load(sidecar.port, 300)
    body = b"x" * 1000
    for _ in range(20):
        with connect(sidecar) as client:
            client.sendall(request(body, "/v1/models/reset:predict"))
            heard, reset = read_all(client)
        assert heard.endswith(b"\r\n\r\n" + body[:500])
        assert reset, "a body that ends too early must not look like a regular end"
    exchanges = load.until(load.answered + 100)
    lost = accounted(scene, sidecar, 2 * exchanges + 2 * 20)
    assert lost == sidecar.metric('discarded_messages_total{reason="incomplete"}') == 20


def test_five_thousand_idle_connections(scene: Scene, connect: Clients) -> None:
    """Both ends of each are in this process, and both in the relay: four descriptors a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 11_000:
        pytest.skip(f"needs 11,000 file descriptors, and {most} are allowed: raise the hard limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sidecar = scene.start()
    idle = []
    for number in range(1, 5001):
        idle.append(connect(sidecar))
        if number % 50 == 0:  # the model server's queue holds a hundred
            until(lambda number=number: len(scene.upstream.open) >= number, "the upstream's connections")  # type: ignore[misc]
    exchanges = Load(sidecar.port, 300).until(200)
    for client in idle[::100]:  # still there, and good for a call
        client.sendall(request(b"awake"))
        read_until(client, b"\r\n\r\nawake")
    assert sidecar.metric("connections") >= 5000
    accounted(scene, sidecar, 2 * exchanges + 2 * 50)
    connect.close()
    until(lambda: sidecar.metric("connections") == 0, "the end of all connections")
    assert sidecar.lost() == 0


def test_more_clients_than_descriptors(scene: Scene, connect: Clients) -> None:
    """Who comes too late waits and is answered when others leave; everything else goes on as if nothing was."""
    sidecar = scene.start(descriptors=160)
    room = sidecar.metric("connections_room")
    assert 20 < room < 160 / 2
    load = Load(sidecar.port, 300)
    idle = [connect(sidecar) for _ in range(room - 4)]
    until(lambda: sidecar.metric("connections") == room, "a full house")
    late = [connect(sidecar) for _ in range(40)]
    for client in late:
        client.sendall(request(b"at last"))
    until(lambda: sidecar.metric("accept_pauses_total") > 0, "a pause")
    goal = load.answered + 100
    until(lambda: load.answered >= goal, "the others' answers")
    assert select.select(late, [], [], 0) == ([], [], []), "neither an answer nor an end"
    visitors = [socket.create_connection(("127.0.0.1", sidecar.admin), PATIENCE) for _ in range(40)]
    for visitor in visitors:
        visitor.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
    for visitor in visitors:
        with visitor:
            assert read_all(visitor)[0].startswith(b"HTTP/1.1 200")
    for client in idle[:10]:
        client.close()
    for client in late:
        assert read_until(client, b"\r\n\r\nat last")
        client.close()
    exchanges = load.until(load.answered + 50)
    assert accounted(scene, sidecar, 2 * exchanges + 2 * 40) == 0
    assert sidecar.metric('upstream_errors_total{reason="failed"}') == 0
    idle += [connect(sidecar) for _ in range(room)]
    until(lambda: sidecar.metric("connections") == room, "a full house again")
    os.kill(sidecar.shipper(), signal.SIGKILL)
    until(lambda: sidecar.metric("shipper_starts_total") == 2, "a shipper, which needs descriptors too")
    assert sum("limit of open files" in line for line in sidecar.words) == 1, "not a line a client"


def test_slow_headers(scene: Scene, connect: Clients) -> None:
    """A byte every few milliseconds: some finish and are captured, some give up and are counted."""
    sidecar = scene.start()
    load = Load(sidecar.port, 300)
    patient, hasty = [connect(sidecar) for _ in range(30)], [connect(sidecar) for _ in range(30)]
    wire = request(b"slowly")
    for at in range(len(wire)):
        for client in patient:
            client.sendall(wire[at : at + 1])
        for client in hasty if at < 60 else ():
            client.sendall(wire[at : at + 1])
        time.sleep(0.005)
    for client in patient:
        read_until(client, b"\r\n\r\nslowly")
    connect.close()
    exchanges = load.until(load.answered + 50)
    lost = accounted(scene, sidecar, 2 * exchanges + 2 * 30 + 30)
    assert lost == sidecar.metric('discarded_messages_total{reason="incomplete"}') == 30


def test_a_shipper_killed_under_load(scene: Scene) -> None:
    """Nothing is lost without being counted. What was on its way to the receiver at that moment may be counted as lost
    and yet have arrived: nobody can know."""
    sidecar = scene.start()
    load = Load(sidecar.port, 400)
    for starts in range(2, 5):
        goal = load.answered + 150
        until(lambda goal=goal: load.answered >= goal)  # type: ignore[misc]
        os.kill(sidecar.shipper(), signal.SIGKILL)
        until(lambda starts=starts: sidecar.metric("shipper_starts_total") == starts)  # type: ignore[misc]
        until(lambda: sidecar.metric("shipper_up") == 1)
        more = len(scene.sink.got) + 2 * BATCH  # of which the dead one may have sent a batch
        until(lambda more=more: len(scene.sink.got) >= more, "capture goes on")  # type: ignore[misc]
    exchanges = load.until(load.answered + 150)
    until(lambda: len(scene.sink.got) + sidecar.lost() >= 2 * exchanges, "an account of everything")
    time.sleep(0.5)
    surplus = len(scene.sink.got) + sidecar.lost() - 2 * exchanges
    assert 0 <= surplus <= 3 * BATCH, sidecar.metrics()
    assert sidecar.lost() > 0


def test_sigterm_under_load(scene: Scene) -> None:
    """Clients that never rest: every request that reached the model server is answered, delivered, and no other."""
    sidecar = scene.start(grace="4s")
    clients = [Restless(sidecar.port) for _ in range(8)]
    until(lambda: sum(client.answered for client in clients) > 400)
    assert sidecar.stop() == 0
    for client in clients:
        client.thread.join(PATIENCE)
    answered = sum(client.answered for client in clients)
    heard = sum(scene.heard.values())  # type: ignore[attr-defined]
    assert answered == heard, "no answer of the model server is cut off"
    assert len(scene.sink.got) == 2 * heard
    assert scene.twice == 0


class Restless:
    """Asks again some milliseconds after each answer, until the connection ends."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        wire = request(b"again")
        with self._connection as connection:
            while True:
                try:
                    connection.sendall(wire)
                    answer = connection.recv(65536)
                except OSError:
                    return
                if not answer:
                    return
                assert answer.endswith(b"\r\n\r\nagain")
                self.answered += 1
                time.sleep(0.015)


def steady(scene: Scene, seconds: float, rate: float) -> int:
    """A steady load: memory stays where it was, and every event is delivered or counted. Returns the lost ones."""
    sidecar = scene.start()
    load = Load(sidecar.port, rate, size=1000)
    memory: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seconds / 60)
        memory.append(sum(map(rss, sidecar.processes())))
    exchanges = load.stop()
    middle, last = max(memory[20:40]), max(memory[40:])
    print(f"{exchanges} exchanges; MiB at most: {max(memory[:20]):.1f}, {middle:.1f}, {last:.1f}, by thirds")
    lost = accounted(scene, sidecar, 2 * exchanges)
    print(f"{len(scene.sink.got)} events delivered, {lost} counted as lost, {scene.twice} delivered twice")
    assert exchanges > 0.5 * rate * seconds, "the load was steady"
    assert last < middle + 2, f"MiB: {[round(m, 1) for m in memory]}"
    return lost


def rss(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def test_a_while_of_steady_load(scene: Scene) -> None:
    assert steady(scene, 9, 300) == 0
    assert scene.twice == 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_half_an_hour_of_steady_load(scene: Scene) -> None:
    """On a machine that others use too, the shipper may not keep up; what is lost then is counted, exactly."""
    steady(scene, 1800, 300)
