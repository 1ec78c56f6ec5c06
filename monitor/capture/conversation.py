"""One connection as the shipper sees it: frames in, exchanges out, whatever was lost in between.

After a gap nothing is known of where a message begins. A safe point is a chunk of the client that begins with a request
line and follows a chunk of the upstream: a client that does not pipeline speaks only when it has its answer. So a
connection that ever pipelined stays lost, and a response that does not begin like one makes it lost again. (A client
that pipelines for the first time within a gap cannot be told from one that does not.)

HTTP/2 has no safe point: a header block means something only after those before it. Such a connection stays lost until
the client opens another. So the tap, while it drops, leaves out DATA alone where it can (:mod:`monitor.capture.sieve`).
"""

from __future__ import annotations

import re

from monitor.capture.exchange import Recorder, UnparsableError
from monitor.capture.frames import CLIENT, NOBODY, UPSTREAM
from monitor.capture.http1 import Http1
from monitor.capture.http2 import Http2
from monitor.capture.metrics import Counters, sample

_REQUEST_LINE = re.compile(rb"[A-Z]{3,10} [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r?\n")
_RESPONSE_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9]")
_HTTP2 = b"PRI * HTTP/2.0\r\n"
_SETTINGS = b"\x04\x00\x00\x00\x00\x00"
"""What follows the length in the first frame of an HTTP/2 server, which need not wait for its client."""

EARLY = 64 * 1024
"""Bytes of a server that speaks first that are kept until the client has told the protocol."""

_TLS = (0x14, 0x15, 0x16, 0x17)

NEW, TALKING, LOST, OPAQUE = "new", "talking", "lost", "opaque"

_RESYNC = sample("dropped_frames_total", reason="resync")
_HTTP2_LOST = sample("unparsed_connections_total", reason="http2_gap")


class Conversation:
    """Chooses the parser of a connection and keeps it in step.

    Parameters
    ----------
    recorder : told of exchanges.
    counters : where dropped frames and connections without a parser are counted.
    """

    __slots__ = ("_counters", "_early", "_first", "_parser", "_pipelines", "_recorder", "_turn", "_unsure", "state")

    def __init__(self, recorder: Recorder, counters: Counters) -> None:
        self._recorder, self._counters = recorder, counters
        self._parser: Http1 | Http2 | None = None
        self._first = self._early = b""
        self._turn = NOBODY
        self._pipelines = False
        self._unsure = False
        self.state = NEW

    @property
    def open_messages(self) -> int:
        """Messages that have begun and are not complete."""
        return self._parser.open_messages if self._parser is not None else 0

    def data(self, side: int, data: bytes, now: float) -> None:
        """A chunk of one side."""
        if self.state == TALKING:
            if self._unsure and side == UPSTREAM:
                self._unsure = False
                if not _RESPONSE_LINE.match(data):
                    self._lose("gap")
                    self._skip(side)
                    return
            try:  # as _parse does: a call saved is a call saved
                self._parser.feed(side, data, now)  # type: ignore[union-attr]  # talking takes a parser
            except UnparsableError as error:
                self._failed(error, side)
        elif self.state == NEW:
            self._begin(side, data, now)
        elif self.state == LOST:
            self._find(side, data, now)

    def eof(self, side: int, now: float) -> None:
        """One side ended in good order."""
        if self._parser is not None:
            self._parser.eof(side, now)

    def gap(self, turn: int) -> None:
        """Something was dropped; ``turn`` spoke last."""
        if self.state != OPAQUE:
            if isinstance(self._parser, Http2):
                self._counters[_HTTP2_LOST] += 1
            self._lose("gap")
            self._turn = turn

    def hole(self, side: int, size: int, now: float) -> None:
        """So many bytes of that side's HTTP/2 DATA were left out."""
        if isinstance(self._parser, Http2):
            try:
                self._parser.hole(side, size, now)
            except UnparsableError as error:
                self._failed(error, side)
        elif self.state == LOST:
            self._skip(side)
        else:
            self.gap(side)

    def close(self, reason: str = "incomplete") -> None:
        """Nothing more comes."""
        if self._parser is not None:
            self._parser.abandon(reason)
            self._parser = None
        self.state = OPAQUE

    def _begin(self, side: int, data: bytes, now: float) -> None:
        """Tell the protocol by the client's first bytes."""
        if side == UPSTREAM:
            self._early += data
            if self._early[3:9] != _SETTINGS[: len(self._early[3:9])] or len(self._early) > EARLY:
                self._give_up("server_first")
            return
        data = self._first + data
        if data.startswith(_HTTP2):
            early, self._first, self._early = self._early, b"", b""
            self._talk(Http2(self._recorder))
            self._parse(side, data, now)
            if early and self.state == TALKING:
                self._parse(UPSTREAM, early, now)
        elif _HTTP2.startswith(data):
            self._first = data
        elif self._early:
            self._give_up("server_first")
        elif data[0] in _TLS:
            self._give_up("tls")
        elif not (65 <= data[0] <= 90 or data[0] in b"\r\n"):
            self._give_up("unknown")
        else:
            self._first = b""
            self._talk(Http1(self._recorder))
            self._parse(side, data, now)

    def _talk(self, parser: Http1 | Http2) -> None:
        self._parser = parser
        self.state = TALKING

    def _parse(self, side: int, data: bytes, now: float) -> None:
        assert self._parser is not None
        try:
            self._parser.feed(side, data, now)
        except UnparsableError as error:
            self._failed(error, side)

    def _failed(self, error: UnparsableError, side: int) -> None:
        if error.lasting:
            self.close(error.reason)
            self._give_up(error.reason)
        else:
            self._lose(error.reason)
            self._turn = side

    def _lose(self, reason: str) -> None:
        if self._parser is not None:
            self._pipelines = self._pipelines or self._parser.pipelines
            self._parser.abandon(reason)
            self._parser = None
        self.state = LOST
        self._unsure = False

    def _find(self, side: int, data: bytes, now: float) -> None:
        """Lost: is this a safe point?"""
        if side == CLIENT and self._turn == UPSTREAM and not self._pipelines and _REQUEST_LINE.match(data):
            self._unsure = True
            self._talk(Http1(self._recorder))
            self._parse(side, data, now)
        else:
            self._skip(side)

    def _skip(self, side: int) -> None:
        self._turn = side
        self._counters[_RESYNC] += 1

    def _give_up(self, reason: str) -> None:
        self.state = OPAQUE
        self._first = self._early = b""
        self._counters[sample("unparsed_connections_total", reason=reason)] += 1
