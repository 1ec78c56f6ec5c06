"""Several relay processes on one port: starts them, shows them as one, and starts again what dies.

Each has a listening socket of its own on the shared port (``SO_REUSEPORT``), so that the kernel spreads connections; a
Unix socket is shared as it is. The sockets stay open here: what a dead worker had not accepted waits for its successor.
Each worker has a shipper of its own: one for all would be the narrowest place of the whole, its death a loss to all.
"""

from __future__ import annotations

import logging
import os
import signal
import socket

from monitor.capture.addresses import remove
from monitor.capture.admin import AdminPort, Answer
from monitor.capture.child import Child
from monitor.capture.listening import announce, listeners
from monitor.capture.metrics import Ledger, sample
from monitor.capture.pages import healthz, metrics, readyz, summary
from monitor.capture.plan import Plan
from monitor.capture.reactor import Reactor

PATIENCE = 1.0
"""Seconds beyond the grace period that a worker gets to end by itself."""

_WORKERS, _STARTS = sample("workers"), sample("worker_starts_total")
_OF_THE_LIVING = tuple(map(sample, ("connections", "connections_room", "queue_bytes", "shipper_up")))

_logger = logging.getLogger("offpath.capture")


class Worker(Child):
    """One relay process, and what it has counted."""

    def __init__(self, reactor: Reactor, number: int, plan: int, sockets: list[socket.socket], total: Ledger) -> None:
        descriptors = [listener.fileno() for listener in sockets]
        super().__init__(reactor, f"worker {number}", "worker", (plan, *descriptors))
        self._number, self._total = number, total
        self.ledger = Ledger()

    def arguments(self) -> list[str]:
        return [str(self._number)]

    def up(self, ours: socket.socket) -> None:  # noqa: ARG002 - as in :class:`Child`
        self._total.own[_STARTS] += 1
        self._total.own[_WORKERS] += 1

    def count(self) -> None:
        """Bring the ledger up to date."""
        if self.is_up:
            self.ledger.report(self.board.read().counters)

    def down(self) -> None:
        self.count()
        self._total.own[_WORKERS] -= 1
        self.ledger.shipper_gone()
        self.ledger.report(dict.fromkeys(_OF_THE_LIVING, 0.0))

    def finish(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)


class Head:
    """All workers and the administration port."""

    def __init__(self, plan: Plan, descriptor: int) -> None:
        self._plan = plan
        self._reactor = Reactor()
        self._sockets = listeners(plan.listen, "listen", plan.workers)
        (self._admins,) = listeners(plan.admin, "admin")
        self._total = Ledger()
        self._workers = [
            Worker(self._reactor, number, descriptor, sockets, self._total)
            for number, sockets in enumerate(self._sockets)
        ]
        self._total.parts = [worker.ledger for worker in self._workers]
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then let every worker drain."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._reactor.on_signal(number, self._stop)
        for worker in self._workers:
            worker.start()
        pages = {"/metrics": self._metrics, "/healthz": healthz, "/readyz": self._readyz}
        for admin in self._admins:
            AdminPort(self._reactor, admin, pages)
        announce(self._sockets[0][0], self._plan, self._admins[0])
        self._reactor.run()
        for address in (self._plan.listen, self._plan.admin):
            remove(address)
        _logger.info("all workers stopped: %s", summary(self._total))

    def _metrics(self) -> Answer:
        for worker in self._workers:
            worker.count()
        return metrics(self._total)

    def _readyz(self) -> Answer:
        return readyz(not self._stopping and any(worker.is_up for worker in self._workers))

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        left = set(self._workers)
        for sockets in self._sockets:  # what nobody accepts is refused, as by a process that has ended
            for listener in sockets:
                listener.close()

        def ended(worker: Worker) -> None:
            left.discard(worker)
            if not left:
                self._reactor.stop()

        for worker in self._workers:
            worker.stop(self._plan.grace + PATIENCE, lambda worker=worker: ended(worker))  # type: ignore[misc]


def run(plan: Plan, descriptor: int) -> None:
    """Be the head. Raises :class:`~monitor.capture.listening.CannotListenError`."""
    Head(plan, descriptor).run()
