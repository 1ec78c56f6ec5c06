"""What is in a relay process: relay, tap, supervisor of the shipper, and an orderly end."""

from __future__ import annotations

import logging
import signal
import socket

from monitor.capture.accepting import room
from monitor.capture.addresses import Upstream
from monitor.capture.admin import Answer, Pages
from monitor.capture.board import SAMPLES, Board
from monitor.capture.metrics import Ledger, sample
from monitor.capture.pages import healthz, metrics, readyz, summary
from monitor.capture.plan import Plan
from monitor.capture.reactor import Reactor
from monitor.capture.relay import Relay
from monitor.capture.supervisor import Supervisor
from monitor.capture.tap import Tap

EXCHANGES_SHARE = 0.5
"""Share of the grace period that open exchanges get; the shipper gets what is left."""

REPORT_SECONDS = 0.2

_QUEUE, _ROOM = sample("queue_bytes"), sample("connections_room")
_WORKERS, _WORKER_STARTS = sample("workers"), sample("worker_starts_total")

_logger = logging.getLogger("offpath.capture")


class Sidecar:
    """Everything in a relay process.

    Parameters
    ----------
    descriptor : where the plan came from, for the shipper.
    listeners : where clients come in.
    number : of this relay process, from 0.
    """

    def __init__(
        self, reactor: Reactor, plan: Plan, descriptor: int, listeners: list[socket.socket], number: int = 0
    ) -> None:
        self._plan, self._reactor, self._listeners = plan, reactor, listeners
        self.ledger = Ledger()
        self._tap = Tap(reactor, plan.queue, self.ledger.own) if plan.copy else None
        self.ledger.own[_ROOM] = most = room()
        self.relay = Relay(reactor, Upstream(reactor, plan.upstream), self._tap, self.ledger.own, most)
        self._supervisor = (
            Supervisor(reactor, descriptor, number, self._tap, self.relay, self.ledger) if self._tap else None
        )
        self._until = 0.0

    def start(self) -> None:
        """Serve; from SIGTERM or SIGINT on, drain and then stop the reactor."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            self._reactor.on_signal(signal_number, self.stop)
        if self._supervisor is not None:
            self._supervisor.start()
        self.relay.listen(self._listeners)

    def stop(self) -> None:
        if self._until:
            return
        _logger.info("stopping: %d connections open", len(self.relay.links))
        self._until = self._reactor.time() + self._plan.grace
        self.relay.drain(self._plan.grace * EXCHANGES_SHARE, self._drained)

    def _drained(self) -> None:
        if self._supervisor is None:
            self._stopped()
        else:
            self._supervisor.stop(self._until - self._reactor.time(), self._stopped)

    def _stopped(self) -> None:
        _logger.info("stopped: %s", summary(self.ledger))
        self._reactor.stop()

    def count(self) -> None:
        """Bring the ledger up to date."""
        self.relay.count()
        if self._tap is not None:
            self._tap.count()
            self.ledger.own[_QUEUE] = self._tap.held
        if self._supervisor is not None:
            self._supervisor.count()

    def pages(self) -> Pages:
        """What the administration port shows."""
        return {"/metrics": self._metrics, "/healthz": healthz, "/readyz": self._readyz}

    def _metrics(self) -> Answer:
        self.count()
        self.ledger.own[_WORKERS] = self.ledger.own[_WORKER_STARTS] = 1
        return metrics(self.ledger)

    def _readyz(self) -> Answer:
        """Ready means that inference passes; a shipper that is away hurts none and shows in the metrics."""
        return readyz(self.relay.listening)


class Reporter:
    """Keeps a worker's board up to date, and sees when the head of all has died."""

    def __init__(self, reactor: Reactor, board: Board, head: socket.socket, sidecar: Sidecar) -> None:
        self._reactor, self._board, self._head, self._sidecar = reactor, board, head, sidecar
        head.setblocking(False)
        reactor.add_reader(head.fileno(), self._ended)
        self._turn()

    def report(self) -> None:
        self._sidecar.count()
        ledger = self._sidecar.ledger
        self._board.write(0, 0, {name: ledger[name] for name in SAMPLES})

    def _turn(self) -> None:
        self.report()
        self._reactor.call_later(REPORT_SECONDS, self._turn)

    def _ended(self) -> None:
        self._reactor.remove_reader(self._head.fileno())
        self._sidecar.stop()
