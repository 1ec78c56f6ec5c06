"""Keeps a shipper running behind the tap, and counts what a dying one takes along."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from monitor.capture import __main__ as entry
from monitor.capture.frames import REPORT, FrameReader
from monitor.capture.metrics import Ledger, sample
from monitor.capture.relay import Relay
from monitor.capture.tap import Tap

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a dead shipper is started again; the pause doubles up to the longest."""

WELL_SECONDS = 30.0
"""A shipper that ran so long was well: the next pause is the first one again."""

SOCKET_BYTES = 1024 * 1024

_DIED_FRAMES = sample("dropped_frames_total", reason="shipper_died")
_DIED_MESSAGES = sample("discarded_messages_total", reason="shipper_died")
_UP, _STARTS = sample("shipper_up"), sample("shipper_starts_total")

_logger = logging.getLogger("offpath.capture")


def command(role: str, *arguments: str) -> list[str]:
    """The command line of one of the sidecar's processes."""
    return [sys.executable, str(Path(entry.__file__)), role, *arguments]


class Supervisor:
    """Starts the shipper, feeds its reports to the ledger, starts it again when it dies.

    Parameters
    ----------
    plan : descriptor that the shipper reads its plan from.
    """

    def __init__(self, plan: int, tap: Tap, relay: Relay, ledger: Ledger) -> None:
        self._plan, self._tap, self._relay, self._ledger = plan, tap, relay, ledger
        self._loop = asyncio.get_running_loop()
        self._pause = FIRST_PAUSE
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._started = 0.0
        self._settled = self._open = 0
        self._stopping = False
        self._gone = asyncio.Event()

    def start(self) -> None:
        """Start a shipper and connect the tap to it."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.setblocking(False)
        theirs.set_inheritable(True)
        with theirs:
            descriptors = (self._plan, theirs.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                command("shipper", *map(str, descriptors)), pass_fds=descriptors, stdin=subprocess.DEVNULL
            )
        self._socket, self._reader = ours, FrameReader()
        self._started, self._settled, self._open = self._loop.time(), 0, 0
        self._gone.clear()
        self._ledger.own[_STARTS] += 1
        self._ledger.own[_UP] = 1
        self._loop.add_reader(ours.fileno(), self._readable)
        self._tap.attach(ours)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def stop(self, seconds: float) -> None:
        """Let the shipper finish within so long; kill it after that. What it could not do is counted."""
        self._stopping = True
        if self._process is None:
            return
        self._tap.finish()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._gone.wait(), max(seconds, 0.1))
        if not self._gone.is_set():
            _logger.warning("the shipper did not finish in time and is killed")
            self._process.kill()
            await self._gone.wait()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return
        for frame in self._reader.feed(data):
            if frame.kind == REPORT:
                told = json.loads(frame.payload)
                self._settled, self._open = told["settled"], told["open"]
                self._ledger.report(told["counters"])

    def _died(self) -> None:
        assert self._socket is not None
        assert self._process is not None
        self._loop.remove_reader(self._socket.fileno())
        queued = self._tap.detach()
        self._socket.close()
        self._socket = None
        own = self._ledger.own
        own[_DIED_FRAMES] += max(queued - self._settled, 0)
        own[_DIED_MESSAGES] += self._open
        own[_UP] = 0
        self._ledger.shipper_gone()
        for link in self._relay.links:
            self._tap.interrupt(link)
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        status = self._process.poll()
        if status is None:  # it has closed its socket and is about to end
            self._loop.call_later(0.02, self._reap)
            return
        self._process = None
        self._gone.set()
        if self._stopping:
            return
        if self._loop.time() - self._started > WELL_SECONDS:
            self._pause = FIRST_PAUSE
        _logger.error("the shipper ended with status %d; starting it again in %.1f s", status, self._pause)
        self._loop.call_later(self._pause, self._restart)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _restart(self) -> None:
        if self._stopping:
            return
        try:
            self.start()
        except OSError as error:
            _logger.error("the shipper cannot be started, trying again in %.1f s: %s", self._pause, error)
            self._loop.call_later(self._pause, self._restart)
