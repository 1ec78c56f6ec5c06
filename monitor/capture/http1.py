"""HTTP/1: the two directions of one connection to exchanges. Pure: bytes in, calls of a recorder out."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from functools import lru_cache

import httptools

from monitor.capture.exchange import Exchange, Message, Recorder, UnparsableError
from monitor.capture.frames import CLIENT, UPSTREAM

LONGEST_HEAD = 256 * 1024
"""Bytes that may come without anything coming of them: a head, trailers, or what follows an offer to upgrade."""

LONGEST_TEXT = 1024
"""Bytes of a path or of a header's value that are kept."""

MOST_PIPELINED = 1024
"""Requests of a connection that may wait for their answers."""

_LENGTH, _CODING = "content-length", "transfer-encoding"
_IGNORED = ""

_logger = logging.getLogger("offpath.capture.shipper")


class Http1:
    """Pairs the requests and responses of one connection, in order.

    Parameters
    ----------
    recorder : told of each exchange as its parts are complete.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.exchanges: deque[Exchange] = deque()
        self._requests = _Requests(self, recorder)
        self._responses = _Responses(self, recorder)
        self._request_parser = httptools.HttpRequestParser(self._requests)
        self._response_parser = httptools.HttpResponseParser(self._responses)
        self._offer: bytearray | None = None
        self._head = bytearray()
        self.pipelines = False
        self.left = ""
        self.now = 0.0

    def feed(self, side: int, data: bytes, now: float) -> None:
        """Bytes of one side, seen at ``now``.

        Raises
        ------
        UnparsableError : they are no HTTP/1, or the connection is upgraded to something else.
        """
        self.now = now
        speaker = self._requests if side == CLIENT else self._responses
        try:
            if side == CLIENT:
                self._from_client(data)
            else:
                self._from_upstream(data)
        except httptools.HttpParserUpgrade as upgrade:
            if side == UPSTREAM:
                raise UnparsableError("upgrade", lasting=True) from None
            self._offered_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:  # not the bytes are at fault, but what was made of them
            report(error.__context__)
            raise UnparsableError("internal") from error
        except httptools.HttpParserError as error:
            raise UnparsableError("malformed") from error
        if speaker.exchange is not None:  # not in one piece
            if speaker.quiet > LONGEST_HEAD:
                raise UnparsableError("malformed")
            speaker.quiet += len(data)
        if self.left:
            raise UnparsableError(self.left, lasting=self.left == "upgrade")

    def eof(self, side: int, now: float) -> None:
        """That side ended in good order: a response without a length is complete now."""
        self.now = now
        if side == UPSTREAM and self._responses.ends_with_connection:
            self._responses.on_message_complete()

    @property
    def method(self) -> str:
        """Of the request whose headers are complete."""
        return str(self._request_parser.get_method().decode("latin-1"))

    @property
    def upgrading(self) -> bool:
        """Whether the request being parsed offers to upgrade."""
        return bool(self._request_parser.should_upgrade())

    @property
    def status(self) -> int:
        """Of the response whose headers are complete."""
        return int(self._response_parser.get_status_code())

    @property
    def open_messages(self) -> int:
        """Messages that have begun and are not complete."""
        request = self._requests.exchange
        still = int(request is not None and not request.request.done)
        for exchange in self.exchanges:
            still += (exchange.response.started > 0 and not exchange.response.done) + exchange.held
        return still

    def abandon(self, reason: str) -> None:
        """Give up what is incomplete."""
        exchanges = list(self.exchanges)
        if self._requests.exchange is not None and self._requests.exchange not in exchanges:
            exchanges.append(self._requests.exchange)  # still in its head, or answered before it was whole
        for exchange in exchanges:
            self._recorder.discard(exchange, reason)
            exchange.request.body.drop()
            exchange.response.body.drop()
        self.exchanges.clear()
        self._requests.exchange = None

    def _from_client(self, data: bytes) -> None:
        if self._offer is None:
            self._request_parser.feed_data(data)
        else:
            self._offered(data)

    def _offered_upgrade(self, rest: bytes) -> None:
        """The parser stops behind the head of a request that offers to upgrade. Its body is HTTP/1 all the same."""
        if self._requests.exchange is not None:
            self._request_parser = httptools.HttpRequestParser(self._requests)
            rest = b"POST / HTTP/1.1\r\n" + self._requests.framing + b"\r\n" + rest
            self.feed(CLIENT, rest, self.now)
        else:
            self._offered(rest)

    def _offered(self, rest: bytes) -> None:
        """What follows the request is HTTP only if the answer declines the upgrade."""
        self._offer = bytearray() if self._offer is None else self._offer
        self._offer += rest
        if len(self._offer) > LONGEST_HEAD:
            raise UnparsableError("upgrade", lasting=True)
        if not self.exchanges:
            self.declined()

    def declined(self) -> None:
        """The response was an ordinary one: go on with HTTP/1."""
        if self._offer is not None:
            rest, self._offer = self._offer, None
            self._request_parser = httptools.HttpRequestParser(self._requests)
            if rest:
                self.feed(CLIENT, bytes(rest), self.now)

    def _from_upstream(self, data: bytes) -> None:
        while data:
            if self.exchanges and self.exchanges[0].method == "HEAD":
                data = self._without_body(data)
            elif len(self.exchanges) > 1 and any(exchange.method == "HEAD" for exchange in self.exchanges):
                data = self._before_head(data)
            else:
                self._response_parser.feed_data(data)
                break
        if self._offer is not None and not self.exchanges:
            self.declined()

    def _before_head(self, data: bytes) -> bytes:
        """A HEAD is pipelined behind others: the parser must stop where its response begins, and cannot be told to."""
        waiting = len(self.exchanges)
        for at in range(len(data)):
            self._response_parser.feed_data(data[at : at + 1])
            if len(self.exchanges) < waiting or self.left:
                return b"" if self.left else data[at + 1 :]
        return b""

    def _without_body(self, data: bytes) -> bytes:
        """Skip the head of a response to HEAD, which announces a body that does not come; returns what follows."""
        before = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(before - 3, 0))
        if end < 0:
            if before > LONGEST_HEAD:
                raise UnparsableError("malformed")
            return b""
        head, rest, self._head = self._head[:end], bytes(self._head[end + 4 :]), bytearray()
        if not head.startswith(b"HTTP/1."):
            raise UnparsableError("malformed")
        if head[9:10] != b"1":  # else an interim response: the real one follows
            self.exchanges.popleft()
        return rest


def report(cause: BaseException | None) -> None:
    """Where it happened, and never what it says: that may be a payload's."""
    where = traceback.extract_tb(cause.__traceback__)[-1] if cause is not None and cause.__traceback__ else None
    place = f" in {where.filename}, line {where.lineno}" if where else ""
    _logger.error("an exchange cannot be recorded: %s%s", type(cause).__name__, place)


