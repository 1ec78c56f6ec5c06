"""What every sequence of bytes, gaps and ends must leave true of a conversation and of what is recorded of it.

An input is a script. ``C`` and ``U``, each with a length of two bytes, are chunks of the client and of the upstream;
``G`` with a byte is a gap, ``E`` with a byte the end of a side; any other byte is passed over. ``P`` with a byte at the
very beginning chooses what is captured: see :func:`plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from monitor.capture.conversation import Conversation
from monitor.capture.exchange import Exchange, Message
from monitor.capture.express import Express
from monitor.capture.frames import CLIENT, NOBODY, UPSTREAM
from monitor.capture.metrics import METRICS, Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.capture.rules import RedactRule

CAP, HELD = 300, 1000
MAX_INPUT = 16 * 1024

USUAL = (
    (
        CLIENT,
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
    ),
    (CLIENT, b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 2\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
)

_MEMORY = sample("truncated_total", reason="memory")
_KNOWN = {name for metric in METRICS for name in metric.samples}
_EVENTS = [name for name in _KNOWN if "_events_total" in name and "side=" in name]


class Accountant(Recorder):
    """A recorder that holds its caller to the protocol: every part of an exchange is told once, or discarded."""

    def __init__(self, plan: Shipping) -> None:
        self.records = 0
        self.counters = Counters()
        super().__init__(plan, self._take, self.counters, lambda: 1_700_000_000.0)
        self.begun: dict[int, Exchange] = {}
        self.told: dict[int, set[str]] = {}
        self.full: set[int] = set()
        self.failed: list[BaseException] = []

    def __getattribute__(self, name: str) -> Any:
        """What fails in a callback is kept: the parser makes "malformed" of it."""
        found = super().__getattribute__(name)
        return self._kept(found) if name in ("begin", "request", "response", "capped", "discard") else found

    def _kept(self, call: Callable[..., None]) -> Callable[..., None]:
        def kept(*arguments: Any) -> None:
            try:
                call(*arguments)
            except BaseException as error:
                self.failed.append(error)
                raise

        return kept

    def _take(self, record: object) -> None:
        self.records += 1

    def begin(self, exchange: Exchange) -> None:
        assert id(exchange) not in self.begun, "begun twice"
        self.begun[id(exchange)] = exchange
        self.told[id(exchange)] = set()
        super().begin(exchange)

    def request(self, exchange: Exchange) -> None:
        self._once(exchange, "request", again=id(exchange.request) in self.full)
        assert exchange.request.done
        super().request(exchange)

    def response(self, exchange: Exchange) -> None:
        self._once(exchange, "response", again=id(exchange.response) in self.full)
        assert exchange.response.done
        super().response(exchange)

    def capped(self, exchange: Exchange, message: Message) -> None:
        assert id(message) not in self.full, "full twice"
        self.full.add(id(message))
        super().capped(exchange, message)

    def discard(self, exchange: Exchange, reason: str) -> None:
        if id(exchange) in self.begun:
            self._once(exchange, "discard")
        super().discard(exchange, reason)

    def _once(self, exchange: Exchange, what: str, *, again: bool = False) -> None:
        assert exchange is self.begun[id(exchange)], "told of an exchange that never began"
        told = self.told[id(exchange)]
        assert again or what not in told, f"{what} twice"
        told.add(what)

    def audit(self) -> None:
        """After the end: nothing failed, everything that began has an outcome, and no body is held."""
        if self.failed:
            raise self.failed[0]
        for key, exchange in self.begun.items():
            told = self.told[key]
            assert "request" in told or "discard" in told, "a request without an outcome"
            assert not exchange.response.started or told & {"response", "discard"}, "a response without an outcome"
        self.balance()

    def balance(self) -> None:
        """What holds whatever was said."""
        assert set(self.counters) <= _KNOWN, "a sample that the registry lacks"
        assert self.records == sum(self.counters[name] for name in _EVENTS), "records that no counter knows of"
        assert self.memory.take(HELD), "bytes held after the end"


def plan(choice: int) -> Shipping:
    """The sidecar's options, one a bit."""
    return Shipping(
        "fuzz",
        model="m",
        max_body=CAP,
        held=HELD,
        combined=bool(choice & 1),
        mode="all" if choice & 1 else ("all", "request", "response", "all")[choice >> 1 & 3],
        include=("*",) if choice & 8 else ("inference",),
        sample=0.5 if choice & 16 else 1.0,
        inflate=bool(choice & 32),
        redact=(RedactRule("pointer", "/*", "mask"), RedactRule("header", "x-request-id", "drop"))
        if choice & 64
        else (),
        headers=("x-request-id", "host") if choice & 128 else (),
    )


def steps(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """The script of an input."""
    at = 0
    while at < len(data):
        tag, at = data[at : at + 1], at + 1
        if tag in (b"C", b"U"):
            size = int.from_bytes(data[at : at + 2], "big")
            yield "data", CLIENT if tag == b"C" else UPSTREAM, data[at + 2 : at + 2 + size]
            at += 2 + size
        elif tag in (b"G", b"E"):
            yield "gap" if tag == b"G" else "eof", data[at] % 3 if at < len(data) else NOBODY, b""
            at += 1


def script(*parts: tuple[int, bytes]) -> bytes:
    """An input of chunks; the inverse of :func:`steps` for seeds."""
    return b"".join((b"U" if side else b"C") + len(data).to_bytes(2, "big") + data for side, data in parts)


def run(data: bytes) -> None:
    """One input. Raises whatever is wrong."""
    chosen = data[1] if data[:1] == b"P" and len(data) > 1 else 0
    accountant = Accountant(plan(chosen))
    conversation = Conversation(accountant, accountant.counters)
    now = 0.0
    for what, side, chunk in steps(data[:MAX_INPUT]):
        now += 1.0
        if what == "gap":
            conversation.gap(side)
        elif what == "eof" and side != NOBODY:
            conversation.eof(side, now)
        elif chunk:  # the tap sends no empty frames
            conversation.data(side, chunk, now)
        assert conversation.open_messages >= 0
    conversation.close()
    assert conversation.open_messages == 0
    accountant.audit()
    if not chosen:
        compare(data[:MAX_INPUT], accountant)


def compare(data: bytes, accountant: Accountant) -> None:
    """The short way, which has come across the usual heads before, leads to what the long way led to."""
    counters, records = Counters(), 0

    def take(_: object) -> None:
        nonlocal records
        records += 1

    recorder = Express(plan(0), take, counters, lambda: 1_700_000_000.0)
    for side, head in USUAL:
        recorder.forms.learn(side, head)
    conversation = Conversation(recorder, counters)
    now = 0.0
    for what, side, chunk in steps(data):
        now += 1.0
        if what == "gap":
            conversation.gap(side)
        elif what == "eof" and side != NOBODY:
            conversation.eof(side, now)
        elif chunk:
            conversation.data(side, chunk, now)
    conversation.close()
    assert recorder.memory.take(HELD), "bytes held after the end"
    if not (counters + accountant.counters)[_MEMORY]:  # the short way holds less
        assert (records, +counters) == (accountant.records, +accountant.counters)
