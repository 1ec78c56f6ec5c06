"""Rows of one partition become windows. No clock and no I/O in here.

A window object belongs to one monitor and one partition. It says which offset it still needs (:meth:`Window.low`) and
its :meth:`Window.state`, and resumes from that state exactly: the rows delivered again from there give the same
windows. That is how a restart changes no finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from detectors.base import Array
from detectors.merging import Summary
from sinks.base import Position


class Rows(NamedTuple):
    """The rows ``(n, d)`` of one event, for one monitor. ``time`` is the event's, in epoch seconds."""

    x: Array
    partition: str
    offset: int
    time: float


class Batch(NamedTuple):
    """A full window. ``start`` and ``end`` are event times; ``ident`` names the window within its monitor.

    Of a window that is to be merged with others there is the ``summary``, and ``x`` is empty.
    """

    x: Array
    first: Position
    last: Position
    start: float
    end: float
    time: float
    events: int
    ident: str
    summary: Summary | None = None


class Window(Protocol):
    """Collects rows in the order of the log."""

    late: int
    """Rows that came after their window was closed, and were left out."""

    overflow: int
    """Rows beyond what a window keeps, and left out."""

    def push(self, *events: Rows) -> Iterator[Batch]:
        """Take the rows of consecutive events; answer the windows that they completed."""
        ...

    def expire(self, now: float) -> Iterator[Batch]:
        """Answer windows that are over at ``now`` (seconds, any origin); only sound when nothing is left to read."""
        ...

    def low(self) -> int | None:
        """The lowest offset that an open window needs, ``None`` if none is open."""
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON values from which the same kind of window resumes."""
        ...

    def fill(self) -> float:
        """How full the open window is, 0 to 1."""
        ...
