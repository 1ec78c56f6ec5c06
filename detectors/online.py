"""What detectors are that judge a stream row by row, with a bounded memory, until it alarms."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

from detectors.base import Array, Detector, FeatureVerdict, Verdict


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


def together(first: Verdict, second: Verdict) -> Verdict:
    """One verdict on consecutive rows of a stream: of the strangest moment, and of each column's.

    >>> one, two = Verdict("ok", 10, 0.5, 1.0), Verdict("alert", 3, 1.5, 1.0)
    >>> both = together(one, two)
    >>> both.state, both.n, both.statistic
    ('alert', 13, 1.5)
    """
    strangest = max(first, second, key=lambda verdict: (verdict.state == "alert", _level(verdict)))
    columns = zip(first.features, second.features, strict=True) if first.features and second.features else ()
    features = tuple(_column(*pair) for pair in columns) or first.features or second.features
    return replace(strangest, n=first.n + second.n, features=features)


def _column(first: FeatureVerdict, second: FeatureVerdict) -> FeatureVerdict:
    strangest = second if _level(second) > _level(first) else first
    return strangest._replace(n=first.n + second.n, missing=first.missing + second.missing)


def _level(verdict: Verdict | FeatureVerdict) -> float:
    return -float("inf") if verdict.statistic is None else verdict.statistic
