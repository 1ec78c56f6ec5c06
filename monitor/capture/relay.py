"""The hot path: bytes from client to model server and back, one upstream connection for each client connection.

Nothing is parsed, so whatever the two speak passes as it is. This module and what it imports stay light: the standard
library only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import cast

from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Address
from monitor.capture.tap import Tap, Tapped

CONNECT_SECONDS = 30.0
HALF_OPEN_SECONDS = 60.0
"""How long a client may keep its side open after the upstream closed, without a byte; kernels use the same time."""

QUIET_SECONDS = 0.25
"""While draining: a connection on which the upstream spoke last and that was silent for so long is idle."""

BACKLOG = 1024

_RESET = struct.pack("ii", 1, 0)
_CONNECTIONS = sample("connections_total")
_OPEN = sample("connections")
_BYTES = (sample("bytes_total", side="client"), sample("bytes_total", side="upstream"))


class Link(Tapped):
    """One client connection and its upstream connection."""

    __slots__ = ("client", "connecting", "moves", "open_legs", "upstream")

    def __init__(self, number: int, relay: Relay) -> None:
        super().__init__(number)
        self.client = ClientLeg(relay, self)
        self.upstream = Leg(relay, self, UPSTREAM)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.connecting: asyncio.Task[None] | None = None
        self.open_legs = 0
        self.moves = 0


class Leg(asyncio.Protocol):
    """One of the two connections of a link. What it receives, the other sends."""

    __slots__ = ("count", "ended", "link", "other", "relay", "side", "tap", "transport")
    other: Leg

    def __init__(self, relay: Relay, link: Link, side: int) -> None:
        self.relay, self.link, self.side, self.tap = relay, link, side, relay.tap
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.link.open_legs += 1

    def data_received(self, data: bytes) -> None:
        other = self.other.transport
        if other is not None:
            other.write(data)
        self.count += len(data)
        self.link.moves += 1
        if self.tap is not None:
            self.tap.data(self.link, self.side, data)
        else:
            self.link.turn = self.side

    def eof_received(self) -> bool:
        """Pass the half-close on and keep the other direction open."""
        self.ended = True
        if self.tap is not None:
            self.tap.eof(self.link, self.side)
        self.end_other()
        if self.other.ended:
            self.other.close()
            return False
        if self.side == UPSTREAM:
            self.relay.watch_half_open(self.link)
        return True

    def end_other(self) -> None:
        other = self.other.transport
        if other is not None and not other.is_closing():
            with suppress(OSError):  # its peer is gone; connection_lost follows
                other.write_eof()

    def pause_writing(self) -> None:
        if (other := self.other.transport) is not None and not other.is_closing():
            other.pause_reading()

    def resume_writing(self) -> None:
        if (other := self.other.transport) is not None and not other.is_closing():
            other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.open_legs -= 1
        if exc is None:
            self.other.close()
        else:
            self.other.reset()
        self.relay.leg_lost(self.link)

    def close(self) -> None:
        """Send what is buffered, then close."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Let the peer see that this is no regular end: a body that ends with the connection must not look whole."""
        if self.transport is None or self.transport.is_closing():
            return
        own = self.transport.get_extra_info("socket")
        with suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class ClientLeg(Leg):
    """The accepted connection. Until there is an upstream, it holds what the client said and reads no more."""

    __slots__ = ("early",)

    def __init__(self, relay: Relay, link: Link) -> None:
        super().__init__(relay, link, CLIENT)
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.relay.accepted(self.link)

    def data_received(self, data: bytes) -> None:
        if self.other.transport is None:
            assert self.transport is not None
            self.early.append(data)
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def upstream_ready(self) -> None:
        """Say what waited, in order, and read on."""
        assert self.transport is not None
        early, self.early = self.early, []
        for data in early:
            self.data_received(data)
        if self.ended:
            self.end_other()
        elif early:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.link.connecting is not None:
            self.link.connecting.cancel()
        super().connection_lost(exc)


