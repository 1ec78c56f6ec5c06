"""Serves an application from a thread of its own: the worker's loop is busy with detectors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

START_SECONDS = 10.0


class PageServer:
    """A running server; ``address`` is where it listens, as ``http://host:port``. ``close`` is called at the end."""

    def __init__(
        self, app: FastAPI, listen: str, setting: str = "worker.listen", close: Callable[[], object] = lambda: None
    ) -> None:
        import uvicorn

        self._close = close
        self._socket = bind(listen, setting)
        self.address = url_of(self._socket)
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="page", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests at hand and end."""
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        self._socket.close()
        self._close()


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def bind(listen: str, setting: str = "worker.listen", backlog: int = 128) -> socket.socket:
    """A listening socket of ``host:port``; port 0 is any free one.

    Raises
    ------
    ValueError : it is not of the form ``host:port``.
    OSError : somebody else listens there, or the host is not ours.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{listen!r} is no host:port ({setting}), such as 127.0.0.1:9090")
    family = socket.AF_INET6 if ":" in host.strip("[]") else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {listen} ({setting}): {error.strerror or error}; "
            f"give another with --{setting.rpartition('.')[2]}"
        ) from error
    return listener
