"""Faults at the receiver's side, under load: every event is delivered or counted, answers stay as they are.

The real ``offpath capture`` between real sockets. What is delivered is counted by id at the receiver, what is lost by
the sidecar's own metrics; the two must add up to what clients were answered.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httptools
import httpx
import pytest
import yaml

PREDICT = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
PATIENCE = 60.0
MEMORY_MIB = 100.0
"""Of relay and shipper together, whatever the receiver does."""


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait for a condition; the limit is there to end a broken test."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


class Serving:
    """A server on an event loop of its own."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self._protocol = protocol
        self._server: asyncio.Server | None = None
        self.open: set[asyncio.Transport] = set()
        self.port = 0
        self.up()

    def up(self) -> None:
        self._do(self._up())

    def down(self) -> None:
        """Nobody listens any more, and open connections are reset."""
        self._do(self._down())

    def close(self) -> None:
        self.down()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    async def _up(self) -> None:
        self._server = await self.loop.create_server(self._protocol, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in tuple(self.open):
            transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)


class Http(asyncio.Protocol):
    """Parses requests; ``answer`` is called for each."""

    def __init__(self, serving: Callable[[], Serving]) -> None:
        self.serving = serving

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.serving().open.add(transport)
        self.parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.serving().open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError


class Echo(Http):
    """The model server."""

    def answer(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(self.body) + self.body)


TAKEN = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Sink:
    """The receiver of events, which ``mood`` makes good or bad: it gets the id, and says what to write, if anything.

    What is answered with 2xx counts as taken.
    """

    def __init__(self) -> None:
        self.got: Counter[tuple[str, str]] = Counter()
        self.order: list[str] = []
        self.mood: Callable[[Http], bytes] = lambda _: TAKEN
        sink = self

        class Receiving(Http):
            def answer(self) -> None:
                told = sink.mood(self)
                if told.startswith(b"HTTP/1.1 2"):
                    sink.got[self.headers["ce-id"], self.headers["ce-type"]] += 1
                    sink.order.append(self.body.decode())
                if told:
                    self.transport.write(told)

        self.serving: Serving = Serving(lambda: Receiving(lambda: self.serving))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.serving.port}/events"


