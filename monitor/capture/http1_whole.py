"""HTTP/1: the whole messages of one side of a connection that need no parser, as they are recorded."""

from __future__ import annotations

from collections import deque
from re import Match
from typing import NamedTuple, Protocol

from monitor.capture.exchange import Exchange, Recorder, ShortWay
from monitor.capture.http1_forms import Form

LONGEST_BEGUN = 64 * 1024
"""Bytes that may be missing of a body for it to be waited for without a parser."""


class Connection(Protocol):
    """What both sides know of each other."""

    exchanges: deque[Exchange]
    """Asked and not yet answered, in order."""

    pipelines: bool
    left: str
    """Why the connection has to be given up, else empty."""

    now: float

    @property
    def method(self) -> str:
        """Of the request whose headers are complete."""
        ...

    @property
    def offers(self) -> bool:
        """Whether the client has offered to upgrade, and has no answer yet."""
        ...

    def lasts(self, side: int) -> bool:
        """Whether that side's message, which is complete, leaves the connection open."""
        ...

    @property
    def upgrading(self) -> bool:
        """Whether the request being parsed offers to upgrade."""
        ...

    @property
    def status(self) -> int:
        """Of the response whose headers are complete."""
        ...


class Begun(NamedTuple):
    """A message of a known form that has come in part: its pieces and their bytes, how many are missing, its moment."""

    form: Form
    found: Match[bytes]
    parts: list[bytes]
    size: int
    missing: int
    since: float


class Whole:
    """A side of a connection. ``over``: the last message that the parser read was its connection's last."""

    def __init__(self, connection: Connection, recorder: Recorder) -> None:
        self._connection, self._recorder = connection, recorder
        self.over = False
        self._short = recorder.short
        self._form: Form | None = None
        self.begun: Begun | None = None

    def whole(self, data: bytes) -> bool:
        """Between two messages: whether the chunk is one message, no more and no less, that is recorded now.

        One in pieces is kept until the last one comes: see :meth:`release`.
        """
        short, form = self._short, self._form
        if short is None or self.over or self._connection.offers:
            return False
        if self.begun is not None:
            return self._goes_on_with(short, self.begun, data)
        found = form.match(data) if form is not None else None
        if found is None:
            if (known := short.forms.find(data)) is None:
                return False
            form, found = known
            self._form = form
        assert form is not None
        end, now = found.end(), self._connection.now
        missing = int(found[form.length]) - len(data) + end
        if not missing:
            return self._record(short, form, found, data[end:], now)
        if not (0 < missing <= LONGEST_BEGUN and self._due() and self._recorder.memory.take(len(data))):
            return False
        self.begun = Begun(form, found, [data], len(data), missing, now)
        return True

    def release(self) -> tuple[bytes, float]:
        """The message that has begun and is no more to be waited for: its bytes, and when it began."""
        begun, self.begun = self.begun, None
        assert begun is not None
        self._recorder.memory.give(begun.size)
        return b"".join(begun.parts), begun.since

    def _due(self) -> bool:
        """Whether it is this side's turn to begin a message."""
        raise NotImplementedError

    def _goes_on_with(self, short: ShortWay, begun: Begun, data: bytes) -> bool:
        """Whether the chunk belongs to the message that has begun, and no more follows in it."""
        missing = begun.missing - len(data)
        memory = self._recorder.memory
        if missing < 0 or not memory.take(len(data)):
            return False
        begun.parts.append(data)
        if missing:
            self.begun = begun._replace(size=begun.size + len(data), missing=missing)
            return True
        memory.give(len(data))
        body = b"".join(begun.parts)[begun.found.end() :]
        if not self._record(short, begun.form, begun.found, body, begun.since):
            begun.parts.pop()
            return False
        memory.give(begun.size)
        self.begun = None
        return True

    def _record(self, short: ShortWay, form: Form, found: Match[bytes], body: bytes, since: float) -> bool:
        raise NotImplementedError
