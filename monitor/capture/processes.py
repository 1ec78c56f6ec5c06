"""What a process of the relay becomes: the only one, which has the administration port; one of several; their head."""

from __future__ import annotations

import gc
import logging
import resource
import socket

from monitor.capture.addresses import remove
from monitor.capture.admin import AdminPort
from monitor.capture.board import Board
from monitor.capture.listening import CannotListenError, announce, listeners
from monitor.capture.plan import Plan, read_plan
from monitor.capture.reactor import Reactor
from monitor.capture.sidecar import Reporter, Sidecar

_logger = logging.getLogger("offpath.capture")


def prepare() -> None:
    """Two descriptors a connection: the usual soft limit of 1024 would end at 500 clients."""
    logging.basicConfig(level=logging.INFO, format="offpath capture: %(message)s")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def alone(plan: Plan, descriptor: int) -> None:
    """The only relay process, with the administration port. Raises :class:`CannotListenError`."""
    reactor = Reactor()
    (own,) = listeners(plan.listen, "listen")
    ((*admins,),) = listeners(plan.admin, "admin")
    sidecar = Sidecar(reactor, plan, descriptor, own)
    ports = [AdminPort(reactor, admin, sidecar.pages()) for admin in admins]
    announce(own[0], plan, admins[0])
    sidecar.start()
    run(reactor)
    for port in ports:
        port.close()
    for address in (plan.listen, plan.admin):
        remove(address)
    reactor.close()


def run(reactor: Reactor) -> None:
    """Turn; what there is now stays, so the collector need not look at it again."""
    gc.freeze()
    reactor.run()


def worker(plan_descriptor: int, number: int, listening: list[int], board: int, head: int) -> int:
    """One of several relay processes; returns its exit status."""
    prepare()
    reactor = Reactor()
    own = [socket.socket(fileno=descriptor) for descriptor in listening]
    sidecar = Sidecar(reactor, read_plan(plan_descriptor), plan_descriptor, own, number)
    reporter = Reporter(reactor, Board(board), socket.socket(fileno=head), sidecar)
    sidecar.start()
    run(reactor)
    reporter.report()
    return 0


def main(descriptor: int) -> int:
    """Run the relay process, or the head of several; returns the exit status."""
    prepare()
    plan = read_plan(descriptor)
    try:
        if plan.workers > 1:
            from monitor.capture import head

            head.run(plan, descriptor)
        else:
            alone(plan, descriptor)
    except CannotListenError as error:
        _logger.error("%s", error)
        return 1
    return 0
