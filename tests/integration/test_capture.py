"""The sidecar's two processes, between real clients and real servers."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
import uvicorn
from servers import PATIENCE, free_port, until
from sidecar import PREDICT, REQUEST, RESPONSE, Sidecar, relay

from monitor.capture.metrics import sample
from monitor.capture.plan import Address, Plan, Shipping
from monitor.transport.log import EmbeddedLog


async def model(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """A model server: echoes bodies; ``/stream`` speaks in events, ``/never`` hangs, ``/slow`` takes its time."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    path = scope["path"]
    headers = [(b"content-type", b"application/octet-stream")]
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(5):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b""})
        return
    if path.endswith("never:predict"):
        await receive()  # the client's disconnection
        return
    if path.endswith("slow:predict"):
        await asyncio.sleep(0.5)
    status = 400 if body == b"bad" else 200
    if not path.endswith("chunked:predict"):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for start in range(0, len(body), 50_000):
        await send({"type": "http.response.body", "body": body[start : start + 50_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The model server's port."""
    config = uvicorn.Config(model, port=0, log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: running.started, "the model server's start")
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


class Receiver(servers.Receiver):
    """Counts events by id and type, and keeps bodies in their order."""

    def __init__(self) -> None:
        self.got: Counter[tuple[str, str]] = Counter()
        self.order: list[str] = []
        super().__init__()

    def take(self, headers: HTTPMessage, body: bytes) -> None:
        self.got[headers["ce-id"], headers["ce-type"]] += 1
        self.order.append(body.decode())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def test_a_call_becomes_two_events(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server)
    answer = httpx.post(sidecar.url + PREDICT, content=b'{"instances": [[1]]}', headers={"x-request-id": "r"})
    assert answer.content == b'{"instances": [[1]]}'
    assert httpx.post(sidecar.url + PREDICT, content=b"bad").status_code == 400
    assert httpx.get(sidecar.url + "/v2/health/ready").status_code == 200
    httpx.post(sidecar.url + PREDICT, content=b"x", headers={"seldon-skip-logging": "true"})
    sidecar.published(4)
    records = sidecar.records()
    assert [r.headers["ce_type"] for r in records] == [REQUEST, RESPONSE] * 2
    assert [r.value for r in records] == [b'{"instances": [[1]]}'] * 2 + [b"bad"] * 2
    assert [r.headers["ce_requestid"] for r in records[:2]] == ["r", "r"]
    assert records[3].headers["ce_status"] == "400"
    until(lambda: sidecar.metric("skipped_total", reason="header") == 1)
    assert sidecar.metric("skipped_total", reason="probe") == 1


def test_bodies_of_every_kind_pass_unchanged(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server)
    large = random.Random(1).randbytes(10_000_000)
    with httpx.Client(base_url=sidecar.url) as client:
        assert client.post(PREDICT, content=large).content == large
        pieces = [large[start : start + 70_001] for start in range(0, 900_000, 70_001)]
        assert client.post("/v1/models/chunked:predict", content=iter(pieces)).content == b"".join(pieces)
        with client.stream("GET", "/stream") as events:
            assert list(events.iter_lines())[::2] == [f"data: {number}" for number in range(5)]
    sidecar.published(4)
    records = sidecar.records()
    assert [len(r.value or b"") for r in records] == [1024 * 1024] * 2 + [len(b"".join(pieces))] * 2
    assert large.startswith(records[1].value or b"-")
    assert [r.headers.get("ce_truncated") for r in records] == ["true", "true", None, None]


def test_what_does_not_fit_is_counted_and_the_next_call_captured(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server, queue=256 * 1024)
    large = random.Random(1).randbytes(10_000_000)
    with httpx.Client(base_url=sidecar.url) as client:
        assert client.post(PREDICT, content=large).content == large
        assert client.post(PREDICT, content=b"small").content == b"small"
    client = httpx.Client(base_url=sidecar.url)
    assert client.post(PREDICT, content=b"other connection").content == b"other connection"
    client.close()
    until(lambda: any(r.value == b"other connection" for r in sidecar.records()))
    assert sidecar.metric("gaps_total") >= 1
    assert sidecar.metric("dropped_frames_total", reason="queue_full") > 0
    assert sidecar.metric("dropped_bytes_total") > 0
    assert sidecar.metric("queue_bytes") <= 256 * 1024


def test_a_stopped_shipper_stops_nobody(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server, queue=1024 * 1024)
    (shipper,) = sidecar.shippers()
    os.kill(shipper, signal.SIGSTOP)
    body = b"x" * 200_000
    with httpx.Client(base_url=sidecar.url) as client:
        for _ in range(40):
            assert client.post(PREDICT, content=body).content == body
    assert sidecar.metric("dropped_frames_total", reason="queue_full") > 0
    assert sidecar.metric("queue_bytes") <= 1024 * 1024
    os.kill(shipper, signal.SIGCONT)
    httpx.post(sidecar.url + PREDICT, content=b"again")
    until(lambda: any(r.value == b"again" for r in sidecar.records()), "capturing again")


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes are Linux's")
def test_the_shipper_gives_way_and_does_not_starve(server: int, start: Callable[..., Sidecar]) -> None:
    (shipper,) = start(server).shippers()
    until(lambda: os.sched_getscheduler(shipper) == os.SCHED_BATCH, "the batch class")
    assert os.getpriority(os.PRIO_PROCESS, shipper) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)


def test_a_killed_shipper_is_started_again(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server)
    httpx.post(sidecar.url + PREDICT, content=b"before")
    sidecar.published(2)
    with socket.create_connection(("127.0.0.1", sidecar.port)) as held, httpx.Client(base_url=sidecar.url) as client:
        held.sendall(b"POST /v1/models/never:predict HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n\r\nlost")
        until(lambda: sidecar.metric("events_total", side="request") == 2, "half an exchange")
        os.kill(sidecar.shippers()[0], signal.SIGKILL)
        assert client.post(PREDICT, content=b"meanwhile").content == b"meanwhile"
    until(lambda: sidecar.metric("shipper_starts_total") == 2, "a new shipper")
    until(lambda: sidecar.metric("shipper_up") == 1)
    httpx.post(sidecar.url + PREDICT, content=b"after")
    until(lambda: sum(r.value == b"after" for r in sidecar.records()) == 2, "capturing again")
    missing = 2 - sum(r.value == b"meanwhile" for r in sidecar.records())
    counted = [sidecar.metric("dropped_frames_total", reason=reason) for reason in ("shipper_died", "resync")]
    counted.append(sidecar.metric("discarded_messages_total", reason="shipper_died"))
    assert missing == 0 or sum(counted) >= 1, "what the dead shipper had in hand is counted"


def test_events_wait_for_an_absent_receiver(
    server: int, start: Callable[..., Sidecar], receiver: Receiver, tmp_path: Path
) -> None:
    receiver.away = True
    sidecar = start(server, url=receiver.url)
    with httpx.Client(base_url=sidecar.url) as client:
        for number in range(30):
            client.post(PREDICT, content=b"%d" % number)
    until(lambda: sidecar.metric("spool_events") + sidecar.metric("published_total") >= 60, "spooling")
    assert sidecar.metric("published_total") == 0
    receiver.away = False
    sidecar.published(60)
    assert len(receiver.got) == 60
    firsts = list(dict.fromkeys(receiver.order))
    assert firsts == [str(number) for number in range(30)], "oldest first"
    until(lambda: sidecar.metric("spool_events") == 0)
    assert sum(value for name, value in sidecar.metrics().items() if "dropped_events" in name) == 0


def test_the_spool_outlives_the_sidecar(server: int, start: Callable[..., Sidecar], receiver: Receiver) -> None:
    receiver.away = True
    first = start(server, url=receiver.url)
    httpx.post(first.url + PREDICT, content=b"patient")
    until(lambda: first.metric("spool_events") == 2, "spooling")
    assert first.stop() == 0
    receiver.away = False
    start(server, url=receiver.url)
    until(lambda: len(receiver.got) == 2, "publishing what an earlier sidecar left")
    assert receiver.order == ["patient", "patient"]


def test_sigterm_finishes_what_has_begun(server: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(server)
    answers: list[bytes] = []
    calls = [
        threading.Thread(
            target=lambda i=i: answers.append(  # type: ignore[misc]
                httpx.post(sidecar.url + "/v1/models/slow:predict", content=b"%d" % i).content
            )
        )
        for i in range(8)
    ]
    for call in calls:
        call.start()
    until(lambda: sidecar.metric("connections") >= 8)
    assert sidecar.stop() == 0
    for call in calls:
        call.join()
    assert sorted(answers) == [b"%d" % i for i in range(8)]
    assert sorted(r.value or b"" for r in sidecar.records()) == sorted(answers * 2)


def test_both_ends_on_ipv6(tmp_path: Path) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    listen = free_port()
    upstream = listener.getsockname()[1]
    line = [sys.executable, "-m", "monitor", "capture", "--mode", "none", "--admin", "127.0.0.1:0"]
    line += ["--listen", f"[::1]:{listen}", "--upstream", f"[::1]:{upstream}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with listener, subprocess.Popen(line, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f"relaying [::1]:{listen} to [::1]:{upstream}" in process.stderr.readline()
        with socket.create_connection(("::1", listen), PATIENCE) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"to the server")
                assert server.recv(100) == b"to the server"
                server.sendall(b"and back")
                assert client.recv(100) == b"and back"
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_shipper_that_its_configuration_does_not_let_work_is_given_up(tmp_path: Path, server: int) -> None:
    """It says why in a line, and is not started again; requests pass, and what was copied is counted."""
    local = Address("127.0.0.1", 0)
    shipping = Shipping("http://sidecar", url="http://b:99999/", spool=str(tmp_path / "spool.db"))
    process, said = relay(Plan(local, Address("127.0.0.1", server), local, shipping))
    found = re.search(r"relaying \S+:(\d+) to .* http://\S+:(\d+)", said)
    assert found
    assert process.stderr is not None
    with process, process.stderr as stream:
        words = [stream.readline(), stream.readline()]
        assert words[0] == "offpath capture: the receiver's URL cannot be read\n"
        assert "is not started again: requests are relayed, and none is captured" in words[1]
        assert httpx.post(f"http://127.0.0.1:{found[1]}{PREDICT}", content=b"x").content == b"x"
        told = httpx.get(f"http://127.0.0.1:{found[2]}/metrics").text
        assert sample("shipper_starts_total") + " 1" in told
        assert sample("shipper_up") + " 0" in told
        assert sample("dropped_frames_total", reason="shipper_died") + " 2" in told
        process.send_signal(signal.SIGTERM)
        assert len(stream.readlines()) == 2, "that it stops, and that it has stopped"


def test_an_absent_model_server_is_told_to_the_client(start: Callable[..., Sidecar]) -> None:
    sidecar = start(free_port())
    with pytest.raises(httpx.TransportError):
        httpx.post(sidecar.url + PREDICT, content=b"x")
    assert sidecar.metric("upstream_errors_total", reason="refused") == 1


def test_the_processes_load_nothing_heavy() -> None:
    heavy = {"torch", "scipy", "pydantic", "fastapi", "starlette", "uvicorn", "rich", "jinja2"}
    for module, more in (("sidecar", {"numpy", "orjson", "httpx", "sqlite3"}), ("shipper", {"httpx", "numpy"})):
        code = f"import sys, monitor.capture.{module}; print(*sorted({heavy | more!r} & set(sys.modules)))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.split() == [], module


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "nonsense"], "--listen: capture.listen: expected host:port"),
        (["--queue", "lots"], "--queue: capture.queue: a size is a number with"),
        (["--queue", "1KiB"], "--queue: capture.queue: must be 128KiB at least"),
        (["--url", "http://me:secret@b:99999/"], "its port is none from 1 to 65535 (got 'http://...@b:99999/')"),
        (["--token-file", "nowhere"], "capture.token_file: there is no file nowhere"),
        (["--listen", "127.0.0.1:{used}"], "127.0.0.1:{used}"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        words = [word.format(used=used) for word in arguments]
        command = [sys.executable, "-m", "monitor", "capture", "--admin", "127.0.0.1:0", *words]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode
    assert said.format(used=used) in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [
        ["--data", "hello"],
        ["--data", "hello", "--http1.0"],
        ["--data", "hello", "-H", "Transfer-Encoding: chunked"],
        ["--data", "hello", "-H", "Expect: 100-continue"],
        ["--data", "hello", "-H", "Connection: close"],
        ["--data", "hello", "--http2"],  # an offer to upgrade, which uvicorn declines
    ],
)
def test_curl(server: int, start: Callable[..., Sidecar], options: list[str]) -> None:
    sidecar = start(server)
    with_sidecar, without = (
        subprocess.run(["curl", "-s", *options, url + PREDICT], capture_output=True)
        for url in (sidecar.url, f"http://127.0.0.1:{server}")
    )
    assert with_sidecar.returncode == without.returncode == 0
    assert with_sidecar.stdout == without.stdout
    sidecar.published(2)
    assert sidecar.records()[0].value == b"hello"
    assert sidecar.records()[1].value == without.stdout


def test_workers_share_a_port_and_tell_one_story(tmp_path: Path, server: int) -> None:
    listen, admin = free_port(), free_port()
    line = [sys.executable, "-m", "monitor", "capture", "--workers", "3", "--listen", f"127.0.0.1:{listen}"]
    line += ["--upstream", f"127.0.0.1:{server}", "--admin", f"127.0.0.1:{admin}", "--log", "log.db", "--spool", "s.db"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(line, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL)

    def metric(name: str) -> float:
        try:
            text = httpx.get(f"http://127.0.0.1:{admin}/metrics").text
        except httpx.TransportError:
            return -1
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, flags=re.MULTILINE)
        return sum(map(float, found))

    try:
        until(lambda: metric("offpath_capture_shipper_up") == 3, "the start of three shippers")
        for number in range(40):  # a connection each: the kernel spreads them
            body = b'{"instances": [[%d]]}' % number
            assert httpx.post(f"http://127.0.0.1:{listen}{PREDICT}", content=body).content == body
        until(lambda: metric("offpath_capture_published_total") == 80, "publishing")
        assert metric("offpath_capture_connections_total") == 40
        victim = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()[0]
        os.kill(int(victim), signal.SIGKILL)
        until(lambda: metric("offpath_capture_workers") == 3, "another worker")
        until(lambda: metric("offpath_capture_shipper_up") == 3, "another shipper")
        assert httpx.post(f"http://127.0.0.1:{listen}{PREDICT}", content=b"{}").content == b"{}"
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    log = EmbeddedLog(tmp_path / "log.db", create=False)
    records = [d.record for block in log.scan("payloads") for d in block.deliveries]
    log.close()
    assert len(records) == 82


def test_relaying_only(tmp_path: Path, server: int) -> None:
    admin = free_port()
    line = [sys.executable, "-m", "monitor", "capture", "--mode", "none", "--listen", f"unix:{tmp_path}/in.sock"]
    line += ["--upstream", f"127.0.0.1:{server}", "--admin", f"127.0.0.1:{admin}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(line, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL) as process:
        until((tmp_path / "in.sock").exists, "the socket")
        transport = httpx.HTTPTransport(uds=str(tmp_path / "in.sock"))
        with httpx.Client(transport=transport) as client:
            assert client.post(f"http://m{PREDICT}", content=b"hello").content == b"hello"
        assert subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True).stdout == b""
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not (tmp_path / "in.sock").exists()
