"""Records of a transport, and the protocol of those who take them.

They stand here, below ``monitor``, because imports run one way (monitor -> sinks -> detectors) and a sink may publish;
and apart from :mod:`sinks.base`, because the sidecar's processes must not load numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """One message of a transport: CloudEvents in Kafka's binary mode (``ce_`` headers), or whatever was sent.

    ``value`` of ``None`` is a tombstone; ``timestamp`` is seconds since the epoch, as the log or sender gave it.
    """

    key: str | None
    headers: Mapping[str, str]
    value: bytes | None
    timestamp: float


class Pattern:
    """What the headers of many records have in common. Patterns are told apart by identity, and never change.

    ``shared`` are the headers that are the same in all, ``unlike`` the names of those that differ; a record has no
    others. Of these, ``given`` were chosen by somebody else: their values may hold anything. ``blank`` is a record's
    headers before they differ.
    """

    __slots__ = ("blank", "given", "shared", "unlike")

    def __init__(self, shared: Mapping[str, str], unlike: Sequence[str], given: Sequence[str]) -> None:
        self.shared, self.unlike, self.given = dict(shared), tuple(unlike), tuple(given)
        self.blank = {**self.shared, **dict.fromkeys(unlike, "")}


class Patterned(dict[str, str]):
    """Headers made of a pattern, so that a publisher need not look at what is shared. Nobody changes what is there."""

    __slots__ = ("pattern",)
    pattern: Pattern


class Unavailable(ConnectionError):
    """The destination cannot take records now; the same call may succeed later.

    ``left`` are the records of a batch that it has not taken, in their order (``None``: perhaps none was taken),
    ``refused`` those that it never will; it has taken the others. It asks to be left alone for ``retry_after`` seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        left: Sequence[Record] | None = None,
        refused: Sequence[Record] = (),
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.left, self.refused, self.retry_after = left, refused, retry_after


class Rejected(ValueError):
    """The destination will never take this record; the message says why.

    ``refused`` are the records of a batch that it is about (``None``: some); all the others were taken.
    """

    def __init__(self, message: str, *, refused: Sequence[Record] | None = None) -> None:
        super().__init__(message)
        self.refused = refused


class Publisher(Protocol):
    """Takes records to one destination."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once all are durable; raise :class:`Unavailable` (publish again what is left) or :class:`Rejected`."""
        ...

    async def close(self) -> None: ...
