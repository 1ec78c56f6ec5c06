"""What detectors are that judge a stream row by row, with a bounded memory, until it alarms."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from detectors.base import Array, Detector, Verdict


class Run(Protocol):
    """A stream under way, from its first row to the first alarm. After an alarm a new one is begun."""

    def push(self, x: Array) -> tuple[int, Verdict]:
        """Judge the next rows ``(m, d)``: how many were judged, and the strangest moment among them.

        All are, unless there is an alarm: then as many as lead to it, and the verdict is an ``alert``.
        """
        ...

    def fill(self, x: Array) -> None:
        """Remember rows ``(m, d)`` that were judged before, so that the next are judged as they would be."""
        ...


@runtime_checkable
class Online(Detector, Protocol):
    """Judges a stream with an expected run time between false alarms.

    What a run answers depends on the last ``memory`` rows since it was begun, and on nothing else: whoever delivers
    them again (:meth:`Run.fill`) resumes it exactly.
    """

    @property
    def memory(self) -> int:
        """Rows, the one that is judged not counted."""
        ...

    def start(self) -> Run:
        """Begin with a stream."""
        ...
