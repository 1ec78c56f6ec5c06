"""HTTP/1: the two directions of one connection to exchanges. Pure: bytes in, calls of a recorder out."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

import httptools

from monitor.capture.exchange import Exchange, Recorder, UnparsableError
from monitor.capture.faults import report
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.http1_messages import Requests, Responses

LONGEST_HEAD = 256 * 1024
"""Bytes that may come without anything coming of them: a head, trailers, or what follows an offer to upgrade."""


class Http1:
    """Pairs the requests and responses of one connection, in order.

    Parameters
    ----------
    recorder : told of each exchange as its parts are complete.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.exchanges: deque[Exchange] = deque()
        self._requests = Requests(self, recorder)
        self._responses = Responses(self, recorder)
        self._request_parser = httptools.HttpRequestParser(self._requests)
        self._response_parser = httptools.HttpResponseParser(self._responses)
        self._short = recorder.short
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
        if self._short is None or speaker.exchange is not None:
            self._parse(side, speaker, data)
            return
        other = self._responses if side == CLIENT else self._requests
        if other.begun is not None:  # what belongs to what is the parser's to find out
            self._release(1 - side, other)
        try:
            if speaker.whole(data):
                return
        except Exception as error:
            if speaker.begun is not None:
                speaker.release()
            report(error)
            raise UnparsableError("internal") from error
        fresh = speaker.begun is None
        if not fresh:
            self._release(side, speaker)
        self._parse(side, speaker, data)
        if fresh:
            self._short.forms.learn(side, data)

    def _release(self, side: int, speaker: Requests | Responses) -> None:
        """Let the parser have what came of a message."""
        data, since = speaker.release()
        now, self.now = self.now, since
        self._parse(side, speaker, data)
        self.now = now

    def _release_all(self) -> None:
        for side, speaker in ((CLIENT, self._requests), (UPSTREAM, self._responses)):
            if speaker.begun is not None:
                with suppress(UnparsableError):  # it is over anyway
                    self._release(side, speaker)

    def _parse(self, side: int, speaker: Requests | Responses, data: bytes) -> None:
        """What takes the parser."""
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
        self._release_all()
        if side == UPSTREAM and self._responses.ends_with_connection:
            self._responses.on_message_complete()

    @property
    def method(self) -> str:
        """Of the request whose headers are complete."""
        return str(self._request_parser.get_method().decode("latin-1"))

    def lasts(self, side: int) -> bool:
        """Whether that side's message, which is complete, leaves the connection open."""
        parser = self._request_parser if side == CLIENT else self._response_parser
        return bool(parser.should_keep_alive())

    @property
    def offers(self) -> bool:
        """Whether the client has offered to upgrade, and has no answer yet."""
        return self._offer is not None

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
        still += (self._requests.begun is not None) + (self._responses.begun is not None)
        for exchange in self.exchanges:
            still += (exchange.response.started > 0 and not exchange.response.done) + exchange.held
        return still

    def abandon(self, reason: str) -> None:
        """Give up what is incomplete."""
        self._release_all()
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