class Load:
    """Clients that keep their connections and check every answer, until they are stopped."""

    def __init__(self, port: int, rate: float, connections: int = 4, size: int = 300) -> None:
        self.answered = 0
        self.wrong = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(port, connections / rate, number, size))
            for number in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, pause: float, client: int, size: int) -> None:
        number, due = 0, time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            while not self._stop.is_set():
                body = b"%d-%d-" % (client, number) + b"x" * size
                connection.sendall(PREDICT + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                answer = b""
                while not answer.endswith(body):
                    data = connection.recv(65536)
                    if not data:
                        break
                    answer += data
                with self._lock:
                    self.answered += 1
                    self.wrong += not (answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(body))
                number += 1
                due += pause
                time.sleep(max(0.0, due - time.monotonic()))

    def stop(self) -> int:
        """The number of exchanges."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.wrong == 0, "answers stay identical"
        return self.answered

    def until(self, number: int) -> int:
        until(lambda: self.answered >= number, f"{number} exchanges")
        return self.stop()


class Sidecar:
    """``offpath capture`` as a user starts it."""

    def __init__(
        self,
        folder: Path,
        upstream: int,
        url: str,
        file_limit: int | None = None,
        descriptors: int | None = None,
        **capture: Any,
    ) -> None:
        settings = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "upstream": f"127.0.0.1:{upstream}",
            "url": url,
            "spool": str(folder / "spool.db"),
            **capture,
        }
        config = folder / "offpath.yaml"
        config.write_text(yaml.safe_dump({"capture": settings}))

        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.words: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "capture", "--config", str(config)],
            stderr=subprocess.PIPE, text=True, preexec_fn=limit,  # noqa: PLW1509 - sets a limit, takes no lock
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        found = until(self._addresses, "the sidecar's start")
        self.port, self.admin = int(found[1]), int(found[2])
        until(lambda: self.metric("shipper_up") == capture.get("workers", 1), "the shippers' start")
        self.peak = 0.0

    def _addresses(self) -> Any:
        return re.search(r"relaying \S+:(\d+) to .* http://\S+:(\d+)", "".join(self.words))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.words.append(line)

    def metrics(self) -> dict[str, int]:
        text = httpx.get(f"http://127.0.0.1:{self.admin}/metrics", trust_env=False).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        self.look()
        return {name.removeprefix("offpath_capture_"): int(float(value)) for name, _, value in lines}

    def metric(self, name: str) -> int:
        return self.metrics()[name]

    def processes(self) -> list[int]:
        """The sidecar's own and all below it."""
        found = [self.process.pid]
        for pid in found:
            told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
            found += map(int, told.stdout.split())
        return found

    def shipper(self) -> int:
        return next(p for p in self.processes() if b"\0shipper\0" in Path(f"/proc/{p}/cmdline").read_bytes())

    def look(self) -> None:
        """Note the memory that is in use."""
        used = 0
        for pid in self.processes() if hasattr(self, "peak") else ():
            try:
                found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            except OSError:  # it has just ended
                continue
            used += int(found[1]) if found else 0
        self.peak = max(getattr(self, "peak", 0.0), used / 1024)

    def lost(self) -> int:
        """Events that are counted as lost, or that were never made of a message: of these bodies each is one frame."""
        told = self.metrics()
        names = ("dropped_events_total", "dropped_frames_total", "discarded_messages_total")
        return sum(value for name, value in told.items() if name.startswith(names))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Scene:
    """A model server, a sink, and a sidecar between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream: Serving = Serving(lambda: Echo(lambda: self.upstream))
        self.sink = Sink()
        self.started: list[Sidecar] = []

    def start(self, **options: Any) -> Sidecar:
        self.started.append(Sidecar(self.folder, self.upstream.port, self.sink.url, **options))
        return self.started[-1]

    def settle(self, sidecar: Sidecar, exchanges: int) -> int:
        """Wait until everything is delivered or counted; exactly. Returns how many events were lost."""
        until(
            lambda: len(self.sink.got) + sidecar.lost() >= 2 * exchanges and sidecar.metric("spool_events") == 0,
            f"{exchanges} exchanges: {len(self.sink.got)} delivered, {sidecar.metrics()}",
        )
        time.sleep(0.3)  # for what should not come
        lost = sidecar.lost()
        assert len(self.sink.got) + lost == 2 * exchanges, sidecar.metrics()
        if sidecar is self.started[0] and sidecar.metric("shipper_starts_total") == 1:
            told = sidecar.metrics()
            made = sum(value for name, value in told.items() if name.startswith("events_total"))
            dropped = sum(value for name, value in told.items() if name.startswith("dropped_events_total"))
            assert made == told["published_total"] + dropped + told["spool_events"], "as docs/delivery.md says"
        assert sidecar.peak < MEMORY_MIB, f"{sidecar.peak:.0f} MiB"
        return lost

    @property
    def twice(self) -> int:
        """Deliveries beyond the first of each event."""
        return sum(self.sink.got.values()) - len(self.sink.got)

    def close(self) -> None:
        for sidecar in self.started:
            sidecar.kill()
        self.sink.serving.close()
        self.upstream.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path)
    yield one
    one.close()


def test_a_sink_that_takes_everything(scene: Scene) -> None:
    sidecar = scene.start()
    exchanges = Load(sidecar.port, 400).until(800)
    assert scene.settle(sidecar, exchanges) == 0
    assert scene.twice == 0
    assert sidecar.metric("spooled_total") == 0


@pytest.mark.parametrize(
    ("rate", "seconds"), [(300, 2.0), pytest.param(1000, 60.0, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
)
def test_a_sink_that_is_down_for_a_while(scene: Scene, rate: int, seconds: float) -> None:
    sidecar = scene.start()
    load = Load(sidecar.port, rate)
    until(lambda: load.answered > rate / 4)
    scene.sink.serving.down()
    time.sleep(seconds)
    until(lambda: sidecar.metric("spool_events") > rate / 4, "spooling")
    scene.sink.serving.up()
    exchanges = load.until(load.answered + rate // 4)
    assert scene.settle(sidecar, exchanges) == 0
    assert scene.twice <= 32, "at most what was under way when it went"
    for client in range(4):
        mine = [int(body.split("-")[1]) for body in scene.sink.order if body.startswith(f"{client}-")]
        assert list(dict.fromkeys(mine)) == sorted(set(mine)), "oldest first"


def test_a_sink_that_takes_one_event_a_second(scene: Scene) -> None:
    last = 0.0

    def slow(_: Http) -> bytes:
        nonlocal last
        if time.monotonic() < last + 1.0:
            return b"HTTP/1.1 429 Slow Down\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nslow"
        last = time.monotonic()
        return TAKEN

    scene.sink.mood = slow
    sidecar = scene.start()
    load = Load(sidecar.port, 300)
    until(lambda: len(scene.sink.got) >= 3, "three events")
    exchanges = load.stop()
    assert sidecar.metric("spool_events") > 0
    scene.sink.mood = lambda _: TAKEN
    assert scene.settle(sidecar, exchanges) == 0
    assert scene.twice == 0, "what was taken of a batch is not sent again"


def test_a_sink_that_asks_to_wait(scene: Scene) -> None:
    asked: list[float] = []

    def busy(_: Http) -> bytes:
        asked.append(time.monotonic())
        return b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"

    scene.sink.mood = busy
    sidecar = scene.start()
    load = Load(sidecar.port, 200)
    until(lambda: len(asked) >= 3, "three attempts")
    exchanges = load.stop()
    assert min(after - before for before, after in itertools.pairwise(asked)) >= 1.8, "it gets the time it asks for"
    assert sidecar.metric("publish_failures_total") <= 4
    scene.sink.mood = lambda _: TAKEN
    assert scene.settle(sidecar, exchanges) == 0
    assert scene.twice == 0


def test_a_sink_that_never_answers(scene: Scene) -> None:
    scene.sink.mood = lambda _: b""
    sidecar = scene.start(timeout="1s")
    load = Load(sidecar.port, 200)
    until(lambda: sidecar.metric("publish_failures_total") >= 2, "two attempts")
    exchanges = load.stop()
    scene.sink.mood = lambda _: TAKEN
    assert scene.settle(sidecar, exchanges) == 0


def test_a_sink_that_closes_in_the_middle_of_an_answer(scene: Scene) -> None:
    number = 0

    def closing(connection: Http) -> bytes:
        nonlocal number
        number += 1
        if number % 50:
            return TAKEN
        connection.transport.write(b"HTTP/1.1 202 Acc")
        connection.transport.close()
        return b""

    scene.sink.mood = closing
    sidecar = scene.start()
    exchanges = Load(sidecar.port, 300).until(600)
    assert scene.settle(sidecar, exchanges) == 0
    assert scene.twice <= 32 * number // 50, "what was under way behind the answer that was cut"


def test_a_sink_that_refuses_some(scene: Scene) -> None:
    def choosy(connection: Http) -> bytes:
        refused = b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad"
        return refused if connection.body.startswith(b"1-") else TAKEN

    scene.sink.mood = choosy
    sidecar = scene.start()
    exchanges = Load(sidecar.port, 300).until(600)
    lost = scene.settle(sidecar, exchanges)
    assert lost == sidecar.metric('dropped_events_total{reason="rejected"}') > 0
    assert scene.twice == 0


def test_a_full_disk(scene: Scene) -> None:
    """No file may grow beyond 2 MB; after that memory is what there is."""
    sidecar = scene.start(file_limit=2_000_000, buffer="1MiB")
    scene.sink.serving.down()
    load = Load(sidecar.port, 500, size=2000)
    until(lambda: sidecar.metric('dropped_events_total{reason="spool_unavailable"}') > 0, "drops")
    exchanges = load.stop()
    assert sidecar.metric("spooled_total") > 0
    scene.sink.serving.up()
    lost = scene.settle(sidecar, exchanges)
    assert lost == sidecar.metric('dropped_events_total{reason="spool_unavailable"}')
    assert any("events wait in memory only" in line for line in sidecar.words)
    assert len(sidecar.words) < 20, "not a line an event"


def test_a_disk_that_cannot_be_written_at_all(scene: Scene) -> None:
    (scene.folder / "file").write_text("in the way")
    sidecar = scene.start(spool=str(scene.folder / "file" / "spool.db"))
    exchanges = Load(sidecar.port, 300).until(300)
    assert scene.settle(sidecar, exchanges) == 0
    assert any("no spool, events wait in memory only" in line for line in sidecar.words)


def test_a_spool_at_its_cap(scene: Scene) -> None:
    sidecar = scene.start(spool_limit="400KiB")
    scene.sink.serving.down()
    load = Load(sidecar.port, 300)
    until(lambda: sidecar.metric('dropped_events_total{reason="spool_full"}') > 0, "drops")
    exchanges = load.stop()
    assert sidecar.metric("spool_bytes") <= 400 * 1024
    scene.sink.serving.up()
    lost = scene.settle(sidecar, exchanges)
    assert lost == sidecar.metric('dropped_events_total{reason="spool_full"}')
    first = min(int(body.split("-")[1]) for body in scene.sink.order)
    assert first > 0, "the oldest went"


def test_events_that_wait_for_too_long(scene: Scene) -> None:
    sidecar = scene.start(spool_age="1s")
    scene.sink.serving.down()
    exchanges = Load(sidecar.port, 300).until(150)
    until(lambda: sidecar.metric('dropped_events_total{reason="expired"}') > 0, "expiry")
    scene.sink.serving.up()
    lost = scene.settle(sidecar, exchanges)
    assert lost == sidecar.metric('dropped_events_total{reason="expired"}')


def test_a_shipper_killed_while_events_wait(scene: Scene) -> None:
    sidecar = scene.start()
    scene.sink.serving.down()
    load = Load(sidecar.port, 300)
    until(lambda: sidecar.metric("spool_events") > 200, "spooling")
    os.kill(sidecar.shipper(), signal.SIGKILL)
    until(lambda: sidecar.metric("shipper_starts_total") == 2, "another shipper")
    exchanges = load.until(load.answered + 200)
    scene.sink.serving.up()
    scene.settle(sidecar, exchanges)
    assert len(scene.sink.got) > 400, "what was on disk is delivered by the next shipper"


def test_sigterm_under_load_loses_nothing(scene: Scene) -> None:
    sidecar = scene.start(grace="4s")
    scene.sink.mood = lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    exchanges = Load(sidecar.port, 300).until(400)
    assert sidecar.stop() == 0
    assert len(scene.sink.got) == 0
    scene.sink.mood = lambda _: TAKEN
    assert scene.settle(scene.start(), exchanges) == 0
    assert scene.twice == 0


def test_fewer_workers_than_before(scene: Scene) -> None:
    """What waits in the spools of those that are no more is delivered too, and the files go."""
    first = scene.start(workers=3)
    scene.sink.serving.down()
    exchanges = Load(first.port, 300, connections=24).until(300)
    until(lambda: first.metric("spool_events") == 2 * exchanges, "spooling")
    assert first.stop() == 0
    assert len(list(scene.folder.glob("spool*.db"))) == 3
    second = scene.start(workers=1)
    until(lambda: second.metric("spool_events") == 2 * exchanges, "seeing them while they wait")
    scene.sink.serving.up()
    assert scene.settle(second, exchanges) == 0
    assert scene.twice == 0
    until(lambda: len(list(scene.folder.glob("spool*.db"))) == 1, "the end of the other files")


def test_two_sidecars_do_not_share_a_spool(scene: Scene) -> None:
    scene.start()
    second = scene.start()
    held = until(lambda: [line for line in second.words if "is held by process" in line], "the message")
    assert "no spool, events wait in memory only" in held[0]
    exchanges = Load(second.port, 200).until(100)
    assert scene.settle(second, exchanges) == 0
