"""Accepting clients, as many as the limit of open files has room for. Who comes after them waits in the kernel's queue.

A client that is accepted and then gets no connection to the upstream would see a reset: waiting is better, and what is
open goes on undisturbed.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
from collections.abc import Callable, Sequence

from monitor.capture.attempt import FULL_SECONDS
from monitor.capture.metrics import Counters, sample
from monitor.capture.quiet import Quiet
from monitor.capture.reactor import IN, Reactor

AT_ONCE = 64
"""Clients accepted in one go."""

KEPT_BACK = 48
"""Descriptors for everything else: the administration port's visitors, so that a full sidecar can still be looked at, a
shipper that has to be started again, the processes' own."""

_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSES = sample("accept_pauses_total")

_logger = logging.getLogger("offpath.capture")


def room() -> int:
    """Client connections that the limit of open files has room for: each needs two descriptors."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((allowed - KEPT_BACK) // 2, 1)


class Door:
    """Listening sockets.

    Parameters
    ----------
    reactor : calls it.
    most : clients inside at once.
    counters : where pauses are counted.
    enter : called with each client's socket.
    """

    def __init__(self, reactor: Reactor, most: int, counters: Counters, enter: Callable[[socket.socket], None]) -> None:
        self._reactor, self._most, self._counters, self._enter = reactor, most, counters, enter
        self._listeners: list[socket.socket] = []
        self._inside = 0
        self._shut = False
        self._quiet = Quiet(_logger)

    @property
    def is_open(self) -> bool:
        """Whether there are listening sockets, be they at rest just now."""
        return bool(self._listeners)

    def open(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on these sockets from now on."""
        for listener in listeners:
            listener.setblocking(False)
            self._listeners.append(listener)
        self._resume()

    def close(self) -> None:
        """Accept no more; who waits is refused."""
        for listener in self._listeners:
            self._reactor.close_later(listener)
        self._listeners.clear()

    def leave(self) -> None:
        """One who was inside has gone."""
        self._inside -= 1
        if self._shut and self._inside < self._most:
            self._resume()

    def _resume(self) -> None:
        self._shut = False
        for listener in self._listeners:
            self._reactor.watch(listener.fileno(), IN, lambda _, listener=listener: self._accept(listener))  # type: ignore[misc]

    def _pause(self) -> None:
        self._counters[_PAUSES] += 1
        for listener in self._listeners:
            self._reactor.forget(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if self._inside >= self._most:
                self._fill()
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _FULL:
                    self._stumble(error)
                    return
                continue  # that client is gone again
            self._inside += 1
            self._enter(client)

    def _fill(self) -> None:
        self._shut = True
        self._pause()
        self._quiet.say(
            logging.WARNING,
            "full",
            f"{self._inside} clients are connected, and the limit of open files has no room for more, who wait: "
            "raise it (ulimit -Hn, LimitNOFILE=), or set capture.workers higher",
        )

    def _stumble(self, error: OSError) -> None:
        """The system has nothing left, whatever this process is allowed: nobody tells when it has."""
        self._pause()
        self._quiet.say(logging.WARNING, "stumble", f"no client can be accepted for a moment: {error.strerror}")
        self._reactor.call_later(FULL_SECONDS, self._resume)
