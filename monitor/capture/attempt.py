"""Connecting to one address of the upstream, without waiting."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

from monitor.capture.reactor import OUT, Reactor, Timer

CONNECT_SECONDS = 30.0
FULL_SECONDS = 0.1
"""Time until the next attempt, when there are no descriptors left or the upstream's queue is full."""

_REASONS = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.EAGAIN: "timeout"}


class Attempt:
    """One try to reach one address.

    Parameters
    ----------
    reactor : calls it.
    connection : a prepared socket.
    done : told why there is no connection, or nothing when there is one.
    """

    def __init__(self, reactor: Reactor, connection: socket.socket, done: Callable[[str], None]) -> None:
        self._reactor, self._socket, self._done = reactor, connection, done
        self._until = reactor.time() + CONNECT_SECONDS
        self._timer: Timer | None = None

    def begin(self, address: tuple[str | int, ...] | str) -> None:
        code = self._socket.connect_ex(address)
        reactor = self._reactor
        if code == errno.EAGAIN and reactor.time() < self._until:  # a Unix socket's queue is full: none tells when not
            self._timer = reactor.call_later(FULL_SECONDS, lambda: self.begin(address))
        elif code == errno.EINPROGRESS:
            self._timer = reactor.call_later(CONNECT_SECONDS, lambda: self._end(errno.ETIMEDOUT))
            reactor.watch(self._socket.fileno(), OUT, self._ready)
        else:
            self._end(code)

    def _ready(self, _: int) -> None:
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _end(self, code: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._done(_REASONS.get(code, "failed") if code else "")


def prepare(connection: socket.socket) -> None:
    """What every connection of the relay is: it never waits, and sends at once."""
    connection.setblocking(False)
    if connection.family != socket.AF_UNIX:
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
