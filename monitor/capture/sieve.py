"""What the tap leaves out of HTTP/2 connections while its queue is full: DATA, and nothing else.

HTTP/2's header blocks mean something only after those before them (HPACK), so that a connection with a gap could not be
followed any more. Walking its frames from the beginning would cost the relay something for every request; so this
begins when the queue is filling. Where the frames are is then told by a chunk that is a chain of frames from its first
byte on: senders write whole frames, and the odds that other bytes are such a chain are below one in a million.

The standard library only: the relay imports it.
"""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_HEADER = 9
_DATA = 0
_STREAM, _CONNECTION, _EITHER = "stream", "connection", "either"

_KINDS = {
    0: (_STREAM, 0x09, 0), 1: (_STREAM, 0x2D, 0), 2: (_STREAM, 0, 5), 3: (_STREAM, 0, 4), 4: (_CONNECTION, 1, 0),
    5: (_STREAM, 0x0C, 0), 6: (_CONNECTION, 1, 8), 7: (_CONNECTION, 0, 0), 8: (_EITHER, 0, 4), 9: (_STREAM, 0x04, 0),
}  # fmt: skip
"""Of each type of RFC 9113, section 6: where it occurs, which flags it has, and its length if that is fixed."""


class Sieve:
    """Both directions of a connection. Sides are CLIENT and UPSTREAM. Every chunk must be shown to it, in order.

    >>> ping, data = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"8 bytes.", bytes([0, 0, 2, 0, 1, 0, 0, 0, 1]) + b"hi"
    >>> sieve = Sieve()
    >>> sieve.follow(0, ping), sieve.sift(0, data + ping) == [data[:9], 2, ping]
    (True, True)
    """

    __slots__ = ("_sides", "sifting")

    def __init__(self) -> None:
        self._sides: list[_Side | None] = [None, None]
        self.sifting = False

    def follow(self, side: int, data: bytes) -> bool:
        """A chunk of which everything is copied. Whether it is known where the frames are."""
        known = self._sides[side]
        if known is None:
            known = self._sides[side] = _aligned(data)
        elif not known.skip(data):
            self._sides[side] = known = None
        return known is not None

    def sift(self, side: int, data: bytes) -> list[bytes | int] | None:
        """The chunk without its DATA: bytes, and how many are left out between them. ``None``: nobody can tell."""
        known = self._sides[side]
        if known is None:
            known = _beginning(data)
            if _aligned(data) is None:
                return None
            self._sides[side] = known
        parts = known.sift(data)
        if parts is None:
            self._sides[side] = None
        return parts


class _Side:
    """Where one direction stands: so many bytes of a frame are to come, or the beginning of a frame's header came."""

    __slots__ = ("_head", "_is_data", "_left")

    def __init__(self, left: int = 0) -> None:
        self._head = b""
        self._left = left
        self._is_data = False

    def skip(self, data: bytes) -> bool:
        """Go past a chunk. False if its frames are none."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
            else:
                step = self._header(data, at)
                if step < 0:
                    return False
                at += step
        return True

    def sift(self, data: bytes) -> list[bytes | int] | None:
        parts: list[bytes | int] = []
        at = kept = 0
        end = len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                if self._is_data:
                    if kept < at:
                        parts.append(data[kept:at])
                    parts.append(step)
                    kept = at + step
                at += step
                continue
            step = self._header(data, at)
            if step < 0:
                return None
            at += step
        if kept < end:
            parts.append(data[kept:])
        return parts

    def _header(self, data: bytes, at: int) -> int:
        """Read a frame's header, or as much as there is of it; returns the bytes it took, -1 if it is none."""
        had = len(self._head)
        head = self._head + data[at : at + _HEADER - had]
        if len(head) < _HEADER:
            self._head = head
            return len(head) - had
        self._head = b""
        if not _plausible(head, 0):
            return -1
        self._left = int.from_bytes(head[:3], "big")
        self._is_data = head[3] == _DATA
        return _HEADER - had


def _beginning(data: bytes) -> _Side:
    return _Side(len(PREFACE) if data.startswith(PREFACE) else 0)


def _aligned(data: bytes) -> _Side | None:
    """The state behind a chunk that begins with a frame: two headers in their places, or one frame exactly."""
    at, frames = (len(PREFACE), 1) if data.startswith(PREFACE) else (0, 0)
    end = len(data)
    while at + _HEADER <= end:
        if not _plausible(data, at):
            return None
        frames += 1
        at += _HEADER + int.from_bytes(data[at : at + 3], "big")
    if frames < 2 and not (frames and at == end):
        return None
    side = _beginning(data)
    side.skip(data)
    return side


def _plausible(data: bytes, at: int) -> bool:
    kind = _KINDS.get(data[at + 3])
    if kind is None:
        return False
    where, flags, length = kind
    stream = int.from_bytes(data[at + 5 : at + _HEADER], "big")
    if stream >> 31 or data[at + 4] & ~flags:
        return False
    if length and int.from_bytes(data[at : at + 3], "big") != length:
        return False
    return where is _EITHER or (stream == 0) == (where is _CONNECTION)
