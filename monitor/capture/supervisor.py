"""Keeps a shipper running behind the tap, and counts what a dying one takes along."""

from __future__ import annotations

import socket

from monitor.capture.child import Child
from monitor.capture.metrics import Ledger, sample
from monitor.capture.reactor import Reactor
from monitor.capture.relay import Relay
from monitor.capture.tap import Tap

_DIED_FRAMES = sample("dropped_frames_total", reason="shipper_died")
_DIED_MESSAGES = sample("discarded_messages_total", reason="shipper_died")
_UP, _STARTS = sample("shipper_up"), sample("shipper_starts_total")


class Supervisor(Child):
    """Starts the shipper, brings its counters to the ledger, starts it again when it dies.

    Parameters
    ----------
    plan : descriptor that the shipper reads its plan from.
    worker : number of this relay process; each one's shipper has a spool of its own.
    """

    def __init__(self, reactor: Reactor, plan: int, worker: int, tap: Tap, relay: Relay, ledger: Ledger) -> None:
        super().__init__(reactor, "the shipper", "shipper", (plan,))
        self._worker, self._tap, self._relay, self._ledger = worker, tap, relay, ledger

    def arguments(self) -> list[str]:
        return [str(self._worker)]

    def up(self, ours: socket.socket) -> None:
        self._ledger.own[_STARTS] += 1
        self._ledger.own[_UP] = 1
        self._tap.attach(ours)

    def count(self) -> None:
        """Bring the ledger up to date."""
        if self.is_up:
            self._ledger.report(self.board.read().counters)
        elif self.given_up:
            self.gone()

    def down(self) -> None:
        """What the shipper was given and had not settled is lost, and so is what it had begun to put together."""
        told = self.board.read()
        own = self._ledger.own
        own[_DIED_FRAMES] += max(self._tap.detach() - told.settled, 0)
        own[_DIED_MESSAGES] += told.open
        own[_UP] = 0
        self._ledger.report(told.counters)
        self._ledger.shipper_gone()
        for link in self._relay.links:
            self._tap.interrupt(link)

    def gone(self) -> None:
        """What was copied since is for nobody."""
        self._ledger.own[_DIED_FRAMES] += self._tap.detach()

    def finish(self) -> None:
        self._tap.finish()
