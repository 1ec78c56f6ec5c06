"""What HTTP can do, between real clients and real servers: with the sidecar everything is as without, and counted."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import websockets
from servers import PATIENCE, free_port, until
from sidecar import PREDICT, REQUEST, RESPONSE, Sidecar

CONFIG = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; default_type application/json;
    server {{
        listen 127.0.0.1:{port}; listen 127.0.0.1:{http2} http2; listen 127.0.0.1:{tls} ssl;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; root {folder}/www;
        location /v1/models/empty:predict {{ return 204; }}
        location /v1/models/m:predict {{ add_header X-Seen $request_method; return 200 "{{\\"predictions\\": [1]}}"; }}
    }}
}}
"""


class Nginx:
    """A real server on three ports: HTTP/1, HTTP/2 without TLS, TLS."""

    def __init__(self, folder: Path) -> None:
        self.port, self.http2, self.tls = free_port(), free_port(), free_port()
        (folder / "www").mkdir()
        (folder / "www" / "file").write_bytes(b"0123456789" * 1000)
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        subprocess.run(
            [*make, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=self.port, http2=self.http2, tls=self.tls))
        line = ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
        if not os.getuid():
            line += ["-g", "user root;"]
        self.process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        until(self._listens, "nginx's start")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.tls)) == 0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    missing = [program for program in ("nginx", "openssl", "curl") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian: apt-get install nginx openssl curl)")
    running = Nginx(tmp_path_factory.mktemp("nginx"))
    yield running
    running.close()


def curl(port: int, path: str, *options: str, scheme: str = "http") -> bytes:
    """The answer with its head, less its date."""
    line = ["curl", "-s", "-i", "--max-time", "30", *options, f"{scheme}://127.0.0.1:{port}{path}"]
    done = subprocess.run(line, capture_output=True)
    assert done.returncode == 0, done
    return b"\n".join(part for part in done.stdout.split(b"\n") if not part.lower().startswith(b"date:"))


def exchange(port: int, wire: bytes, *, end: bool = False) -> bytes:
    """Everything that a server says to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(wire)
        if end:
            connection.shutdown(socket.SHUT_WR)
        heard = b""
        while data := connection.recv(65536):
            heard += data
    return b"\n".join(part for part in heard.split(b"\n") if not part.lower().startswith(b"date:"))


@pytest.mark.parametrize(
    ("options", "path", "events"),
    [
        (["-d", "{}"], PREDICT, 2),
        (["-d", "{}", "--http1.0"], PREDICT, 2),
        (["-d", "{}", "-H", "Transfer-Encoding: chunked"], PREDICT, 2),
        (["-d", "{}", "-H", "Expect: 100-continue"], PREDICT, 2),
        (["-d", "{}", "-H", "Connection: close"], PREDICT, 2),
        (["-d", "{}"], "/v1/models/empty:predict", 2),  # 204
        (["--head"], "/file", 0),
        (["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"], "/file", 0),  # 304
        (["-H", "Range: bytes=5-14"], "/file", 0),  # 206
        (["-d", "{}"], "/file", 0),  # 405
    ],
)
def test_curl_and_nginx(
    nginx: Nginx, start: Callable[..., Sidecar], options: list[str], path: str, events: int
) -> None:
    sidecar = start(nginx.port)
    for _ in range(2):
        assert curl(sidecar.port, path, *options) == curl(nginx.port, path, *options)
    sidecar.published(2 * events)
    assert len(sidecar.records()) == 2 * events
    assert sidecar.metric("discarded_messages_total", reason="malformed") == 0


def test_pipelined_requests(nginx: Nginx, start: Callable[..., Sidecar]) -> None:
    """HEAD, 204, 404 and predictions behind one another in one write, then in two halves."""
    sidecar = start(nginx.port)
    body = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{}"
    asked = [
        body,
        b"HEAD /file HTTP/1.1\r\nHost: m\r\n\r\n",
        body.replace(b"/m:", b"/empty:"),
        b"GET /nothing HTTP/1.1\r\nHost: m\r\n\r\n",
        body,
        b"GET /file HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
    ]
    assert exchange(sidecar.port, b"".join(asked)) == exchange(nginx.port, b"".join(asked))
    sidecar.published(6)
    assert [record.value for record in sidecar.records() if record.headers["ce_type"] == REQUEST] == [b"{}"] * 3
    answers = [record.value for record in sidecar.records() if record.headers["ce_type"] == RESPONSE]
    assert answers == [b'{"predictions": [1]}', b"", b'{"predictions": [1]}']
    assert sidecar.metric("skipped_total", reason="method") == 3


@pytest.mark.parametrize("tool", ["curl", "nghttp", "h2load"])
def test_http2_with_prior_knowledge(nginx: Nginx, start: Callable[..., Sidecar], tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool} (Debian: apt-get install nghttp2-client)")
    sidecar = start(nginx.http2)
    url = f"http://127.0.0.1:{sidecar.port}{PREDICT}"
    if tool == "curl":
        options = ("--http2-prior-knowledge",)  # no body: nginx answers without reading one and resets its stream
        assert curl(sidecar.port, PREDICT, *options) == curl(nginx.http2, PREDICT, *options)
        return
    line = ["nghttp", url] if tool == "nghttp" else ["h2load", "-n", "200", "-c", "4", "-m", "10", url]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0
    assert '{"predictions": [1]}' in done.stdout if tool == "nghttp" else "200 succeeded, 0 failed" in done.stdout


def test_tls_and_garbage_flow_and_are_counted(nginx: Nginx, start: Callable[..., Sidecar]) -> None:
    sidecar = start(nginx.tls)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", sidecar.port), timeout=PATIENCE)
    with trusting.wrap_socket(plain) as client:
        client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        heard = b""
        while data := client.recv(65536):
            heard += data
    assert heard.endswith(b"0123456789" * 1000)
    until(lambda: sidecar.metric("unparsed_connections_total", reason="tls") == 1)
    garbage = b"\x01\x02 no protocol \xff" * 10
    assert exchange(sidecar.port, garbage, end=True) == exchange(nginx.tls, garbage, end=True)
    until(lambda: sidecar.metric("unparsed_connections_total", reason="unknown") == 1)
    assert sidecar.records() == []


def serve_raw(answers: bytes, asked: list[bytes]) -> int:
    """A server of one connection that says these bytes once it has heard a whole request; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            heard = b""
            while not heard.endswith(b"{}") and not heard.endswith(b"\r\n0\r\nChecked: yes\r\n\r\n"):
                heard += connection.recv(65536)
            asked.append(heard)
            for part in answers.split(b"|"):
                connection.sendall(part)
                time.sleep(0.02)

    threading.Thread(target=run, daemon=True).start()
    return int(listener.getsockname()[1])


