"""HTTP/2 with prior knowledge: the two directions of one connection to exchanges. Pure: bytes in, calls out.

Source: RFC 9113. What must be followed is followed (frames, header blocks in their order), what says nothing of a
message is passed over (flow control, priorities, settings, pings).
"""

from __future__ import annotations

from monitor.capture.exchange import Exchange, Recorder, UnparsableError
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.grpc_stream import GrpcStream, is_grpc
from monitor.capture.header_blocks import Fields, HeaderBlocks
from monitor.capture.http1 import report
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
from monitor.capture.http2_stream import PlainStream, Stream, ordinary

MAX_STREAMS = 1024
"""Captured calls of one connection that are open at once; servers allow about a hundred. Those beyond are counted."""

_NOTHING: Fields = {}


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
        self._streams: dict[int, tuple[Stream, set[int]]] = {}
        self._latest = 0
        self._preface = b""
        self.open_messages = 0

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
        known = self._streams.get(piece.stream)
        if known is not None:
            before = known[0].open_messages
            known[0].hole(side, now)
            self.open_messages += known[0].open_messages - before
        if piece.ends and piece.flags & END_STREAM:
            self._ended(side, piece.stream, _NOTHING, now)

    def eof(self, side: int, now: float) -> None:
        """Streams end by themselves."""

    def abandon(self, reason: str) -> None:
        """Give up what is incomplete."""
        for stream, _ in self._streams.values():
            stream.abandon(reason)
        self._streams.clear()
        self.open_messages = 0

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

    def _data(self, side: int, piece: Piece, now: float) -> None:
        known = self._streams.get(piece.stream)
        if known is None:
            return
        stream = known[0]
        before = stream.open_messages
        if piece.payload:
            stream.data(side, piece, now)
        self.open_messages += stream.open_messages - before
        if piece.ends and piece.flags & END_STREAM:
            self._ended(side, piece.stream, _NOTHING, now)

    def _block(self, side: int, piece: Piece, block: bytes, now: float) -> None:
        """The beginning of a header block, which as a rule is all of it."""
        if piece.flags & END_HEADERS:
            self._fields(side, piece, self._blocks[side].decode(block), now)
        else:
            self._continued[side] = (piece, bytearray(block))

    def _continuation(self, side: int, piece: Piece, now: float) -> None:
        begun = self._continued[side]
        if begun is None or piece.stream != begun[0].stream or len(begun[1]) + piece.size > LONGEST:
            raise UnparsableError("malformed", lasting=True)
        begun[1].extend(piece.payload)
        if piece.flags & END_HEADERS:
            self._continued[side] = None
            self._fields(side, begun[0], self._blocks[side].decode(bytes(begun[1])), now)

    def _fields(self, side: int, piece: Piece, fields: Fields, now: float) -> None:
        """A whole header block: of a request, of a response (perhaps an interim one), or trailers."""
        if piece.kind == PUSH_PROMISE:
            return  # nobody asked: not captured, but its fields are in the table now
        number = piece.stream
        if side == CLIENT and number > self._latest:
            self._latest = number
            self._request(number, fields, now)
        elif side == UPSTREAM and ":status" in fields and (known := self._streams.get(number)) is not None:
            if fields[":status"].startswith("1"):
                return
            before = known[0].open_messages
            known[0].answer(fields, now)
            self.open_messages += known[0].open_messages - before
        if piece.flags & END_STREAM:
            self._ended(side, number, fields, now)

    def _request(self, number: int, fields: Fields, now: float) -> None:
        exchange = Exchange(self._recorder.memory)
        exchange.method = fields.get(":method", "")
        exchange.path = fields.get(":path", "").partition("?")[0]
        exchange.request.headers = ordinary(fields)
        exchange.request.started = now
        self._recorder.begin(exchange)
        if exchange.kind is None:
            return
        if len(self._streams) >= MAX_STREAMS:
            self._recorder.discard(exchange, "streams")
            return
        made = GrpcStream if is_grpc(fields.get("content-type", "")) else PlainStream
        stream: Stream = made(self._recorder, exchange)
        self._streams[number] = (stream, set())
        self.open_messages += stream.open_messages

    def _ended(self, side: int, number: int, trailers: Fields, now: float) -> None:
        known = self._streams.get(number)
        if known is None:
            return
        stream, sides = known
        before = stream.open_messages
        stream.end(side, trailers, now)
        self.open_messages += stream.open_messages - before
        sides.add(side)
        if len(sides) == 2:
            self._reset(number)

    def _reset(self, number: int) -> None:
        """Nothing more comes on this stream."""
        known = self._streams.pop(number, None)
        if known is not None:
            self.open_messages -= known[0].open_messages
            known[0].abandon("reset")


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
