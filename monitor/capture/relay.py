"""The hot path: accepts clients and links each to the upstream, one connection for one.

This module and what it imports stay light: the standard library only, and of that no asyncio.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial

from monitor.capture.accepting import Door
from monitor.capture.addresses import Target, Upstream
from monitor.capture.attempt import Attempt, prepare
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.link import Link
from monitor.capture.metrics import Counters, sample
from monitor.capture.reactor import Reactor
from monitor.capture.tap import Tap

HALF_OPEN_SECONDS = 60.0
"""How long a client may keep its side open after the upstream closed, without a byte; kernels use the same time."""

QUIET_SECONDS = 0.25
"""While draining: a connection on which the upstream spoke last and that was silent for so long is idle."""

HURRIED_SECONDS = 0.005
"""The same in the last quarter: a busy connection rests no longer between two exchanges, and must be cut somewhere."""

_CONNECTIONS = sample("connections_total")
_OPEN = sample("connections")
_BYTES = (sample("bytes_total", side="client"), sample("bytes_total", side="upstream"))


class Relay:
    """Accepts clients and links each to the upstream.

    Parameters
    ----------
    reactor : calls it.
    upstream : where every client connection leads.
    tap : takes copies; ``None`` relays only.
    counters : where connections, bytes and errors are counted.
    most : client connections at once.
    """

    def __init__(self, reactor: Reactor, upstream: Upstream, tap: Tap | None, counters: Counters, most: int) -> None:
        self.reactor, self.upstream, self.tap, self.counters = reactor, upstream, tap, counters
        self.links: set[Link] = set()
        self._door = Door(reactor, most, counters, self._accepted)
        self._number = 0
        self._closed_bytes = [0, 0]

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Start accepting on these sockets."""
        self._door.open(listeners)

    @property
    def listening(self) -> bool:
        return self._door.is_open

    def count(self) -> None:
        """Bring the counters up to date: bytes are counted on the connections, which is cheaper."""
        self.counters[_OPEN] = len(self.links)
        for side in (CLIENT, UPSTREAM):
            legs = (link.client if side == CLIENT else link.upstream for link in self.links)
            self.counters[_BYTES[side]] = self._closed_bytes[side] + sum(leg.count for leg in legs if leg is not None)

    def gone(self, link: Link) -> None:
        """Both connections of the link are closed."""
        if link not in self.links:
            return
        self.links.discard(link)
        self._door.leave()
        self._closed_bytes[CLIENT] += link.client.count
        if link.upstream is not None:
            self._closed_bytes[UPSTREAM] += link.upstream.count
        if self.tap is not None:
            self.tap.close(link)

    def half_open(self, link: Link) -> None:
        """A client that never closes its side would hold two sockets for ever."""
        moves = link.moves

        def look() -> None:
            if link in self.links:
                if link.moves == moves:
                    link.close()
                else:
                    self.half_open(link)

        self.reactor.call_later(HALF_OPEN_SECONDS, look)

    def drain(self, seconds: float, then: Callable[[], None]) -> None:
        """Accept no more; let open exchanges end for at most so long, then close what is left.

        Without parsing, an exchange counts as open while the client spoke last, or the upstream not long ago.
        """
        self._door.close()
        deadline = self.reactor.time() + seconds

        def look(before: dict[Link, int]) -> None:
            for link in [link for link in self.links if before.get(link) == link.moves and link.turn != CLIENT]:
                link.close()
            if not self.links:
                then()
            elif (left := deadline - self.reactor.time()) > 0:
                now = {link: link.moves for link in self.links}
                quiet = QUIET_SECONDS if left > seconds / 4 else HURRIED_SECONDS
                self.reactor.call_later(min(quiet, left), lambda: look(now))
            else:
                self._cut(then)

        look({})

    def _cut(self, then: Callable[[], None]) -> None:
        """Close all; a client that does not read loses what waits for it."""
        for link in tuple(self.links):
            link.close()

        def reset() -> None:
            for link in tuple(self.links):
                link.reset()
            then()

        self.reactor.call_later(0.1 if self.links else 0.0, reset)

    def _accepted(self, client: socket.socket) -> None:
        prepare(client)
        self._number += 1
        link = Link(self._number, self, client)
        self.links.add(link)
        self.counters[_CONNECTIONS] += 1
        link.client.expect()
        self.upstream.targets(lambda targets: self._connect(link, list(targets), "failed"))

    def _connect(self, link: Link, targets: list[Target], reason: str) -> None:
        """Try one target after the other."""
        if link not in self.links:
            return
        if not targets:
            self.counters[sample("upstream_errors_total", reason=reason)] += 1
            link.reset()  # without a sidecar the connection would be refused; a reset comes nearest
            return
        family, address = targets.pop(0)
        try:
            upstream = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no descriptor left
            self._connect(link, [], "failed")
            return
        prepare(upstream)
        Attempt(self.reactor, upstream, partial(self._attempted, link, upstream, targets)).begin(address)

    def _attempted(self, link: Link, upstream: socket.socket, targets: list[Target], reason: str) -> None:
        """A connection is there (no reason), or not."""
        if reason:
            self.reactor.close_later(upstream)
            self._connect(link, targets, reason)
        elif link in self.links:
            link.join(upstream)
        else:
            self.reactor.close_later(upstream)
