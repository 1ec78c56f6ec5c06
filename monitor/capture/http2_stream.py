"""A stream of an HTTP/2 connection: one exchange (RFC 9113, section 8.1)."""

from __future__ import annotations

from typing import Protocol

from monitor.capture.exchange import Exchange, Message, Recorder
from monitor.capture.frames import CLIENT
from monitor.capture.header_blocks import Head
from monitor.capture.http2_frames import Piece


class Stream(Protocol):
    """What the connection tells a stream that is captured. Sides are CLIENT and UPSTREAM."""

    @property
    def open_messages(self) -> int:
        """Messages that have begun and are not complete."""
        ...

    def answer(self, head: Head, now: float) -> None:
        """The response's head: no interim one."""
        ...

    def data(self, side: int, piece: Piece, now: float) -> None: ...

    def hole(self, side: int, now: float) -> None:
        """Some of that side's DATA is missing here."""
        ...

    def end(self, side: int, trailers: dict[str, str], now: float) -> None:
        """That side has said everything."""
        ...

    def abandon(self, reason: str) -> None:
        """What is incomplete stays so."""
        ...


class PlainStream:
    """A request and its response as they are.

    Parameters
    ----------
    recorder : told of each message when it is complete.
    exchange : its request's head is complete, and it is captured.
    """

    __slots__ = ("_exchange", "_recorder")

    def __init__(self, recorder: Recorder, exchange: Exchange) -> None:
        self._recorder, self._exchange = recorder, exchange

    @property
    def open_messages(self) -> int:
        exchange = self._exchange
        request, response = exchange.request, exchange.response
        still = (request.wanted and not request.done) + exchange.held
        return still + (response.wanted and response.started > 0 and not response.done)

    def answer(self, head: Head, now: float) -> None:
        self._exchange.status = head.status
        self._exchange.response.headers = head.headers.copy()
        self._exchange.response.started = now

    def data(self, side: int, piece: Piece, now: float) -> None:
        message = self._open(side)
        if message is None:
            return
        message.body.add(piece.payload, self._recorder.max_body)
        if "content-length" not in message.headers:  # its end may never come
            message.ended = now
            if message.body.cut:
                self._recorder.capped(self._exchange, message)

    def hole(self, side: int, now: float) -> None:  # noqa: ARG002 - as in :class:`Stream`
        if self._open(side) is not None:
            lose(self._recorder, self._exchange, side, "gap")

    def end(self, side: int, trailers: dict[str, str], now: float) -> None:  # noqa: ARG002 - trailers are no headers
        message = self._open(side)
        if message is None:
            return
        message.done, message.ended = True, now
        if side == CLIENT:
            self._recorder.request(self._exchange)
        else:
            self._recorder.response(self._exchange)

    def abandon(self, reason: str) -> None:
        exchange = self._exchange
        if not (exchange.request.done and exchange.response.done):
            self._recorder.discard(exchange, reason)
            exchange.request.body.drop()
            exchange.response.body.drop()

    def _open(self, side: int) -> Message | None:
        """That side's message, if it is to be told of, has begun and has not ended."""
        message = self._exchange.request if side == CLIENT else self._exchange.response
        return message if message.wanted and message.started and not message.done else None


def lose(recorder: Recorder, exchange: Exchange, side: int, reason: str) -> None:
    """Have the recorder count one message that has begun and will never be complete; the other one still may be."""
    half = Exchange(recorder.memory)
    half.kind, half.method, half.path = exchange.kind, exchange.method, exchange.path
    if side == CLIENT:
        message = half.request = exchange.request
    else:
        half.request.done = True
        message = half.response = exchange.response
    recorder.discard(half, reason)
    message.body.drop()
    message.wanted = False
