"""HTTP/2 with prior knowledge: the two directions of one connection to exchanges. Pure: bytes in, calls out.

Source: RFC 9113. What must be followed is followed (frames, header blocks in their order), what says nothing of a
message is passed over (flow control, priorities, settings, pings).
"""

from __future__ import annotations

from monitor.capture.exchange import Exchange, Recorder, UnparsableError
from monitor.capture.faults import report
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.grpc_methods import names_model
from monitor.capture.grpc_stream import GrpcStream
from monitor.capture.header_blocks import Head, HeaderBlocks
from monitor.capture.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LONGEST,
    PADDED,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    FrameSplitter,
    Piece,
)
from monitor.capture.http2_stream import PlainStream, Stream

MAX_STREAMS = 1024
"""Captured calls of one connection that are open at once; servers allow about a hundred. Those beyond are counted."""

_NOTHING: dict[str, str] = {}
_BOTH = 1 << CLIENT | 1 << UPSTREAM


class Http2:
    """Follows one connection.

    Parameters
    ----------
    recorder : told of each exchange as its parts are complete.
    """

    pipelines = True  # there is no safe point behind a gap

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._splitters = (FrameSplitter(), FrameSplitter())
        self._blocks = (HeaderBlocks(recorder.wanted), HeaderBlocks(recorder.wanted))
        self._continued: list[tuple[Piece, bytearray] | None] = [None, None]
        self._streams: dict[int, _Open] = {}
        self._touched: set[int] = set()
        self._latest = self._still = 0
        self._preface = b""

    @property
    def open_messages(self) -> int:
        """Messages that have begun and are not complete. Only streams that something came of are asked again."""
        for number in self._touched:
            known = self._streams.get(number)
            if known is not None:
                still = known.stream.open_messages
                self._still += still - known.still
                known.still = still
        self._touched.clear()
        return self._still

    def feed(self, side: int, data: bytes, now: float) -> None:
        """Bytes of one side, seen at ``now``.

        Raises
        ------
        UnparsableError : they are no HTTP/2, or nothing that can be followed. It is lasting.
        """
        if side == CLIENT and len(self._preface) < len(PREFACE):
            greeting = self._preface + data[: len(PREFACE) - len(self._preface)]
            data = data[len(greeting) - len(self._preface) :]
            self._preface = greeting
            if not PREFACE.startswith(greeting):
                raise UnparsableError("malformed", lasting=True)
        try:
            for piece in self._splitters[side].feed(data):
                self._piece(side, piece, now)
        except UnparsableError:
            raise
        except Exception as error:  # not the bytes are at fault, but what was made of them
            report(error)
            raise UnparsableError("internal", lasting=True) from error

    def hole(self, side: int, size: int, now: float) -> None:
        """So many bytes of DATA of that side are missing here. Raises :class:`UnparsableError` as :meth:`feed`."""
        piece = self._splitters[side].hole(size)
        if (known := self._known(piece.stream)) is not None and (side == CLIENT or known.answered):
            known.stream.hole(side, now)
        if piece.ends and piece.flags & END_STREAM:
            self._ended(side, piece.stream, _NOTHING, now)

    def eof(self, side: int, now: float) -> None:
        """Streams end by themselves."""

    def abandon(self, reason: str) -> None:
        """Give up what is incomplete."""
        for known in self._streams.values():
            known.stream.abandon(reason)
        self._streams.clear()
        self._still = 0

    def _piece(self, side: int, piece: Piece, now: float) -> None:
        kind = piece.kind
        if self._continued[side] is not None and kind != CONTINUATION:
            raise UnparsableError("malformed", lasting=True)
        if kind == DATA:
            self._data(side, piece, now)
        elif kind in (HEADERS, PUSH_PROMISE):
            self._block(side, piece, _unpadded(piece), now)
        elif kind == CONTINUATION:
            self._continuation(side, piece, now)
        elif kind == RST_STREAM:
            self._reset(piece.stream)
        elif kind == GOAWAY and side == UPSTREAM:
            last = int.from_bytes(piece.payload[:4], "big") & 0x7FFFFFFF
            for stream in [stream for stream in self._streams if stream > last]:
                self._reset(stream)

    def _known(self, number: int) -> _Open | None:
        """A stream that is captured, of which something came."""
        known = self._streams.get(number)
        if known is not None:
            self._touched.add(number)
        return known

    def _data(self, side: int, piece: Piece, now: float) -> None:
        known = self._known(piece.stream)
        if piece.payload and known is not None and (side == CLIENT or known.answered):  # no answer begins with DATA
            known.stream.data(side, piece, now)
        if piece.ends and piece.flags & END_STREAM:
            self._ended(side, piece.stream, _NOTHING, now)

    def _block(self, side: int, piece: Piece, block: bytes, now: float) -> None:
        """The beginning of a header block, which as a rule is all of it."""
        if piece.flags & END_HEADERS:
            self._head(side, piece, self._blocks[side].decode(block), now)
        else:
            self._continued[side] = (piece, bytearray(block))

    def _continuation(self, side: int, piece: Piece, now: float) -> None:
        begun = self._continued[side]
        if begun is None or piece.stream != begun[0].stream or len(begun[1]) + piece.size > LONGEST:
            raise UnparsableError("malformed", lasting=True)
        begun[1].extend(piece.payload)
        if piece.flags & END_HEADERS:
            self._continued[side] = None
            self._head(side, begun[0], self._blocks[side].decode(bytes(begun[1])), now)

    def _head(self, side: int, piece: Piece, head: Head, now: float) -> None:
        """A whole header block: of a request, of a response (perhaps an interim one), or trailers."""
        if piece.kind == PUSH_PROMISE:
            return  # nobody asked: not captured, but its fields are in the table now
        number = piece.stream
        if side == CLIENT and number > self._latest:
            self._latest = number
            self._request(number, head, now)
        elif side == UPSTREAM and head.status and (known := self._known(number)) is not None:
            if head.status < 200:
                return
            if not known.answered:  # a second head is none of HTTP/2's
                known.answered = True
                known.stream.answer(head, now)
        if piece.flags & END_STREAM:
            self._ended(side, number, head.headers, now)

    def _request(self, number: int, head: Head, now: float) -> None:
        exchange = Exchange(self._recorder.memory)
        exchange.method, exchange.path = head.method, head.path
        exchange.request.headers = head.headers.copy()
        exchange.request.started = now
        exchange.naming = head.is_grpc and names_model(head.path)
        self._recorder.begin(exchange)
        if exchange.kind is None:
            return
        if len(self._streams) >= MAX_STREAMS:
            self._recorder.discard(exchange, "streams")
            return
        made = GrpcStream if head.is_grpc else PlainStream
        self._streams[number] = _Open(made(self._recorder, exchange))
        self._touched.add(number)

    def _ended(self, side: int, number: int, trailers: dict[str, str], now: float) -> None:
        known = self._known(number)
        if known is None:
            return
        known.stream.end(side, trailers, now)
        known.ended |= 1 << side
        if known.ended == _BOTH:
            self._reset(number)

    def _reset(self, number: int) -> None:
        """Nothing more comes on this stream."""
        known = self._streams.pop(number, None)
        if known is not None:
            self._still -= known.still
            known.stream.abandon("reset")


class _Open:
    """A stream, whether it is answered, which sides of it have ended, how many of its messages are counted as open."""

    __slots__ = ("answered", "ended", "still", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.answered = False
        self.ended = self.still = 0


def _unpadded(piece: Piece) -> bytes:
    """The block's part in a HEADERS or PUSH_PROMISE frame."""
    payload, start, end = piece.payload, 0, len(piece.payload)
    if piece.flags & PADDED:
        start, end = 1, end - (payload[0] if payload else 1)
    if piece.kind == HEADERS:
        start += 5 if piece.flags & PRIORITY else 0
    else:
        start += 4
    if start > end:
        raise UnparsableError("malformed", lasting=True)
    return payload[start:end]
