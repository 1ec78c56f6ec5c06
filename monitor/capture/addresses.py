"""Addresses to sockets: listening ones, and where to connect."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from monitor.capture.plan import Address
from monitor.capture.reactor import Reactor

BACKLOG = 1024
NAME_SECONDS = 5.0
"""How long a resolved host name is believed."""

Target = tuple[int, tuple[str | int, ...] | str]
"""Address family, and what ``connect`` takes."""


def resolve(address: Address, flags: int = 0) -> list[Target]:
    """Every socket address of an address. Raises :class:`OSError`."""
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((int(family), cast("tuple[str | int, ...]", where)) for family, _, _, _, where in found))


def bind(address: Address, workers: int = 1) -> list[list[socket.socket]]:
    """Listening sockets, one list for each worker: TCP ports are shared by ``SO_REUSEPORT``, a Unix socket as it is.

    A port of 0 becomes one free port, the same for all. Raises :class:`OSError`.
    """
    if address.path:
        shared = _bind_path(address.path)
        return [[shared if number == 0 else shared.dup()] for number in range(workers)]
    port = address.port
    made: list[list[socket.socket]] = [[] for _ in range(workers)]
    try:
        for family, where in resolve(address, socket.AI_PASSIVE):
            for sockets in made:
                listener = _bind_port(family, (where[0], port, *where[2:]), workers > 1)
                sockets.append(listener)
                port = port or listener.getsockname()[1]
    except BaseException:
        for listener in [listener for sockets in made for listener in sockets]:
            listener.close()
        raise
    return made


def bound(listener: socket.socket) -> Address:
    """Where a socket listens."""
    name = listener.getsockname()
    return Address(f"unix:{name}", 0) if listener.family == socket.AF_UNIX else Address(name[0], name[1])


def remove(address: Address) -> None:
    """Take a Unix socket's file away; others leave nothing behind."""
    if address.path:
        with suppress(OSError):
            os.unlink(address.path)  # noqa: PTH108 - pathlib costs the relay a megabyte


class Upstream:
    """Where the model server is. A host name is looked up in a thread, so that no other connection waits.

    Parameters
    ----------
    reactor : told of a name's addresses.
    """

    def __init__(self, reactor: Reactor, address: Address) -> None:
        self._reactor, self._address = reactor, address
        self._known: list[Target] | None = None
        self._until = float("inf")
        self._waiting: list[Callable[[Sequence[Target]], None]] = []
        with suppress(OSError):
            self._known = resolve(address, socket.AI_NUMERICHOST)

    def __str__(self) -> str:
        return str(self._address)

    def targets(self, then: Callable[[Sequence[Target]], None]) -> None:
        """Call ``then`` with the addresses; with none if the name is unknown."""
        if self._known is not None and self._reactor.time() < self._until:
            then(self._known)
            return
        self._waiting.append(then)
        if len(self._waiting) == 1:
            threading.Thread(target=self._look_up, daemon=True).start()

    def _look_up(self) -> None:
        found: list[Target] = []
        with suppress(OSError):
            found = resolve(self._address)
        self._reactor.call_from_thread(lambda: self._found(found))

    def _found(self, targets: list[Target]) -> None:
        self._known, self._until = targets or None, self._reactor.time() + NAME_SECONDS
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(targets)


def _bind_port(family: int, where: tuple[str | int, ...], shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # "::" takes IPv4 too; of a name with both kinds, each has its own socket
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != "::"))
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_path(path: str) -> socket.socket:
    """A file that nobody listens on any more is left over, and replaced."""
    with socket.socket(socket.AF_UNIX) as probe:
        code = probe.connect_ex(path)
    if code in (0, errno.EAGAIN):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if code == errno.ECONNREFUSED and stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - as above
        os.unlink(path)  # noqa: PTH108
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
