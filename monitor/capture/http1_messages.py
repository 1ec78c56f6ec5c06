"""HTTP/1: what a parser calls for the messages of each side, to exchanges."""

from __future__ import annotations

from re import Match

from monitor.capture.exchange import Exchange, Message, Recorder, ShortWay
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.header_names import CODING, IGNORED, LENGTH, HeaderNames
from monitor.capture.http1_forms import Form
from monitor.capture.http1_whole import Connection, Whole

LONGEST_TEXT = 1024
"""Bytes of a path or of a header's value that are kept."""

MOST_PIPELINED = 1024
"""Requests of a connection that may wait for their answers."""


class _Side(Whole):
    """Callbacks of httptools that both sides share."""

    message: Message
    exchange: Exchange | None
    framing: bytes
    """What the head says of the body's length."""

    def __init__(self, connection: Connection, recorder: Recorder) -> None:
        super().__init__(connection, recorder)
        self.exchange = None
        self._cap, self._names = recorder.max_body, HeaderNames.of(recorder.wanted)
        self.framing = b""
        self._captured = self._measured = False
        self._in_head = True
        self.quiet = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = self._names[name]
        if kept is IGNORED or not self._in_head:
            return
        if kept is LENGTH:
            self._measured = True
            self.framing += b"content-length: " + value + b"\r\n"
        elif kept is CODING:
            self.framing += b"transfer-encoding: " + value + b"\r\n"
        else:
            text = value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT]
            self.message.headers[kept] = text.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.quiet = 0
        if not self._captured:
            return
        message = self.message
        message.body.add(data, self._cap)
        if not self._measured:  # its end may never come
            message.ended = self._connection.now
            if message.body.cut and self.exchange is not None:
                self._captured = False
                self._recorder.capped(self.exchange, message)


class Requests(_Side):
    """The client's side. ``framing`` is what the head of a request that offers to upgrade said of its body."""

    def __init__(self, connection: Connection, recorder: Recorder) -> None:
        super().__init__(connection, recorder)
        self._goes_on = False

    def _due(self) -> bool:
        return len(self._connection.exchanges) < MOST_PIPELINED

    def _record(self, short: ShortWay, form: Form, found: Match[bytes], body: bytes, since: float) -> bool:
        connection = self._connection
        exchanges = connection.exchanges
        if (
            len(exchanges) >= MOST_PIPELINED
            or (exchange := short.ask(form, found, body, since, connection.now)) is None
        ):
            return False
        if exchanges:
            connection.pipelines = True
        exchanges.append(exchange)
        return True

    def on_message_begin(self) -> None:
        if self._goes_on:
            return
        self.exchange = Exchange(self._recorder.memory)
        self.message = self.exchange.request
        self.message.started = self._connection.now
        self._target = self.framing = b""
        self._captured, self._measured, self._in_head, self.quiet = False, False, True, 0

    def on_url(self, url: bytes) -> None:
        if self._goes_on:
            return
        if not self._target:
            self._target = url
        elif len(self._target) < LONGEST_TEXT:
            self._target += url

    def on_headers_complete(self) -> None:
        if self._goes_on:
            return
        exchange, connection = self.exchange, self._connection
        assert exchange is not None
        self._in_head = False
        exchange.method = connection.method
        exchange.path = self._target.partition(b"?")[0][:LONGEST_TEXT].decode("latin-1")
        if connection.exchanges:
            connection.pipelines = True
            if len(connection.exchanges) >= MOST_PIPELINED:
                connection.left = "pipelined"
        connection.exchanges.append(exchange)
        self._recorder.begin(exchange)
        self._captured = exchange.request.wanted

    def on_message_complete(self) -> None:
        if not self._goes_on and self.framing and self._connection.upgrading:
            self._goes_on = True  # the parser stops here; its body is still to come
            return
        self._goes_on = False
        self.over = not self._connection.lasts(CLIENT)
        exchange, self.exchange = self.exchange, None
        assert exchange is not None
        self.message.done = True
        self.message.ended = self._connection.now
        self._recorder.request(exchange)


class Responses(_Side):
    """The upstream's side."""

    def _due(self) -> bool:
        exchanges = self._connection.exchanges
        return bool(exchanges) and exchanges[0].known is not None

    def _record(
        self,
        short: ShortWay,
        form: Form,
        found: Match[bytes],
        body: bytes,
        since: float,  # noqa: ARG002 - a response's moment is its end
    ) -> bool:
        exchanges = self._connection.exchanges
        if not exchanges or not short.answer(exchanges[0], form, found, body, self._connection.now):
            return False
        del exchanges[0]
        return True

    @property
    def ends_with_connection(self) -> bool:
        return self.exchange is not None and not self._in_head and not self.framing

    def on_message_begin(self) -> None:
        self._in_head, self._captured, self._measured, self.framing, self.quiet = True, False, False, b"", 0
        exchanges = self._connection.exchanges
        if not exchanges:
            self._connection.left = "unsolicited"
            self.exchange = Exchange(self._recorder.memory)
        else:
            self.exchange = exchanges[0]
        self.message = self.exchange.response
        self.message.headers.clear()  # of an interim response
        self.message.started = self._connection.now

    def on_headers_complete(self) -> None:
        assert self.exchange is not None
        self._in_head = False
        exchange = self.exchange
        exchange.status = self._connection.status
        self._captured = exchange.response.wanted and exchange.status >= 200
        if exchange.status == 101 or (exchange.method == "CONNECT" and exchange.status < 300):
            self._connection.left = "upgrade"

    def on_message_complete(self) -> None:
        assert self.exchange is not None
        self.over = not self._connection.lasts(UPSTREAM)
        exchange, self.exchange = self.exchange, None
        self._captured = False  # bytes may follow one that ended with the connection
        if exchange.status < 200:
            self.message.started = 0.0
            return
        self.message.done = True
        self.message.ended = self._connection.now
        if self._connection.exchanges:  # else nobody asked: the connection is about to be given up
            self._connection.exchanges.popleft()
            self._recorder.response(exchange)
