"""``/metrics``, ``/healthz`` and ``/readyz``, in as little HTTP as that takes: the relay process loads no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

LONGEST_REQUEST = 8192

_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Answer(NamedTuple):
    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Answer]]


class AdminProtocol(asyncio.Protocol):
    """One request, one answer, and the connection closes."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > LONGEST_REQUEST:
            method, _, rest = self._request.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
            answer = self._answer(method, rest.partition(" ")[0].partition("?")[0])
            self._transport.write(_head(answer) + (b"" if method == "HEAD" else answer.text.encode()))
            self._transport.close()

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
