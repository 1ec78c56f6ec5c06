"""HTTP/2 frames (RFC 9113, section 4): one direction's bytes, however split, to frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from monitor.capture.exchange import UnparsableError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION = 0, 1, 3, 4, 5, 7, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x01, 0x04, 0x08, 0x20

LONGEST = 64 * 1024
"""Bytes of a frame that is held until it is whole, and of a header block."""

_WHOLE = frozenset({HEADERS, RST_STREAM, PUSH_PROMISE, GOAWAY, CONTINUATION})


class Piece(NamedTuple):
    """A frame, or a part of a DATA frame: ``size`` is that frame's content, ``begins`` and ``ends`` its limits."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    size: int
    begins: bool
    ends: bool


class FrameSplitter:
    """Bytes to pieces. Only frames with headers, resets and GOAWAY are held until they are whole, up to 64 KiB.

    DATA comes as it arrives, without its padding; frames that say nothing of a message are passed over.

    >>> splitter = FrameSplitter()
    >>> wire = bytes([0, 0, 2, DATA, END_STREAM, 0, 0, 0, 1]) + b"hi"
    >>> [(p.payload, p.begins, p.ends) for part in (wire[:10], wire[10:]) for p in splitter.feed(part)]
    [(b'h', True, False), (b'i', False, True)]
    """

    __slots__ = ("_begins", "_content", "_flags", "_kind", "_left", "_needed", "_padded", "_rest", "_size", "_stream")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = HEADER_SIZE
        self._kind = self._flags = self._stream = self._left = self._content = self._size = 0
        self._begins = self._padded = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Every piece in ``data``. Raises :class:`UnparsableError` for a frame that is too long to hold."""
        if self._rest:
            data = self._whole(data)
        at, end = 0, len(data)
        while at < end:
            if self._left:
                taken = data[at : at + self._left]
                at += len(taken)
                self._left -= len(taken)
                if self._kind == DATA:
                    yield self._part(taken)
                continue
            if end - at < HEADER_SIZE:
                self._hold(data[at:], HEADER_SIZE)
                return
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + HEADER_SIZE], "big") & 0x7FFFFFFF
            stop = at + HEADER_SIZE + length
            if kind in _WHOLE:
                if stop > end or length > LONGEST:
                    self._hold(data[at:], HEADER_SIZE + length)
                    return
            elif kind != DATA:
                self._kind, self._left, at = kind, max(stop - end, 0), min(stop, end)
                continue
            elif stop > end or flags & PADDED:
                self._open(flags, stream, length)
                at += HEADER_SIZE
                continue
            yield Piece(kind, flags, stream, data[at + HEADER_SIZE : stop], length, True, True)
            at = stop

    def hole(self, size: int) -> Piece:
        """So many bytes of DATA are missing here: an empty piece, which may end the frame."""
        if self._rest or self._kind != DATA or size > self._left:
            raise UnparsableError("malformed", lasting=True)
        self._left -= size
        self._begins = self._padded = False
        self._content = min(self._content, self._left)
        return Piece(DATA, self._flags, self._stream, b"", self._size, False, not self._left)

    def _whole(self, data: bytes) -> bytes:
        """What waited, and the bytes behind it; nothing while it is not enough."""
        self._rest += data
        if len(self._rest) < self._needed:
            return b""
        data, self._rest = bytes(self._rest), bytearray()
        return data

    def _hold(self, rest: bytes, needed: int) -> None:
        """Wait until so many bytes are there."""
        if needed > HEADER_SIZE + LONGEST:
            raise UnparsableError("malformed", lasting=True)
        self._rest, self._needed = bytearray(rest), needed

    def _open(self, flags: int, stream: int, length: int) -> None:
        """A DATA frame whose payload is handed on in parts."""
        self._kind, self._flags, self._stream = DATA, flags, stream
        self._left = self._content = self._size = length
        self._begins = True
        self._padded = bool(flags & PADDED)

    def _part(self, data: bytes) -> Piece:
        """The next bytes of the open DATA frame: content first, then padding."""
        if self._padded:
            self._padded = False
            self._content = self._size = self._size - 1 - data[0]
            if self._content < 0:
                raise UnparsableError("malformed", lasting=True)
            data = data[1:]
        content = data[: self._content]
        self._content -= len(content)
        begins, self._begins = self._begins, False
        return Piece(DATA, self._flags, self._stream, content, self._size, begins, not self._left)
