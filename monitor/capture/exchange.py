"""What a parser makes of a connection's bytes: exchanges of a request and its response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from monitor.capture.selection import Kind

if TYPE_CHECKING:
    from re import Match

    from monitor.capture.express import Known
    from monitor.capture.http1_forms import Form, Forms
    from monitor.capture.route import Route


WANTED = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"x-request-id",
        b"ce-id",
        b"traceparent",
        b"tracestate",
        b"seldon-skip-logging",
        b"inference-header-content-length",
    }
)
"""Headers that every event needs, in lower case."""


SMALL = 1024
"""Bytes below which a piece of a body is joined to the one before it."""


class Memory:
    """The bytes that all open bodies together may hold.

    >>> memory = Memory(10)
    >>> memory.take(8), memory.take(8), memory.give(8), memory.take(8)
    (True, False, None, True)
    """

    __slots__ = ("_left",)

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        self._left += size


class Body:
    """The first bytes of a body, up to a cap. ``cut`` says why the rest is missing, else it is empty."""

    __slots__ = ("_memory", "_parts", "cut", "size")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._parts: list[bytes | bytearray] = []
        self.size = 0
        self.cut = ""

    def add(self, data: bytes, cap: int) -> None:
        if self.cut:
            return
        room = cap - self.size
        if len(data) > room:
            data, self.cut = data[:room], "max_body"
        if not self._memory.take(len(data)):
            self.cut = "memory"
            return
        if self._parts:
            self._join(data)
        else:
            self._parts.append(data)
        self.size += len(data)

    def _join(self, data: bytes) -> None:
        """Another piece; small ones become one: each as an object of its own would hold a multiple of its size."""
        last = self._parts[-1]
        if len(data) >= SMALL:
            self._parts.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._parts.append(bytearray(data))

    def start(self, size: int) -> bytes:
        """The first bytes that were added, at least ``size`` if there are as many."""
        parts = self._parts
        first = parts[0] if parts else b""
        return first if isinstance(first, bytes) and len(first) >= size else b"".join(parts[: size + 1])

    def take(self) -> bytes:
        """The bytes; the memory they count against is free again."""
        parts = self._parts
        self.drop()
        if len(parts) == 1:
            return parts[0]  # type: ignore[return-value]  # the first is as it came
        return b"".join(parts)

    def drop(self) -> None:
        self._memory.give(self.size)
        self._parts, self.size = [], 0


class Message:
    """A request or a response. ``headers`` holds what events need, in lower case; moments are frame moments.

    ``wanted``: it becomes part of an event, so its body is kept. ``done``: nothing more of it is needed. ``told``: an
    event was made of it, perhaps before it ended, when its body was full.
    """

    __slots__ = ("_body", "_memory", "done", "ended", "headers", "started", "told", "wanted")

    def __init__(self, memory: Memory) -> None:
        self.headers: dict[str, str] = {}
        self._memory = memory
        self._body: Body | None = None
        self.started = self.ended = 0.0
        self.done = self.wanted = self.told = False

    @property
    def body(self) -> Body:
        """What there is of it; made when it is asked for, as most messages come whole."""
        if self._body is None:
            self._body = Body(self._memory)
        return self._body


class Exchange:
    """A request and its response. ``kind`` is ``None`` when it is skipped.

    ``model`` is named in the message itself, where the path names none (gRPC); it may become known after ``begin``.
    Until then it is ``naming``, if a message will name it, and what depends on the model is not decided.
    ``request_id``, ``route`` and ``held`` (a complete request that waits for its response to become one event with
    it) are the recorder's; so is ``known``, what it knows of the form of the request's head, if that took no parser.
    """

    __slots__ = (
        "held",
        "kind",
        "known",
        "method",
        "model",
        "naming",
        "path",
        "request",
        "request_id",
        "response",
        "route",
        "status",
    )

    def __init__(self, memory: Memory) -> None:
        self.request = Message(memory)
        self.response = Message(memory)
        self.method = self.path = self.request_id = self.model = ""
        self.status = 0
        self.kind: Kind | None = None
        self.route: Route | None = None
        self.known: Known | None = None
        self.held = self.naming = False


class ShortWay(Protocol):
    """Takes whole messages whose heads are of a form that came before."""

    forms: Forms

    def ask(self, form: Form, found: Match[bytes], body: bytes, since: float, now: float) -> Exchange | None:
        """Record a request that began at ``since`` and ended now.

        Returns an exchange that is complete but for its response, or ``None`` if that takes a parser.
        """
        ...

    def answer(self, exchange: Exchange, form: Form, found: Match[bytes], body: bytes, now: float) -> bool:
        """Record the response of an exchange of :meth:`ask`; false if that takes a parser."""
        ...


class Recorder(Protocol):
    """Takes what a parser found. ``wanted``: the headers that it wants kept, :data:`WANTED` among them.

    ``short`` is the way of whole messages whose heads take no parser; ``None``: all messages are needed in their parts.
    """

    memory: Memory
    max_body: int
    wanted: frozenset[bytes]
    short: ShortWay | None

    def begin(self, exchange: Exchange) -> None:
        """The request's headers are complete: decide its ``kind``, and which of its messages are ``wanted``."""
        ...

    def named(self, exchange: Exchange) -> None:
        """Of one that is ``naming``: its model is known now, or was not named in time. Decide what depends on it."""
        ...

    def request(self, exchange: Exchange) -> None:
        """The request is complete."""
        ...

    def response(self, exchange: Exchange) -> None:
        """The response is complete."""
        ...

    def capped(self, exchange: Exchange, message: Message) -> None:
        """Nothing more will be kept of a message whose end nobody knows: it may be told of now."""
        ...

    def discard(self, exchange: Exchange, reason: str) -> None:
        """Whatever of the exchange is not complete never will be."""
        ...


class UnparsableError(Exception):
    """The bytes are not what the parser understands, or no longer. ``reason`` is a word of the metrics' list.

    ``lasting``: the connection has left the protocol for good.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.lasting = reason, lasting
