"""A process at the other end of a socket pair, started again when it dies; its counters are on a board."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.capture.board import Board
from monitor.capture.reactor import Reactor

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a dead process is started again; the pause doubles up to the longest."""

WELL_SECONDS = 30.0
"""A process that ran so long was well: the next pause is the first one again."""

SOCKET_BYTES = 1024 * 1024

_ENTRY = str(Path(__file__).with_name("__main__.py"))

_logger = logging.getLogger("offpath.capture")


def command(role: str, *arguments: str) -> list[str]:
    """The command line of one of the sidecar's processes."""
    return [sys.executable, _ENTRY, role, *arguments]


class Child:
    """Starts a process, reads its board, starts it again when it dies. Its kinds say what all that means.

    One that ends with ``EX_CONFIG`` (sysexits.h) cannot work as it is configured, has said why, and would say so again:
    it is not started again.

    Parameters
    ----------
    reactor : calls it.
    name : what messages call the process.
    role : what it is told to be, before its descriptors.
    descriptors : inherited, before its board and its end of the socket pair.
    """

    def __init__(self, reactor: Reactor, name: str, role: str, descriptors: Sequence[int]) -> None:
        self.reactor = reactor
        self.name = name
        board = Board.make()
        self.board = Board(board)
        self._role, self._descriptors = role, (*descriptors, board)
        self._pause = FIRST_PAUSE
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._started = 0.0
        self._stopping = False
        self.given_up = False
        self._then: Callable[[], None] | None = None

    def arguments(self) -> list[str]:
        """What follows the descriptors."""
        return []

    def up(self, ours: socket.socket) -> None:
        """The process runs."""

    def down(self) -> None:
        """The process has closed its end; its board says how far it came."""

    def gone(self) -> None:
        """There is no process, and none will follow."""

    def finish(self) -> None:
        """Let the process see that it is to end."""

    def start(self) -> None:
        """Start a process. Raises :class:`OSError`."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.setblocking(False)
        descriptors = (*self._descriptors, theirs.fileno())
        try:
            with theirs:
                line = command(self._role, *map(str, descriptors), *self.arguments())
                self._process = subprocess.Popen(line, pass_fds=descriptors, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
        except BaseException:
            ours.close()
            raise
        self._socket, self._started = ours, self.reactor.time()
        self.reactor.add_reader(ours.fileno(), self._readable)
        self.up(ours)

    @property
    def is_up(self) -> bool:
        return self._socket is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def stop(self, seconds: float, then: Callable[[], None]) -> None:
        """Let the process finish within so long, kill it after that, and call ``then``."""
        self._stopping, self._then = True, then
        if self._process is None:
            self.gone()
            self._end()
            return
        self.finish()

        def late() -> None:
            if self._process is not None:
                _logger.warning("%s did not finish in time and is killed", self.name)
                self._process.kill()

        self.reactor.call_later(max(seconds, 0.1), late)

    def _end(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return

    def _died(self) -> None:
        assert self._socket is not None
        self.reactor.remove_reader(self._socket.fileno())
        self.down()
        self.board.clear()
        self._socket.close()
        self._socket = None
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        status = self._process.poll()
        if status is None:  # it has closed its socket and is about to end
            self.reactor.call_later(0.02, self._reap)
            return
        self._process = None
        if self._stopping:
            self._end()
            return
        if status == os.EX_CONFIG:
            self.given_up = True
            _logger.error(
                "%s cannot work as it is configured and is not started again: requests are relayed, and none is "
                "captured before the sidecar is started anew",
                self.name,
            )
            self.gone()
            return
        if self.reactor.time() - self._started > WELL_SECONDS:
            self._pause = FIRST_PAUSE
        _logger.error("%s ended with status %d; starting it again in %.1f s", self.name, status, self._pause)
        self.reactor.call_later(self._pause, self._restart)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _restart(self) -> None:
        if self._stopping:
            return
        try:
            self.start()
        except OSError as error:
            _logger.error("%s cannot be started, trying again in %.1f s: %s", self.name, self._pause, error)
            self.reactor.call_later(self._pause, self._restart)
