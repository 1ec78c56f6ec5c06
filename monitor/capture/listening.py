"""The addresses of the sidecar: bound, or why not."""

from __future__ import annotations

import logging
import socket

from monitor.capture.addresses import bind, bound
from monitor.capture.plan import Address, Plan

_logger = logging.getLogger("offpath.capture")


class CannotListenError(RuntimeError):
    """An address cannot be bound; the message says which and why."""


def listeners(address: Address, which: str, workers: int = 1) -> list[list[socket.socket]]:
    """Listening sockets. Raises :class:`CannotListenError`."""
    try:
        return bind(address, workers)
    except OSError as error:
        raise CannotListenError(
            f"capture.{which}: cannot listen on {address}: {error.strerror or error}; "
            f"give another address with --{which} host:port"
        ) from error


def announce(listener: socket.socket, plan: Plan, admin: socket.socket) -> None:
    """Say where the sidecar is, once it is there."""
    where = bound(admin)
    shown = where if where.path else f"http://{where}"
    _logger.info("relaying %s to %s, administration at %s", bound(listener), plan.upstream, shown)
