"""What every sequence of HTTP/2 bytes, gaps and holes must leave true of a conversation and of what is recorded of it.

An input is a script as in :mod:`tests.fuzz.http1`; ``H``, with a byte for the side and two for a length, is a hole: so
many bytes of DATA that the tap left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from monitor.capture.conversation import Conversation
from monitor.capture.exchange import Exchange, Message
from monitor.capture.frames import NOBODY
from monitor.capture.metrics import sample
from tests.fuzz import http1

MAX_INPUT = http1.MAX_INPUT
INTERNAL = sample("unparsed_connections_total", reason="internal")


class Accountant(http1.Accountant):
    """Of a stream there are exchanges that never began by themselves, and halves are lost: messages are counted."""

    def __init__(self, plan: http1.Shipping) -> None:
        super().__init__(plan)
        self.settled: dict[int, Message] = {}

    def request(self, exchange: Exchange) -> None:
        self._settle(exchange.request)
        self._base.request(self, exchange)

    def response(self, exchange: Exchange) -> None:
        self._settle(exchange.response)
        self._base.response(self, exchange)

    def discard(self, exchange: Exchange, reason: str) -> None:
        request, response = exchange.request, exchange.response
        if not request.done and request.wanted:
            self._settle(request)
        if response.started and response.wanted and not response.done:
            self._settle(response)
        self._base.discard(self, exchange, reason)

    _base = http1.Recorder

    def _settle(self, message: Message) -> None:
        again = id(message) in self.full
        assert again or id(message) not in self.settled, "settled twice"
        self.settled[id(message)] = message

    def audit(self) -> None:
        """After the end: nothing failed, every message that is wanted was told or discarded, and no body is held."""
        if self.failed:
            raise self.failed[0]
        for exchange in self.begun.values():
            if exchange.kind is not None:
                assert not exchange.request.wanted or id(exchange.request) in self.settled, "a request without outcome"
                assert (
                    not (exchange.response.wanted and exchange.response.started)
                    or id(exchange.response) in self.settled
                ), "a response without outcome"
        assert not self.counters[INTERNAL], "the parser failed"
        self.balance()


def steps(data: bytes) -> Iterator[tuple[str, int, bytes | int]]:
    """The script of an input, holes included."""
    at = 0
    while at < len(data):
        if data[at : at + 1] == b"H":
            yield "hole", data[at + 1 : at + 2] > b"\x7f", int.from_bytes(data[at + 2 : at + 4], "big")
            at += 4
            continue
        end = at + 1
        if data[at : at + 1] in (b"C", b"U"):
            end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        elif data[at : at + 1] in (b"G", b"E"):
            end = at + 2
        yield from http1.steps(data[at:end])
        at = end


def run(data: bytes) -> None:
    """One input. Raises whatever is wrong."""
    chosen = data[1] if data[:1] == b"P" and len(data) > 1 else 0
    accountant = Accountant(http1.plan(chosen))
    conversation = Conversation(accountant, accountant.counters)
    now = 0.0
    for what, side, said in steps(data[:MAX_INPUT]):
        now += 1.0
        if what == "gap":
            conversation.gap(side)
        elif what == "eof" and side != NOBODY:
            conversation.eof(side, now)
        elif isinstance(said, int):
            conversation.hole(side, said, now)
        elif said:
            conversation.data(side, said, now)
        assert conversation.open_messages >= 0
    conversation.close()
    assert conversation.open_messages == 0
    accountant.audit()