def test_interim_answers_and_trailers(start: Callable[..., Sidecar]) -> None:
    """103 before the answer, trailers behind both bodies: nothing is taken away, and the bodies are captured alone."""
    asked: list[bytes] = []
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n|HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n|2\r\nde\r\n0\r\nServer-Timing: x\r\n\r\n"
    )
    wire = (
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nTrailer: Checked\r\n\r\n"
        b"4;ext=1\r\n[1, \r\n2\r\n2]\r\n0\r\nChecked: yes\r\n\r\n"
    )
    sidecar = start(serve_raw(answer, asked))
    assert exchange(sidecar.port, wire) == answer.replace(b"|", b"")
    assert asked == [wire]
    sidecar.published(2)
    assert [record.value for record in sidecar.records()] == [b"[1, 2]", b"abcde"]


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """``/events`` waits for the test between events; a WebSocket echoes."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        return
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(3):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        while NEXT and not NEXT[0].is_set():
            await asyncio.sleep(0.005)
        NEXT[0].clear()
    await send({"type": "http.response.body", "body": b""})


NEXT: list[threading.Event] = []


@pytest.fixture(scope="module")
def live() -> Iterator[int]:
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="websockets-sansio"))
    thread = threading.Thread(target=running.run)
    thread.start()
    until(lambda: running.started, "the server's start")
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


def test_events_are_not_held_back(live: int, start: Callable[..., Sidecar]) -> None:
    """The next event is sent only when the client has the one before: what is buffered anywhere hangs here."""
    NEXT[:] = [threading.Event()]
    sidecar = start(live)
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=PATIENCE) as client:
        client.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{}")
        heard = b""
        for number in range(3):
            while b"data: %d" % number not in heard:
                heard += client.recv(65536)
            NEXT[0].set()
        while not heard.endswith(b"\r\n0\r\n\r\n"):
            heard += client.recv(65536)
    sidecar.published(2)
    assert sidecar.records()[1].value == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_websocket(live: int, start: Callable[..., Sidecar]) -> None:
    sidecar = start(live)

    async def talk() -> None:
        async with websockets.connect(f"ws://127.0.0.1:{sidecar.port}/talk") as client:
            for message in ("hello", b"\x00\xff" * 40_000, "bye"):
                await client.send(message)
                assert await client.recv() == message

    asyncio.run(talk())
    until(lambda: sidecar.metric("unparsed_connections_total", reason="upgrade") == 1)
    assert sidecar.records() == []
