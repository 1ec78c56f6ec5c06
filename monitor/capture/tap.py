"""The relay's end of the tap: hands copies to the shipper, never waits, and says what it dropped.

Copies are gathered for a moment and sent in one go: a system call a chunk would cost more than relaying it.
While the shipper is behind, nothing is tried again before its socket is writable.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from time import monotonic

from monitor.capture.frames import CLIENT, CLOSE, DATA, EOF, GAP, HEADER, HOLE, LOSS, MISSING, NOBODY
from monitor.capture.metrics import Counters, sample
from monitor.capture.reactor import Reactor, Timer
from monitor.capture.sieve import Sieve

BLOCK = 128 * 1024
"""Bytes gathered before they are sent at once; of a small queue a quarter: what waits here must not fill it."""

DELAY = 0.05
"""Seconds that a copy waits for company at most. At 1,000 requests a second 0.01 cost the relay a tenth more."""

_COPIED = sample("copied_frames_total")
_FULL = sample("dropped_frames_total", reason="queue_full")
_SIFTED = sample("dropped_frames_total", reason="http2_data")
_FULL_BYTES = sample("dropped_bytes_total")
_GAPS = sample("gaps_total")

_pack, _HEADER_SIZE = HEADER.pack, HEADER.size


class Tapped:
    """What the tap knows of one connection: who spoke last, and whether the shipper's copy of it has a gap."""

    __slots__ = ("dropped_bytes", "dropped_frames", "known", "lost", "number", "sieve", "slow", "turn")

    def __init__(self, number: int) -> None:
        self.number = number
        self.turn = NOBODY
        self.known = False
        self.lost = self.slow = False
        self.sieve: Sieve | None = None
        self.dropped_frames = 0
        self.dropped_bytes = 0


