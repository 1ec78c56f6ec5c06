"""The demo's processes: started as users start them, stopped together, never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from monitor.configuration.environment import NOT_SETTINGS, PREFIX

STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class ProcessDied(RuntimeError):
    """A process of the demo ended by itself; the message holds the end of what it printed."""


def reserve(usual: int) -> tuple[socket.socket, int]:
    """A bound socket: on the usual port, or on a free one if that is taken. It listens from the start."""
    for port in (usual, 0):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener, int(listener.getsockname()[1])
    raise RuntimeError("no port of 127.0.0.1 is free")


def free_port(usual: int) -> int:
    """The usual port if it is free, else another."""
    listener, port = reserve(usual)
    listener.close()
    return port


def overrides() -> list[str]:
    """Variables that would change the demo's configuration: it has its own, and is told by itself what is well."""
    names = (name for name in os.environ if name.startswith(PREFIX) and name not in NOT_SETTINGS)
    return sorted(name for name in names if not name.startswith("OFFPATH_TEST_"))


class Processes:
    """Children with a log file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        """Run ``python -m ...``; its output goes to ``NAME.log``."""
        own = {variable: value for variable, value in os.environ.items() if variable not in overrides()}
        environ = {**own, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (self._folder / f"{name}.log").open("wb") as log:
            self._children[name] = subprocess.Popen(  # noqa: S603  our own interpreter and modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                env=environ,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops them in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509  the demo has no other threads when it starts them
            )

    def check(self) -> None:
        """Raise :class:`ProcessDied` if one has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                text = (self._folder / f"{name}.log").read_text(errors="replace")
                raise ProcessDied(f"the {name} ended with status {child.returncode}:\n{text[-2000:]}")

    def said(self, name: str, words: str) -> bool:
        """Whether these words are in what it has put out."""
        return words in (self._folder / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str) -> None:
        """Ask these, or all, to end, those started first last, and wait for them; a second Ctrl-C changes nothing."""
        with _undisturbed():
            for name in [name for name in reversed(self._children) if not names or name in names]:
                _end(self._children.pop(name))


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if child.poll() is None:
        child.kill()
        child.wait()


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Linux: no orphans even when the demo itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
