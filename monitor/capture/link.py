"""One client connection and its upstream connection: bytes from each to the other.

Nothing is parsed, so whatever the two speak passes as it is. A read is sent on at once; what the receiver does not take
waits, and until it has gone no more is read: each direction of a connection holds :data:`READ` bytes at most.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Protocol

from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.reactor import IN, OUT, Reactor
from monitor.capture.tap import Tap, Tapped

READ = 64 * 1024

_RESET = struct.pack("ii", 1, 0)
_buffer = bytearray(READ)
_view = memoryview(_buffer)


class Keeper(Protocol):
    """Whoever keeps the links."""

    reactor: Reactor
    tap: Tap | None

    def gone(self, link: Link) -> None:
        """Both connections of the link are closed."""
        ...

    def half_open(self, link: Link) -> None:
        """The upstream has ended, the client has not."""
        ...


class Link(Tapped):
    """A pair of legs."""

    __slots__ = ("client", "keeper", "moves", "upstream")

    def __init__(self, number: int, keeper: Keeper, client: socket.socket) -> None:
        super().__init__(number)
        self.keeper = keeper
        self.client = Leg(self, CLIENT, client)
        self.upstream: Leg | None = None
        self.moves = 0

    def join(self, upstream: socket.socket) -> None:
        """Both are there: relay from now on."""
        self.upstream = Leg(self, UPSTREAM, upstream)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.client.wait()
        self.upstream.wait()

    def close(self) -> None:
        """Send what waits, then close."""
        for leg in (self.client, self.upstream):
            if leg is not None:
                leg.close()

    def reset(self) -> None:
        """Close so that the peers see that it is no regular end."""
        for leg in (self.client, self.upstream):
            if leg is not None:
                leg.reset()

    @property
    def is_open(self) -> bool:
        return self.client.is_open or (self.upstream is not None and self.upstream.is_open)


class Leg:
    """One of the two connections of a link. What it receives, the other sends."""

    __slots__ = (
        "broken", "closing", "count", "end_due", "ended", "fd", "is_open", "link", "other", "paused", "reactor",
        "receive", "send", "side", "socket", "tap", "waiting",
    )  # fmt: skip
    other: Leg

    def __init__(self, link: Link, side: int, connection: socket.socket) -> None:
        self.link, self.side, self.socket = link, side, connection
        self.reactor, self.tap = link.keeper.reactor, link.keeper.tap
        self.fd = connection.fileno()
        self.receive, self.send = connection.recv_into, connection.send
        self.waiting: bytes | memoryview = b""
        self.broken = self.ended = self.end_due = self.paused = self.closing = False
        self.is_open = True
        self.count = 0

    def expect(self) -> None:
        """There is no upstream yet: read nothing, but hear of a client that gives up."""
        self.reactor.watch(self.fd, 0, lambda _: self.drop())

    def wait(self) -> None:
        """Ask for what is of interest now. A paused leg without output hears nothing: its hang-up would repeat."""
        events = (0 if self.ended or self.paused or self.closing else IN) | (OUT if self.waiting else 0)
        if self.paused and not events:
            self.reactor.forget(self.fd)
        else:
            self.reactor.watch(self.fd, events, self.ready)

    def ready(self, events: int) -> None:
        """Epoll's word."""
        if events & OUT:
            self.flush()
        if events & ~OUT and self.is_open:
            if self.paused:  # what it has said can still be read when there is room
                self.cannot_send()
            elif self.ended or self.closing:
                self.lost()
            else:
                self.read()

    def read(self) -> None:
        """The hot path: a chunk from here to there, and a copy to the tap."""
        try:
            size = self.receive(_buffer)
        except BlockingIOError:
            return
        except OSError:
            self.lost()
            return
        if not size:
            self.lost() if self.broken else self.end()
            return
        self.count += size
        link, other = self.link, self.other
        link.moves += 1
        data = _view[:size]
        if other.waiting:
            other.hold(b"".join((other.waiting, data)))
        else:
            try:
                sent = other.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                other.cannot_send()
                return
            if sent < size:
                other.hold(bytes(data[sent:]))
        if self.tap is not None:
            self.tap.data(link, self.side, bytes(data))
        else:
            link.turn = self.side

    def hold(self, data: bytes) -> None:
        """Keep what the peer does not take now, and read no more of the other side until it has."""
        self.waiting = data
        self.wait()
        self.other.paused = True
        self.other.wait()

    def flush(self) -> None:
        """Send on what waits."""
        if self.waiting:
            try:
                sent = self.send(self.waiting)
            except BlockingIOError:
                return
            except OSError:
                self.cannot_send()
                return
            self.waiting = memoryview(self.waiting)[sent:]
            if self.waiting:
                return
            self.waiting = b""
        if self.end_due:
            self.send_end()
        if self.closing:
            self.drop()
            return
        self.wait()
        if self.other.is_open:
            self.other.paused = False
            self.other.wait()

    def end(self) -> None:
        """The peer has ended its side: pass that on and keep the other direction open."""
        self.ended = True
        if self.tap is not None:
            self.tap.eof(self.link, self.side)
        other = self.other
        other.end_due = True
        if not other.waiting:
            other.send_end()
        if other.ended:
            self.link.close()
            return
        self.wait()
        if self.side == UPSTREAM:
            self.link.keeper.half_open(self.link)

    def send_end(self) -> None:
        self.end_due = False
        with suppress(OSError):  # its peer is gone; that comes as an event
            self.socket.shutdown(socket.SHUT_WR)

    def cannot_send(self) -> None:
        """The peer takes no more: a server may have answered early and closed. Its answer still goes its way."""
        self.broken, self.waiting = True, b""
        if self.ended or self.closing or self.other.broken:
            self.lost()
            return
        self.other.paused = True
        self.other.wait()
        self.wait()

    def lost(self) -> None:
        """The connection broke: let the other peer see that a body that ends with it is not whole."""
        self.drop()
        if self.link.upstream is not None:
            self.other.reset()

    def close(self) -> None:
        """Send what waits, then close."""
        if not self.is_open:
            return
        if self.waiting:
            self.closing = True
        else:
            self.drop()

    def reset(self) -> None:
        if self.is_open:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.drop()

    def drop(self) -> None:
        """Close now; the last one out takes the link off the list."""
        if not self.is_open:
            return
        self.is_open = False
        self.reactor.close_later(self.socket)
        self.waiting = b""
        if not self.link.is_open:
            self.link.keeper.gone(self.link)
