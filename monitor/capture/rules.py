"""What the shipper's plan says of sampling and redaction: plain values, as JSON carries them."""

from __future__ import annotations

from typing import NamedTuple


class SampleRule(NamedTuple):
    """A rate for models (``*`` and ``?`` are wildcards) and one side, or with ``side`` empty for both."""

    model: str
    side: str
    rate: float


class RedactRule(NamedTuple):
    """What is done (``action``: drop, mask, hash) to what ``kind`` (header, pointer, tensor, column) calls ``name``."""

    kind: str
    name: str
    action: str
    model: str = "*"
    side: str = ""


class ModelColumns(NamedTuple):
    """The configured columns of the models whose name in events is ``model`` (a pattern)."""

    model: str
    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def of(self, side: str) -> tuple[str, ...]:
        """The columns of a side."""
        return self.outputs if side == "response" else self.features