class Names(dict[bytes, str]):
    """Header names as they were sent, to what they are kept as; empty if they are not.

    >>> names = Names(frozenset({b"x-id"}))
    >>> names[b"X-Id"], names[b"Host"], names[b"Content-Length"]
    ('x-id', '', 'content-length')
    """

    def __init__(self, wanted: frozenset[bytes]) -> None:
        super().__init__()
        self._kept = {name: name.decode() for name in wanted}
        self._kept |= {_LENGTH.encode(): _LENGTH, _CODING.encode(): _CODING}

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, wanted: frozenset[bytes]) -> Names:
        """Those of a recorder: all its connections share them."""
        return cls(wanted)

    def __missing__(self, name: bytes) -> str:
        kept = self._kept.get(name.lower(), _IGNORED)
        if len(self) < 1024 and len(name) < 64:  # names are the clients' to choose
            self[name] = kept
        return kept


class _Side:
    """Callbacks of httptools that both sides share."""

    message: Message
    exchange: Exchange | None
    framing: bytes
    """What the head says of the body's length."""

    def __init__(self, connection: Http1, recorder: Recorder) -> None:
        self._connection, self._recorder = connection, recorder
        self.exchange = None
        self._cap, self._names = recorder.max_body, Names.of(recorder.wanted)
        self.framing = b""
        self._captured = self._measured = False
        self._in_head = True
        self.quiet = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = self._names[name]
        if kept is _IGNORED or not self._in_head:
            return
        if kept is _LENGTH:
            self._measured = True
            self.framing += b"content-length: " + value + b"\r\n"
        elif kept is _CODING:
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


class _Requests(_Side):
    """``framing`` is what the head of a request that offers to upgrade said of its body."""

    def __init__(self, connection: Http1, recorder: Recorder) -> None:
        super().__init__(connection, recorder)
        self._goes_on = False

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
        exchange, self.exchange = self.exchange, None
        assert exchange is not None
        self.message.done = True
        self.message.ended = self._connection.now
        self._recorder.request(exchange)


class _Responses(_Side):
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
