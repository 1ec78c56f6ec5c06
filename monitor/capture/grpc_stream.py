"""A gRPC call: one exchange for each message that is asked and the message that answers it.

A unary call is one request and one response. Of a streaming call, the n-th request and the n-th response make the n-th
exchange; whichever is missing, of a client's or a server's stream, the other is recorded alone. The exchanges of a
call have the request ids ``id``, ``id-2``, ``id-3``...

The status comes last. So the first response waits for the second one or for the end; of later ones nothing waits, and
a call that fails behind them is recorded as an empty response with its status.
"""

from __future__ import annotations

from collections import deque

from monitor.capture.exchange import Exchange, Message, Recorder
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.grpc_messages import MessageSplitter, Part
from monitor.capture.grpc_methods import PEEK, model_in_message, protocol_of
from monitor.capture.grpc_status import code_of, note_status
from monitor.capture.header_blocks import Head
from monitor.capture.http2_frames import Piece
from monitor.capture.http2_stream import lose

WAITING = 64
"""Requests of a call that are remembered until they are answered; beyond, the events still share their id."""


class GrpcStream:
    """The messages of one call.

    Parameters
    ----------
    recorder : told of each message when it is complete.
    exchange : the call's head is complete, and it is captured.
    """

    __slots__ = (
        "_answer", "_answered", "_asked", "_call", "_encodings", "_framed", "_held", "_protocol", "_recorder",
        "_request", "_requests", "_response", "_responses", "_unpaired", "_waiting", "_wanted",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, exchange: Exchange) -> None:
        self._recorder, self._call = recorder, exchange
        self._requests, self._responses = MessageSplitter(), MessageSplitter()
        self._request: Exchange | None = exchange
        self._response: Exchange | None = None
        self._held: Exchange | None = None
        self._waiting: deque[tuple[int, Exchange]] = deque([(0, exchange)])
        self._asked = self._answered = 0
        self._framed = True
        self._unpaired = False
        self._wanted = exchange.request.wanted, exchange.response.wanted
        self._protocol = protocol_of(exchange.path)
        self._answer: dict[str, str] = {}
        self._encodings = exchange.request.headers.pop("grpc-encoding", ""), ""
        _describe(exchange.request)

    @property
    def open_messages(self) -> int:
        request, response = self._request, self._response or self._held
        still = int(request is not None and request.request.wanted)
        still += response is not None and response.response.wanted
        for _, waiting in self._waiting:
            still += waiting.held
        return still

    def answer(self, head: Head, now: float) -> None:
        self._call.status = head.status
        self._answer = head.headers.copy()
        self._encodings = self._encodings[0], self._answer.pop("grpc-encoding", "")
        self._framed = head.is_grpc
        if not self._framed:  # a proxy's answer
            self._response = self._next_response(now)

    def data(self, side: int, piece: Piece, now: float) -> None:
        if self._call.kind is None:
            return
        if side == CLIENT:
            for part in self._requests.feed(piece.payload, piece.size, piece.begins):
                self._ask(part, now)
        elif self._framed:
            for part in self._responses.feed(piece.payload, piece.size, piece.begins):
                self._reply(part, now)
        elif self._response is not None:
            self._response.response.body.add(piece.payload, self._recorder.max_body)

    def hole(self, side: int, now: float) -> None:
        splitter = self._requests if side == CLIENT else self._responses
        if splitter.lost:
            return
        splitter.hole()
        if side == CLIENT:
            self._decide()
            self._request = self._request or self._follow(self._asked)
            self._asked = max(self._asked, 1)
            self._lose_request("gap")
        else:
            self._release()
            self._response = self._response or self._next_response(now)
            self._lose_response("gap")
        self._unpaired = True

    def end(self, side: int, trailers: dict[str, str], now: float) -> None:
        if side == CLIENT:
            self._lose_request("malformed" if self._requests.inside else "incomplete")
        else:
            self._finish(trailers, now)

    def abandon(self, reason: str) -> None:
        self._release()
        self._lose_request(reason)
        self._lose_response(reason)
        while self._waiting:
            self._recorder.discard(self._waiting.popleft()[1], reason)

    def _ask(self, part: Part, now: float) -> None:
        if part.begins:
            if self._asked:
                self._request = self._follow(self._asked)
                self._request.request.started = now
                if len(self._waiting) < WAITING and not self._unpaired:
                    self._waiting.append((self._asked, self._request))
            self._asked += 1
        exchange = self._request
        if exchange is None:
            return
        message = exchange.request
        message.body.add(part.data, self._recorder.max_body)
        if part.ends:
            self._request = None
            message.done, message.ended = True, now
            encoding = _encode(message, part.compressed, self._encodings[0])
            if not self._call.model:
                self._call.model = model_in_message(self._protocol, message.body.start(4 * PEEK), encoding)
            self._decide()
            exchange.model = self._call.model
            self._recorder.request(exchange)
            remembered = exchange.response.started > 0 or (self._waiting and self._waiting[-1][1] is exchange)
            if exchange.held and not remembered:
                self._recorder.discard(exchange, "incomplete")  # its response will not be told with it

    def _reply(self, part: Part, now: float) -> None:
        if part.begins:
            self._release()
            self._response = self._next_response(now)
        exchange = self._response
        if exchange is None:
            return
        message = exchange.response
        message.body.add(part.data, self._recorder.max_body)
        if part.ends:
            self._response = None
            message.ended = now
            _encode(message, part.compressed, self._encodings[1])
            self._held = exchange
            if self._answered > 1:
                self._release()

    def _finish(self, trailers: dict[str, str], now: float) -> None:
        """The end of the answer: its status goes with the message that waited for it, or alone."""
        told = self._answer if "grpc-status" in self._answer else trailers  # a head alone may be everything
        code = code_of(told)
        if not self._framed and self._response is not None:
            self._held, self._response = self._response, None
            self._held.response.ended = now
        else:
            self._lose_response("malformed")
        if self._held is None and code > 0:
            self._held = self._next_response(now)
            self._held.response.ended = now
        if self._held is not None and code >= 0:
            note_status(self._held, code, told)
        self._release()

    def _release(self) -> None:
        """Record the response that waited."""
        exchange, self._held = self._held, None
        if exchange is None:
            return
        self._decide()
        exchange.response.done = True
        self._recorder.response(exchange)
        if not (exchange.request.done or exchange is self._request):  # lost, or there is none
            self._recorder.discard(exchange, "incomplete")

    def _decide(self) -> None:
        """The first message has named the model, or something must be told before one did."""
        call = self._call
        if call.naming:
            self._recorder.named(call)
            self._wanted = call.request.wanted, call.response.wanted

    def _lose_request(self, reason: str) -> None:
        exchange, self._request = self._request, None
        if exchange is not None:
            lose(self._recorder, exchange, CLIENT, reason)
            if exchange.response.done:
                self._recorder.discard(exchange, reason)

    def _lose_response(self, reason: str) -> None:
        exchange, self._response = self._response, None
        if exchange is not None:
            lose(self._recorder, exchange, UPSTREAM, reason)
            if exchange.held:
                self._recorder.discard(exchange, reason)

    def _next_response(self, now: float) -> Exchange:
        number = self._answered
        self._answered += 1
        while self._waiting and self._waiting[0][0] < number:
            self._recorder.discard(self._waiting.popleft()[1], "incomplete")
        if self._waiting and self._waiting[0][0] == number and not (self._unpaired and number):
            exchange = self._waiting.popleft()[1]
        else:
            exchange = self._follow(number, "r")
            exchange.request.wanted = False
            exchange.request.started = self._call.request.started
        exchange.status = self._call.status
        exchange.response.headers = dict(self._answer)
        if self._framed:
            _describe(exchange.response)
        exchange.response.started = now
        return exchange

    def _follow(self, number: int, side: str = "q") -> Exchange:
        """Another exchange of the call. What cannot be paired must not seem to be: then ids tell the side."""
        first, exchange = self._call, Exchange(self._recorder.memory)
        exchange.kind, exchange.method = first.kind, first.method
        exchange.path, exchange.model, exchange.route = first.path, first.model, first.route
        exchange.request.wanted, exchange.response.wanted = self._wanted
        exchange.request.headers = {n: v for n, v in first.request.headers.items() if n != "content-encoding"}
        exchange.request_id = first.request_id
        if number:
            exchange.request_id += f"-{number + 1}{side if self._unpaired else ''}"
        return exchange


def _describe(message: Message) -> None:
    """The type of a message without its prefix."""
    kind = message.headers.get("content-type", "")[17:].partition(";")[0]
    message.headers["content-type"] = "application/json" if kind == "json" else "application/x-protobuf"
    message.headers.pop("content-encoding", None)


def _encode(message: Message, compressed: bool, encoding: str) -> str:
    """Note how a message is compressed, as for any body."""
    if not compressed:
        return ""
    message.headers["content-encoding"] = encoding or "unknown"
    return encoding or "unknown"
