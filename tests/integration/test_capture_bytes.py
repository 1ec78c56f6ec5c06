"""Whatever two programs say to each other passes the sidecar unchanged, however it is split and whoever ends first."""

from __future__ import annotations

import random
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import PATIENCE
from sidecar import relay

from monitor.capture.plan import Address, Plan, Shipping


@dataclass
class Script:
    """What one side says, in which pieces, how long it rests before each, and whether it reads slowly."""

    data: bytes
    pieces: list[int]
    rests: list[float]
    slow: bool = False

    def chunks(self) -> Iterator[tuple[float, bytes]]:
        at = 0
        for i, size in enumerate([*self.pieces, len(self.data)]):
            if piece := self.data[at : at + size]:
                yield self.rests[i % len(self.rests)], piece
            at += size


def play(connection: socket.socket, script: Script, heard: bytearray) -> None:
    """Say the script and end that side; meanwhile hear until the other ends."""
    connection.settimeout(PATIENCE)

    def say() -> None:
        for rest, piece in script.chunks():
            time.sleep(rest)
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)

    speaker = threading.Thread(target=say)
    speaker.start()
    while data := connection.recv(4096 if script.slow else 65536):
        heard += data
        if script.slow:
            time.sleep(0.0005)
    speaker.join(PATIENCE)
    connection.close()


class Pair:
    """A sidecar in front of a listener."""

    def __init__(self, folder: Path, unix: bool) -> None:
        self.unix = unix
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(folder / "model.sock"))
            self.listener.listen()
            upstream, listen = Address.parse(f"unix:{folder}/model.sock"), Address.parse(f"unix:{folder}/relay.sock")
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            upstream, listen = Address("127.0.0.1", self.listener.getsockname()[1]), Address("127.0.0.1", 0)
        self.path = str(folder / "relay.sock")
        told = Shipping("http://sidecar", log=str(folder / "log.db"), spool=str(folder / "spool.db"))
        self.process, said = relay(Plan(listen, upstream, Address("127.0.0.1", 0), told))
        found = re.search(r"relaying \S+?(?::(\d+))? to ", said)
        assert found, said
        self.port = int(found[1] or 0)

    def connect(self) -> socket.socket:
        if not self.unix:
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        return client

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.listener.close()


@pytest.fixture(scope="module", params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    running = Pair(tmp_path_factory.mktemp("bytes"), request.param == "unix")
    yield running
    running.close()


def converse(pair: Pair, client: Script, server: Script) -> tuple[bytes, bytes]:
    """What the server heard, and what the client heard."""
    at_server, at_client = bytearray(), bytearray()

    def serve() -> None:
        connection, _ = pair.listener.accept()
        play(connection, server, at_server)

    serving = threading.Thread(target=serve)
    serving.start()
    play(pair.connect(), client, at_client)
    serving.join(PATIENCE)
    assert not serving.is_alive()
    return bytes(at_server), bytes(at_client)


HTTP = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\n{}"
SOMETHING = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([HTTP, HTTP * 3, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\n\r\n"]),
    st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(random.Random(seed).randrange(200_000))),
)
SCRIPTS = st.builds(
    Script,
    st.lists(SOMETHING, max_size=3).map(b"".join),
    st.lists(st.sampled_from([1, 2, 7, 100, 1460, 65_536]), max_size=12),
    st.lists(st.sampled_from([0.0, 0.0, 0.001]), min_size=1, max_size=3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCRIPTS, SCRIPTS)
def test_any_conversation(pair: Pair, client: Script, server: Script) -> None:
    assert converse(pair, client, server) == (client.data, server.data)


@pytest.mark.parametrize("slow", ["client", "server", "both"])
def test_many_megabytes_both_ways_to_slow_readers(pair: Pair, slow: str) -> None:
    data = random.Random(1).randbytes(3_000_000)
    client = Script(data, [], [0.0], slow in ("client", "both"))
    server = Script(data[::-1], [], [0.0], slow in ("server", "both"))
    assert converse(pair, client, server) == (client.data, server.data)


def test_an_upstream_that_resets_resets_the_client(pair: Pair) -> None:
    client = pair.connect()
    server, _ = pair.listener.accept()
    client.sendall(HTTP)
    server.recv(65536)
    server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    assert client.recv(65536).endswith(b"half")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    client.settimeout(PATIENCE)
    if pair.unix:
        assert client.recv(65536) == b"", "Unix sockets know no reset"
    else:
        with pytest.raises(ConnectionResetError):
            client.recv(65536)
    client.close()


def test_two_peers_that_reset_with_words_unread_leave_nothing_behind(pair: Pair) -> None:
    """Neither leg can send any more: each waited for the other to read first."""
    if pair.unix:
        pytest.skip("Unix sockets know no reset")

    def held() -> int:
        return sum(1 for _ in Path(f"/proc/{pair.process.pid}/fd").iterdir())

    before = held()
    for _ in range(5):
        client = pair.connect()
        server, _ = pair.listener.accept()
        client.sendall(HTTP)
        server.recv(65536)
        pair.process.send_signal(signal.SIGSTOP)  # it finds all of it at once
        try:
            for end in (client, server):
                end.sendall(HTTP)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.close()
        finally:
            pair.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + PATIENCE
    while held() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held() <= before


def test_a_thousand_idle_connections_and_one_busy(pair: Pair) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    idle = []
    for _ in range(1000):
        idle.append(pair.connect())
        idle.append(pair.listener.accept()[0])
    script = Script(HTTP * 100, [1000] * 10, [0.0])
    assert converse(pair, script, script) == (script.data, script.data)
    rss = next(
        int(line.split()[1]) / 1024
        for line in Path(f"/proc/{pair.process.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    for connection in idle:
        connection.close()
    assert rss < 60, f"{rss} MiB for a thousand idle connections"
