"""Frames from relay to shipper, over a Unix socket pair.

A frame is a header (kind, side, length of the payload, connection, moment) and the payload. Moments are seconds of the
system-wide monotonic clock, which both processes read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

HEADER = Struct("<BBIQd")
LOSS = Struct("<QQ")
"""Payload of a gap: frames and bytes that were dropped."""

MISSING = Struct("<Q")
"""Payload of a hole: bytes that were left out."""

DATA, EOF, CLOSE, GAP, HOLE = 1, 2, 3, 4, 5
"""Bytes of one side; that side ended in good order; both sides are gone; something of this connection was dropped
(``side`` is who spoke last); of that side's HTTP/2 DATA, and nothing else, so much was left out."""

CLIENT, UPSTREAM, NOBODY = 0, 1, 2
"""Whose bytes they are."""


class Frame(NamedTuple):
    kind: int
    side: int
    connection: int
    moment: float
    payload: bytes


class FrameReader:
    """Bytes, however split, to frames.

    >>> wire = HEADER.pack(DATA, CLIENT, 2, 7, 0.5) + b"hi"
    >>> reader = FrameReader()
    >>> list(reader.feed(wire[:10])), [f.payload for f in reader.feed(wire[10:])]
    ([], [b'hi'])
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def drain(self, data: bytes, take: Callable[[int, int, int, float, bytes], None]) -> None:
        """Hand every frame that ``data`` completes to ``take``: as :meth:`feed`, for a third of the cost."""
        if self._rest:
            data = self._rest + data
        self._rest = b""
        position, end, size, unpack = 0, len(data), HEADER.size, HEADER.unpack_from
        while end - position >= size:
            kind, side, length, connection, moment = unpack(data, position)
            stop = position + size + length
            if stop > end:
                break
            take(kind, side, connection, moment, data[position + size : stop])
            position = stop
        self._rest = data[position:]

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that ``data`` completes."""
        if self._rest:
            data = self._rest + data
        self._rest = b""
        position, end = 0, len(data)
        while end - position >= HEADER.size:
            kind, side, length, connection, moment = HEADER.unpack_from(data, position)
            start = position + HEADER.size
            if start + length > end:
                break
            position = start + length
            yield Frame(kind, side, connection, moment, data[start:position])
        self._rest = data[position:]
