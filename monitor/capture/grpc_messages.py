"""gRPC's length-prefixed messages: one direction of a call, however split, to messages.

Source: gRPC over HTTP/2, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PREFIX_SIZE = 5


class Part(NamedTuple):
    """Bytes of a message. ``begins`` and ``ends`` are its limits; ``compressed`` is its flag."""

    data: bytes
    compressed: bool
    begins: bool
    ends: bool


class MessageSplitter:
    """Bytes to parts of messages; nothing is held but a prefix.

    After a hole the next message begins with the next DATA frame that is a whole message, as senders make them of
    small ones: no other place is safe.

    >>> splitter = MessageSplitter()
    >>> wire = b"\\0\\0\\0\\0\\2hi"
    >>> [(part.data, part.begins, part.ends) for cut in (wire[:6], wire[6:]) for part in splitter.feed(cut, 7, True)]
    [(b'h', True, False), (b'i', False, True)]
    """

    __slots__ = ("_compressed", "_head", "_left", "lost")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._compressed = False
        self.lost = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._left > 0 or self._head != b""

    def feed(self, data: bytes, frame: int, begins: bool) -> Iterator[Part]:
        """The parts in a piece of a DATA frame that has ``frame`` bytes and, perhaps, begins with it."""
        if self.lost:
            if not (begins and _whole(data, frame)):
                return
            self.lost = False
        at, end = 0, len(data)
        while at < end:
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                yield Part(part, self._compressed, False, not self._left)
                continue
            head = self._head + data[at : at + PREFIX_SIZE - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < PREFIX_SIZE:
                self._head = head
                return
            self._head = b""
            self._compressed, self._left = head[0] == 1, int.from_bytes(head[1:], "big")
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            yield Part(part, self._compressed, True, not self._left)

    def hole(self) -> None:
        """Something is missing here."""
        self._head, self._left, self.lost = b"", 0, True


def _whole(data: bytes, frame: int) -> bool:
    """Whether a frame that begins with these bytes looks like one whole message."""
    return (
        len(data) >= PREFIX_SIZE and data[0] <= 1 and int.from_bytes(data[1:PREFIX_SIZE], "big") == frame - PREFIX_SIZE
    )