class Relay:
    """Accepts clients and links each to the upstream.

    Parameters
    ----------
    upstream : where every client connection leads.
    tap : takes copies; ``None`` relays only.
    counters : where connections, bytes and errors are counted.
    """

    def __init__(self, upstream: Address, tap: Tap | None, counters: Counters) -> None:
        self.upstream, self.tap, self.counters = upstream, tap, counters
        self.links: set[Link] = set()
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._number = 0
        self._closed_bytes = [0, 0]

    async def listen(self, address: Address) -> Address:
        """Start accepting; returns the address with its real port. Raises :class:`OSError`."""
        self._server = await self._loop.create_server(self._link, address.host, address.port, backlog=BACKLOG)
        name = self._server.sockets[0].getsockname()
        return Address(name[0], name[1])

    @property
    def listening(self) -> bool:
        return self._server is not None

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def count(self) -> None:
        """Bring the counters up to date: bytes are counted on the connections, which is cheaper."""
        self.counters[_OPEN] = len(self.links)
        for side in (CLIENT, UPSTREAM):
            live = sum((link.client, link.upstream)[side].count for link in self.links)
            self.counters[_BYTES[side]] = self._closed_bytes[side] + live

    async def drain(self, seconds: float) -> None:
        """Accept no more; let open exchanges end for at most so long, then close what is left.

        Without parsing, an exchange counts as open while the client spoke last, or the upstream not long ago.
        """
        self.stop_listening()
        deadline = self._loop.time() + seconds
        while self.links and (left := deadline - self._loop.time()) > 0:
            before = {link: link.moves for link in self.links}
            await asyncio.sleep(min(QUIET_SECONDS, left))
            for link in [link for link in self.links if before.get(link) == link.moves and link.turn != CLIENT]:
                _close(link)
            await asyncio.sleep(0)
        for link in tuple(self.links):
            _close(link)
        for _ in range(10):  # closing takes a few turns of the loop
            if not self.links:
                return
            await asyncio.sleep(0.01)
        for link in tuple(self.links):  # a client that does not read: what is buffered for it is lost
            link.client.reset()
            link.upstream.reset()
        await asyncio.sleep(0.01)

    def accepted(self, link: Link) -> None:
        self.links.add(link)
        self.counters[_CONNECTIONS] += 1
        link.connecting = self._loop.create_task(self._connect(link))

    def leg_lost(self, link: Link) -> None:
        if link.open_legs or link not in self.links:
            return
        self.links.discard(link)
        self._closed_bytes[CLIENT] += link.client.count
        self._closed_bytes[UPSTREAM] += link.upstream.count
        if self.tap is not None:
            self.tap.close(link)

    def watch_half_open(self, link: Link) -> None:
        """A client that never closes its side would hold two sockets for ever."""
        moves = link.moves

        def look() -> None:
            if link in self.links:
                if link.moves == moves:
                    _close(link)
                else:
                    self.watch_half_open(link)

        self._loop.call_later(HALF_OPEN_SECONDS, look)

    def _link(self) -> ClientLeg:
        self._number += 1
        return Link(self._number, self).client

    async def _connect(self, link: Link) -> None:
        """The legs know each other before: an HTTP/2 server speaks first."""
        host, port = self.upstream
        try:
            await asyncio.wait_for(self._loop.create_connection(lambda: link.upstream, host, port), CONNECT_SECONDS)
        except OSError as error:
            self._unreachable(link, "refused" if isinstance(error, ConnectionRefusedError) else "failed")
        except asyncio.TimeoutError:
            self._unreachable(link, "timeout")
        else:
            link.client.upstream_ready()
        finally:
            link.connecting = None

    def _unreachable(self, link: Link, reason: str) -> None:
        """Without a sidecar the client's connection would be refused; a reset comes nearest."""
        self.counters[sample("upstream_errors_total", reason=reason)] += 1
        link.client.reset()


def _close(link: Link) -> None:
    link.client.close()
    link.upstream.close()
