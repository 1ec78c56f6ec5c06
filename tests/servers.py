"""Small servers on free ports, and waiting for what other processes do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 60.0
"""Seconds; the limit is there to end a broken test."""


def until(
    condition: Callable[[], Any],
    what: str = "it",
    *,
    seconds: float = PATIENCE,
    despite: tuple[type[Exception], ...] = (),
) -> Any:
    """Wait for a condition, and answer it. These exceptions say no more than that it has not come yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except despite:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """An HTTP server in a thread; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Receiver:
    """Takes CloudEvents over HTTP, or answers 503 while it is ``away``. Kinds of it say what they keep of an event."""

    def __init__(self) -> None:
        self.away = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not receiver.away:
                    receiver.take(self.headers, body)
                self.send_response(503 if receiver.away else 202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._open = ExitStack()
        self.url = f"http://127.0.0.1:{self._open.enter_context(serving(Handler))}/"

    def take(self, headers: HTTPMessage, body: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._open.close()


MODEL = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "20")
        self.end_headers()
        self.wfile.write(b'{"predictions": [1]}')
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""A program: a model server on the port that it is told, which answers one prediction."""
