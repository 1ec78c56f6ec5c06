"""``/metrics``, ``/healthz`` and ``/readyz``, in as little HTTP as that takes: the relay process loads no framework."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from monitor.capture.attempt import FULL_SECONDS
from monitor.capture.reactor import IN, OUT, Reactor

LONGEST_REQUEST = 8192
VISIT_SECONDS = 10.0

MOST_VISITS = 16
"""Visitors at once: whatever they are up to, they take no descriptor that inference needs."""

_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Answer(NamedTuple):
    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Answer]]


class AdminPort:
    """Answers at a listening socket, until it is closed."""

    def __init__(self, reactor: Reactor, listener: socket.socket, pages: Pages) -> None:
        self._reactor, self._listener, self._pages = reactor, listener, pages
        self._visits = 0
        self._closed = False
        listener.setblocking(False)
        self._wait()

    def close(self) -> None:
        self._closed = True
        self._reactor.close_later(self._listener)

    def _wait(self) -> None:
        if not self._closed:
            self._reactor.watch(self._listener.fileno(), IN, self._accept)

    def _accept(self, _: int) -> None:
        try:
            visitor, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # gone again, or the system has no descriptor left: that would be told of without end
            self._reactor.forget(self._listener.fileno())
            self._reactor.call_later(FULL_SECONDS, self._wait)
            return
        visitor.setblocking(False)
        self._visits += 1
        if self._visits == MOST_VISITS:
            self._reactor.forget(self._listener.fileno())
        Visit(self._reactor, visitor, self._pages, self._left)

    def _left(self) -> None:
        self._visits -= 1
        if self._visits == MOST_VISITS - 1:
            self._wait()


class Visit:
    """One request, one answer, and the connection closes."""

    def __init__(self, reactor: Reactor, visitor: socket.socket, pages: Pages, left: Callable[[], None]) -> None:
        self._reactor, self._socket, self._pages, self._left = reactor, visitor, pages, left
        self._request = b""
        self._rest = memoryview(b"")
        self._timer = reactor.call_later(VISIT_SECONDS, self._close)
        reactor.watch(visitor.fileno(), IN, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & OUT:
                self._send()
            elif not self._read():
                self._close()
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def _read(self) -> bool:
        data = self._socket.recv(LONGEST_REQUEST)
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > LONGEST_REQUEST:
            method, _, rest = self._request.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
            answer = self._answer(method, rest.partition(" ")[0].partition("?")[0])
            self._rest = memoryview(_head(answer) + (b"" if method == "HEAD" else answer.text.encode()))
            self._reactor.watch(self._socket.fileno(), OUT, self._ready)
        return bool(data)

    def _send(self) -> None:
        self._rest = self._rest[self._socket.send(self._rest) :]
        if not self._rest:
            self._close()

    def _close(self) -> None:
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._reactor.close_later(self._socket)
            self._left()

    def _answer(self, method: str, path: str) -> Answer:
        if len(self._request) > LONGEST_REQUEST:
            return Answer(400, "the request is too long\n")
        if method not in ("GET", "HEAD"):
            return Answer(405, "only GET\n")
        page = self._pages.get(path)
        return page() if page else Answer(404, f"here are {', '.join(self._pages)}\n")


def _head(answer: Answer) -> bytes:
    return (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.text.encode())}\r\nConnection: close\r\n\r\n"
    ).encode()