class Tap:
    """A queue of frames with a bound in bytes, in front of a socket.

    Parameters
    ----------
    loop : for writability and the timer.
    limit : bytes that may wait, frame headers included. Frames without data (ends, gaps) come on top: there are at
        most three for every connection of which data was taken. So do HTTP/2 frames that are no DATA, up to half of it.
    counters : where drops and gaps are counted, and by :meth:`count` copies.
    """

    def __init__(self, loop: Reactor, limit: int, counters: Counters) -> None:
        self._loop, self._limit, self._counters = loop, limit, counters
        self._block = min(BLOCK, limit // 4)
        self._socket: socket.socket | None = None
        self._parts: list[bytes] = []
        self._gathered = 0
        self._blocks: deque[bytes] = deque()
        self._sent = 0
        self._blocked = False
        self._timer: Timer | None = None
        self._finishing = False
        self._copied = 0
        self._near = limit // 2
        self.held = 0
        self.frames = 0

    def attach(self, shipper: socket.socket) -> None:
        """Send to this (non-blocking) socket from now on."""
        self._socket = shipper
        self._finishing = False
        self._flush()

    def detach(self) -> int:
        """The shipper is gone: forget what waits for it. Returns the data frames queued since :meth:`attach`."""
        if self._socket is not None and self._blocked:
            self._loop.remove_writer(self._socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._socket, self._timer, self._blocked = None, None, False
        self._parts, self._gathered, self._sent, self.held = [], 0, 0, 0
        self._blocks.clear()
        frames, self.frames = self.frames, 0
        self._copied += frames
        return frames

    def finish(self) -> None:
        """Send what is left, then let the shipper see the end."""
        self._finishing = True
        self._flush()

    def data(self, link: Tapped, side: int, data: bytes) -> None:
        """Copy a chunk, or drop and count it."""
        size = len(data) + _HEADER_SIZE
        if (link.slow or self.held + size > self._near) and not self._whole(link, side, data):
            link.turn = side
            return
        link.turn = side
        link.known = True
        self.frames += 1
        self._parts += (_pack(DATA, side, len(data), link.number, monotonic()), data)
        self.held += size
        self._gathered += size
        if self._timer is None or self._gathered >= self._block:
            self._took()

    def count(self) -> None:
        """Bring the counter of copies up to date."""
        self._counters[_COPIED] = self._copied + self.frames

    def eof(self, link: Tapped, side: int) -> None:
        """That side ended in good order."""
        if link.known and not link.lost:
            self._control(_pack(EOF, side, 0, link.number, monotonic()))

    def close(self, link: Tapped) -> None:
        """Both sides are gone."""
        if link.lost and (link.known or link.dropped_frames):
            self._gap(link)
        if link.known:
            self._control(_pack(CLOSE, CLIENT, 0, link.number, monotonic()))
            link.known = False

    def interrupt(self, link: Tapped) -> None:
        """The shipper's memory of this connection is gone with it."""
        link.sieve, link.slow = None, link.lost
        if link.known:
            link.known, link.lost, link.slow = False, True, True

    def _whole(self, link: Tapped, side: int, data: bytes) -> bool:
        """The queue is filling: whether the chunk is to be copied whole. If not, what can be is copied here.

        A gap, and sifting, end when half the queue is free: else one drop would follow the other.
        """
        after = self.held + len(data) + _HEADER_SIZE
        if link.lost:
            if after > self._near:
                self._drop(link, data)
                return False
            self._gap(link)
        if after <= self._near:
            link.sieve, link.slow = None, False
            return True
        link.slow = True
        sieve = link.sieve = link.sieve or Sieve()
        if after <= self._limit and not sieve.sifting:
            sieve.follow(side, data)
            return True
        parts = sieve.sift(side, data)
        if parts is None or self.held > self._limit + self._near:
            self._drop(link, data)
            return False
        sieve.sifting = True
        self._sifted(link, side, parts)
        return False

    def _sifted(self, link: Tapped, side: int, parts: list[bytes | int]) -> None:
        """Copy what there is beside DATA. Headers are few: they may fill the queue half as much again."""
        link.known = True
        missing = 0
        for part in parts:
            if isinstance(part, int):
                missing += part
                self._control(_pack(HOLE, side, MISSING.size, link.number, monotonic()) + MISSING.pack(part))
            else:
                self.frames += 1
                self._control(_pack(DATA, side, len(part), link.number, monotonic()) + part)
        if missing:
            self._counters[_SIFTED] += 1
            self._counters[_FULL_BYTES] += missing

    def _drop(self, link: Tapped, data: bytes) -> None:
        link.lost = link.slow = True
        link.sieve = None
        link.dropped_frames += 1
        link.dropped_bytes += len(data)
        self._counters[_FULL] += 1
        self._counters[_FULL_BYTES] += len(data)

    def _gap(self, link: Tapped) -> None:
        self._counters[_GAPS] += 1
        loss = LOSS.pack(link.dropped_frames, link.dropped_bytes)
        self._control(_pack(GAP, link.turn, len(loss), link.number, monotonic()) + loss)
        link.lost, link.slow, link.known = False, False, True
        link.dropped_frames = link.dropped_bytes = 0

    def _control(self, frame: bytes) -> None:
        self._parts.append(frame)
        self.held += len(frame)
        self._gathered += len(frame)
        self._took()

    def _took(self) -> None:
        if self._gathered >= self._block:
            self._seal()
            if not self._blocked:
                self._flush()
        elif self._timer is None and not self._blocked and self._socket is not None:
            self._timer = self._loop.call_later(DELAY, self._due)

    def _seal(self) -> None:
        if self._parts:
            self._blocks.append(b"".join(self._parts))
            self._parts, self._gathered = [], 0

    def _due(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._socket is None or self._blocked:
            return
        self._seal()
        while self._blocks:
            block = self._blocks[0]
            try:
                count = self._socket.send(memoryview(block)[self._sent :])
            except BlockingIOError:
                self._blocked = True
                self._loop.add_writer(self._socket.fileno(), self._writable)
                return
            except OSError:  # the shipper died; whoever watches it calls detach()
                return
            self.held -= count
            self._sent += count
            if self._sent == len(block):
                self._blocks.popleft()
                self._sent = 0
        if self._finishing:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _writable(self) -> None:
        assert self._socket is not None
        self._loop.remove_writer(self._socket.fileno())
        self._blocked = False
        self._flush()
