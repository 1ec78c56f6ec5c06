"""HTTP/1: what a parser calls for the messages of each side, to exchanges."""

from __future__ import annotations

from collections import deque
from re import Match
from typing import NamedTuple, Protocol

from monitor.capture.exchange import Exchange, Message, Recorder, ShortWay
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.header_names import CODING, IGNORED, LENGTH, HeaderNames
from monitor.capture.http1_forms import Form

LONGEST_TEXT = 1024
"""Bytes of a path or of a header's value that are kept."""

LONGEST_BEGUN = 64 * 1024
"""Bytes that may be missing of a body for it to be waited for without a parser."""

MOST_PIPELINED = 1024
"""Requests of a connection that may wait for their answers."""


class Connection(Protocol):
    """What both sides know of each other."""

    exchanges: deque[Exchange]
    """Asked and not yet answered, in order."""

    pipelines: bool
    left: str
    """Why the connection has to be given up, else empty."""

    now: float

    @property
    def method(self) -> str:
        """Of the request whose headers are complete."""
        ...

    @property
    def offers(self) -> bool:
        """Whether the client has offered to upgrade, and has no answer yet."""
        ...

    def lasts(self, side: int) -> bool:
        """Whether that side's message, which is complete, leaves the connection open."""
        ...

    @property
    def upgrading(self) -> bool:
        """Whether the request being parsed offers to upgrade."""
        ...

    @property
    def status(self) -> int:
        """Of the response whose headers are complete."""
        ...


class Begun(NamedTuple):
    """A message of a known form that has come in part: its pieces and their bytes, how many are missing, its moment."""

    form: Form
    found: Match[bytes]
    parts: list[bytes]
    size: int
    missing: int
    since: float


class _Side:
    """What both sides share: callbacks of httptools, and whole messages that need no parser.

    ``over``: the last message that the parser read was its connection's last.
    """

    message: Message
    exchange: Exchange | None
    framing: bytes
    """What the head says of the body's length."""

    def __init__(self, connection: Connection, recorder: Recorder) -> None:
        self._connection, self._recorder = connection, recorder
        self.exchange = None
        self._cap, self._names = recorder.max_body, HeaderNames.of(recorder.wanted)
        self.framing = b""
        self._captured = self._measured = False
        self._in_head = True
        self.quiet = 0
        self.over = False
        self._short = recorder.short
        self._form: Form | None = None
        self.begun: Begun | None = None

    def whole(self, data: bytes) -> bool:
        """Between two messages: whether the chunk is one message, no more and no less, that is recorded now.

        One in pieces is kept until the last one comes: see :meth:`release`.
        """
        short, form = self._short, self._form
        if short is None or self.over or self._connection.offers:
            return False
        if self.begun is not None:
            return self._goes_on_with(short, self.begun, data)
        found = form.match(data) if form is not None else None
        if found is None:
            if (known := short.forms.find(data)) is None:
                return False
            form, found = known
            self._form = form
        assert form is not None
        end, now = found.end(), self._connection.now
        missing = int(found[form.length]) - len(data) + end
        if not missing:
            return self._record(short, form, found, data[end:], now)
        if not (0 < missing <= LONGEST_BEGUN and self._due() and self._recorder.memory.take(len(data))):
            return False
        self.begun = Begun(form, found, [data], len(data), missing, now)
        return True

    def release(self) -> tuple[bytes, float]:
        """The message that has begun and is no more to be waited for: its bytes, and when it began."""
        begun, self.begun = self.begun, None
        assert begun is not None
        self._recorder.memory.give(begun.size)
        return b"".join(begun.parts), begun.since

    def _due(self) -> bool:
        """Whether it is this side's turn to begin a message."""
        raise NotImplementedError

    def _goes_on_with(self, short: ShortWay, begun: Begun, data: bytes) -> bool:
        """Whether the chunk belongs to the message that has begun, and no more follows in it."""
        missing = begun.missing - len(data)
        memory = self._recorder.memory
        if missing < 0 or not memory.take(len(data)):
            return False
        begun.parts.append(data)
        if missing:
            self.begun = begun._replace(size=begun.size + len(data), missing=missing)
            return True
        memory.give(len(data))
        body = b"".join(begun.parts)[begun.found.end() :]
        if not self._record(short, begun.form, begun.found, body, begun.since):
            begun.parts.pop()
            return False
        memory.give(begun.size)
        self.begun = None
        return True

    def _record(self, short: ShortWay, form: Form, found: Match[bytes], body: bytes, since: float) -> bool:
        raise NotImplementedError

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
