"""The relay process: relay, tap, supervisor of the shipper, administration port, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Awaitable
from typing import TypeVar

import uvloop

from monitor.capture.admin import AdminProtocol, Answer
from monitor.capture.metrics import METRICS, Ledger, sample
from monitor.capture.plan import Address, Plan, read_plan
from monitor.capture.relay import Relay
from monitor.capture.supervisor import Supervisor
from monitor.capture.tap import Tap

EXCHANGES_SHARE = 0.5
"""Share of the grace period that open exchanges get; the shipper gets what is left."""

_QUEUE = sample("queue_bytes")

T = TypeVar("T")

_logger = logging.getLogger("offpath.capture")


class CannotListenError(RuntimeError):
    """An address cannot be bound; the message says which and why."""


class Sidecar:
    """Everything in the relay process."""

    def __init__(self, plan: Plan, descriptor: int) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self.ledger = Ledger()
        self._tap = Tap(self._loop, plan.queue, self.ledger.own) if plan.copy else None
        self.relay = Relay(plan.upstream, self._tap, self.ledger.own)
        self._supervisor = Supervisor(descriptor, self._tap, self.relay, self.ledger) if self._tap else None
        self._end = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises :class:`CannotListenError`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end.set)
        listen = await _bound(self.relay.listen(self._plan.listen), self._plan.listen, "listen")
        pages = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        admin = self._plan.admin
        server = await _bound(
            self._loop.create_server(lambda: AdminProtocol(pages), admin.host, admin.port), admin, "admin"
        )
        if self._supervisor is not None:
            self._supervisor.start()
        shown = Address(*server.sockets[0].getsockname()[:2])
        _logger.info("relaying %s to %s, administration at http://%s", listen, self._plan.upstream, shown)
        await self._end.wait()
        await self._stop()
        server.close()

    async def _stop(self) -> None:
        _logger.info("stopping: %d connections open", len(self.relay.links))
        until = self._loop.time() + self._plan.grace
        await self.relay.drain(self._plan.grace * EXCHANGES_SHARE)
        if self._supervisor is not None:
            await self._supervisor.stop(until - self._loop.time())
        _logger.info("stopped: %s", self._summary())

    def _summary(self) -> str:
        counts = {m.name: sum(int(self.ledger[key]) for key in m.samples) for m in METRICS}
        shown = ("events", "published", "spooled", "dropped_events", "dropped_frames", "discarded_messages")
        return ", ".join(f"{name.replace('_', ' ')} {counts[f'offpath_capture_{name}_total']}" for name in shown)

    def _metrics(self) -> Answer:
        self.relay.count()
        self.ledger.own[_QUEUE] = self._tap.held if self._tap is not None else 0
        return Answer(200, self.ledger.text(), "text/plain; version=0.0.4; charset=utf-8")

    def _healthz(self) -> Answer:
        return Answer(200, "ok\n")

    def _readyz(self) -> Answer:
        """Ready means that inference passes; a shipper that is away hurts none and shows in the metrics."""
        return Answer(200, "ready\n") if self.relay.listening else Answer(503, "stopping\n")


async def _bound(binding: Awaitable[T], address: Address, which: str) -> T:
    try:
        return await binding
    except OSError as error:
        raise CannotListenError(
            f"capture.{which}: cannot listen on {address}: {error.strerror or error}; "
            f"give another address with --{which} host:port"
        ) from error


def _raise_file_limit() -> None:
    """Two descriptors a connection: the usual soft limit of 1024 would end at 500 clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(plan: Plan, descriptor: int) -> None:
    await Sidecar(plan, descriptor).run()


def main(descriptor: int) -> int:
    """Run the relay process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="offpath capture: %(message)s")
    _raise_file_limit()
    try:
        uvloop.run(_serve(read_plan(descriptor), descriptor))
    except CannotListenError as error:
        _logger.error("%s", error)
        return os.EX_UNAVAILABLE
    return 0
