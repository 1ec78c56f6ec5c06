"""The shipper process: frames from the relay to events, and events to where they go.

It gives way to the relay (``nice``), and dies with it: the end of the tap is the only signal that ends it, so that a
SIGTERM to all processes of a group does not cost the copies of what the relay still finishes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections import Counter, deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from monitor.capture.board import Board
from monitor.capture.claims import Claims, SafePublisher
from monitor.capture.conversation import Conversation
from monitor.capture.destination import open_publisher
from monitor.capture.express import Express
from monitor.capture.frames import CLOSE, DATA, EOF, GAP, HOLE, MISSING, FrameReader
from monitor.capture.keys import read_key
from monitor.capture.metrics import Counters
from monitor.capture.orphans import Adoption, orphans
from monitor.capture.outbox import Outbox
from monitor.capture.plan import Shipping, read_plan, shipping_of
from monitor.capture.shelf import NO_SPOOL, Shelf
from monitor.capture.spool import Spool
from monitor.transport.base import Publisher

NICE = 10
REPORT_SECONDS = 0.2

REST_SECONDS, MUCH = 0.05, 128 * 1024
"""After reading less than so much, the tap rests so long: a busy process that wakes up a hundred times a second for
little each time costs twice as much an event. Under load there is no rest, unless the outbox is crowded."""

_logger = logging.getLogger("offpath.capture.shipper")


class Intake(asyncio.Protocol):
    """Reads the tap: one conversation a connection. What is settled, and every count, is on the board at once.

    Parameters
    ----------
    recorder, outbox : what makes events, and where they are put.
    counters, board : what the relay is to know, and where it reads it.
    """

    def __init__(self, recorder: Express, outbox: Outbox, counters: Counters, board: Board) -> None:
        self._recorder, self._outbox, self._counters, self._board = recorder, outbox, counters, board
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._conversations: dict[int, Conversation] = {}
        self._open: dict[int, int] = {}
        self._touched: dict[int, Conversation] = {}
        self._received = self._records = 0
        self._marks: deque[tuple[int, int]] = deque()  # records, and the frames that they came of: settled together
        self._settled = 0
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._frames.drain(data, self.frame)
        self._tally()
        if (len(data) < MUCH or self._outbox.crowded) and not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_later(REST_SECONDS, self._go_on)
        self.settled(self._records)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        self.end()
        return True  # until everything is published: the relay waits for this end to close

    def connection_lost(self, _: Exception | None) -> None:
        self.end()

    def settled(self, records: int) -> None:
        """So many records are out of memory: so are the frames that they came from. Tell the relay."""
        self._records = records
        while self._marks and self._marks[0][0] <= records:
            self._settled = self._marks.popleft()[1]
        self.report()

    def frame(self, kind: int, side: int, connection: int, moment: float, payload: bytes) -> None:
        """Take one frame of the tap."""
        conversation = self._conversations.get(connection)
        if conversation is None:
            conversation = self._conversations[connection] = Conversation(self._recorder, self._counters)
        if kind == DATA:
            self._received += 1
            conversation.data(side, payload, moment)
            accepted, marks = self._outbox.accepted, self._marks  # these records came of the frames so far
            if marks and marks[-1][0] == accepted:
                marks[-1] = (accepted, self._received)
            else:
                marks.append((accepted, self._received))
        elif kind == EOF:
            conversation.eof(side, moment)
        elif kind == GAP:
            conversation.gap(side)
        elif kind == HOLE:
            conversation.hole(side, MISSING.unpack(payload)[0], moment)
        elif kind == CLOSE:
            conversation.close()
            del self._conversations[connection]
        self._touched[connection] = conversation

    def _tally(self) -> None:
        """Count the open messages of the connections that something came from."""
        for connection, conversation in self._touched.items():
            if still := conversation.open_messages:
                self._open[connection] = still
            else:
                self._open.pop(connection, None)
        self._touched.clear()

    def end(self) -> None:
        """The tap has ended: whatever is incomplete stays so."""
        for conversation in self._conversations.values():
            conversation.close("shutdown")
        self._conversations.clear()
        self._open.clear()
        self.ended.set()

    def report(self) -> None:
        """Put everything on the board."""
        self._board.write(self._settled, sum(self._open.values()), self._counters)


def _shelf(plan: Shipping, path: Path, counters: Counters, trouble: str = NO_SPOOL) -> Shelf:
    opener = partial(Spool, path, plan.spool_limit, age=plan.spool_age)
    return Shelf(path, lambda lost: opener(lost=lost), counters, trouble=trouble)


def _adoption(plan: Shipping, left: list[Path], counters: Counters, outbox: Outbox) -> Adoption:
    trouble = "what an earlier relay process left must wait"
    return Adoption(left, lambda path: _shelf(plan, path, counters, trouble), outbox)


def _open_claims(plan: Shipping, counters: Counters) -> Claims | None:
    if not plan.payloads:
        return None
    from monitor.transport.payloads import PayloadStore

    def opener() -> PayloadStore:
        return PayloadStore(Path(plan.payloads), plan.payloads_limit, plan.payloads_keep)

    return Claims(opener, plan.payloads_above, counters, time.monotonic)


async def _ship(
    plan: Shipping, board: Board, tap: socket.socket, key: bytes, receiver: Publisher, left: list[Path]
) -> None:
    loop = asyncio.get_running_loop()
    counters: Counters = Counter()
    claims = _open_claims(plan, counters)
    publisher = receiver if claims is None else SafePublisher(receiver, claims)
    shelf = _shelf(plan, Path(plan.spool), counters)
    intake: Intake | None = None

    def settled(records: int) -> None:
        if intake is not None:
            intake.settled(records)

    outbox = Outbox(publisher, shelf, counters, limit=plan.buffer, settled=settled)
    recorder = Express(plan, outbox.put, counters, lambda: time.time() - time.monotonic(), key, claims)
    intake = Intake(recorder, outbox, counters, board)
    transport, _ = await loop.connect_accepted_socket(lambda: intake, tap)
    outbox.start()
    adoption = _adoption(plan, left, counters, outbox)
    adopting = loop.create_task(adoption.run())
    try:
        while not intake.ended.is_set():
            intake.report()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(intake.ended.wait(), REPORT_SECONDS)
        adopting.cancel()
        await outbox.close(plan.drain)
    finally:
        adoption.close()
        intake.report()
        transport.close()
        shelf.close()
        await asyncio.sleep(0)


def _give_way() -> None:
    """Wait while the relay wants the core, and never interrupt it (batch policy); but get some of a core that is busy.

    Under the idle policy the shipper starves beside a model that uses all cores, and cannot spool what it has when it
    is to end.
    """
    os.nice(NICE)
    with suppress(AttributeError, OSError):  # another system, or a policy that forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(plan: int, board: int, tap: int, number: int) -> int:
    """Run the shipper process of this relay process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="offpath capture: %(message)s")
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    told = read_plan(plan)
    shipping = shipping_of(told, number)
    left = orphans(told.shipping.spool, told.workers) if number == 0 else []
    try:
        hashes = any(rule.action == "hash" for rule in shipping.redact)
        key = read_key(shipping.redact_key_file, shipping.redact_key_env) if hashes else b""
        receiver = open_publisher(shipping)
    except ValueError as error:  # the key was there when the sidecar started; nothing is sent without it
        _logger.error("%s", error)
        return os.EX_CONFIG
    _give_way()
    uvloop.run(_ship(shipping, Board(board), socket.socket(fileno=tap), key, receiver, left))
    return 0
