"""Answers of an HTTP/1.1 receiver, as far as a publisher needs them. Pure: bytes in, answers out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import httptools

MESSAGE_BYTES = 256 * 1024
"""Longest answer; of a longer one the status counts, and its connection is of no more use."""

SAID_BYTES = 200
"""What is kept of an answer's body, for the error message."""

RETRIED = frozenset({404, 408, 409, 429})
"""Answers that Knative retries, beside 5xx; other 3xx and 4xx are final."""

LONGEST_RETRY_AFTER = 30.0


class Answer(NamedTuple):
    """``said`` is the first of the body, ``retry_after`` how many seconds the receiver asks to wait."""

    status: int
    said: bytes = b""
    retry_after: float = 0.0

    @property
    def taken(self) -> bool:
        return self.status < 300

    @property
    def retried(self) -> bool:
        return self.status in RETRIED or self.status >= 500

    def __str__(self) -> str:
        return f"status {self.status}: {self.said.decode('utf-8', 'replace')}".rstrip(": ")


_TAKEN = {status: Answer(status) for status in range(200, 300)}


class UnreadableError(ValueError):
    """What comes is no HTTP/1 answer."""


class AnswerReader:
    """Reads the answers of one connection.

    Parameters
    ----------
    answered : told of each answer, whether the connection goes on after it, and how often it came in a row.

    Examples
    --------
    >>> reader = AnswerReader(lambda answer, goes_on, times: print(answer, goes_on))
    >>> reader.feed(b"HTTP/1.1 503 Busy\\r\\nContent-Length: 4\\r\\n\\r\\nbusyHTTP/1.1 202 OK\\r\\n")
    status 503: busy True
    """

    def __init__(self, answered: Callable[[Answer, bool, int], None]) -> None:
        self._tell = answered
        self._parser = httptools.HttpResponseParser(self)
        self._usual = b""
        self._last = _TAKEN[200]
        self._answers = self._received = 0
        self.pipelines = False
        self.on_message_begin()
        self._between = True

    def feed(self, data: bytes) -> None:
        """Raises :class:`UnreadableError`.

        A receiver gives the same answer many times over: what is known byte by byte is not parsed again.
        """
        if self._usual and self._between and data.startswith(self._usual):
            times, rest = divmod(len(data), len(self._usual))
            if not rest and data == self._usual * times:
                self._tell(self._last, True, times)
                return
        began_between, before = self._between, self._answers
        self._parse(data)
        times = self._answers - before
        if began_between and self._between and self.pipelines and times:
            one = data[: len(data) // times]
            self._usual = one if self._last.taken and one * times == data else b""
        else:
            self._usual = b""

    def _parse(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise UnreadableError(f"it answers what is no HTTP/1: {error}") from None
        if self._received > MESSAGE_BYTES:
            if self._status < 200:
                raise UnreadableError(f"the head of its answer is longer than {MESSAGE_BYTES} bytes")
            self._complete(goes_on=False)

    def end(self) -> None:
        """The connection ended in good order: an answer without a length is complete."""
        if self._status >= 200 and self._open_ended:
            self._complete(goes_on=False)

    # Callbacks of httptools

    def on_message_begin(self) -> None:
        self._between = False
        self._status, self._open_ended = 0, True
        self._said, self._retry_after = b"", ""

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"retry-after":
            self._retry_after = value.decode("latin-1").strip()
        elif name in (b"content-length", b"transfer-encoding"):
            self._open_ended = False

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._status >= 300 and len(self._said) < SAID_BYTES:
            self._said += body[: SAID_BYTES - len(self._said)]

    def on_message_complete(self) -> None:
        if self._status < 200:  # an interim answer
            return
        self._between = True
        self._received = 0
        self._answers += 1
        goes_on = bool(self._parser.should_keep_alive())
        self.pipelines = goes_on and self._parser.get_http_version() == "1.1"
        self._complete(goes_on)

    def _complete(self, goes_on: bool) -> None:
        status, self._status = self._status, 0
        answer = _TAKEN.get(status)
        if answer is None:
            asked = self._retry_after
            seconds = min(float(asked), LONGEST_RETRY_AFTER) if asked.isascii() and asked.isdigit() else 0.0
            answer = Answer(status, self._said, seconds)
        self._last = answer
        self._tell(answer, goes_on, 1)
