"""Large bodies by claim check: stored, and the event says where."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from monitor.capture.metrics import Counters, sample
from monitor.transport.base import Publisher, Unavailable
from sinks.records import Record

if TYPE_CHECKING:
    from monitor.transport.payloads import PayloadStore

PAUSE = 5.0
"""Seconds between two attempts to open a directory that could not be opened."""

_STORED, _FAILED = (sample("claims_total", outcome=outcome) for outcome in ("stored", "failed"))
_REMOVED, _BYTES = sample("payloads_removed_total"), sample("payloads_bytes")

_logger = logging.getLogger("offpath.capture.shipper")


class Claims:
    """Stores bodies above a size.

    Parameters
    ----------
    opener : makes the store, when the first body needs it; raises :class:`Unavailable`.
    above : bytes; larger bodies are stored.
    counters : where outcomes are counted.
    clock : seconds, monotonic.
    """

    def __init__(
        self, opener: Callable[[], PayloadStore], above: int, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._opener, self._above, self._counters, self._clock = opener, above, counters, clock
        self._store: PayloadStore | None = None
        self._next = float("-inf")

    def check(self, headers: dict[str, str], body: bytes) -> bytes:
        """The body that stays in the event: none, if it is stored. One that cannot be stored stays, and is counted."""
        if len(body) <= self._above:
            return body
        try:
            reference = self._open().put(body)
        except Unavailable as error:
            self._counters[_FAILED] += 1
            _logger.error("%s", error)
            return body
        self._counters[_STORED] += 1
        headers["ce_dataref"] = reference
        headers["ce_datasize"] = str(len(body))
        self._show()
        return b""

    @property
    def unsafe(self) -> bool:
        """Whether something that was stored has yet to be made safe."""
        return self._store is not None and self._store.has_new

    def make_safe(self) -> None:
        """Have what was stored so far outlive a power failure. Raises :class:`Unavailable`."""
        if self._store is not None:
            self._store.sync()

    def _open(self) -> PayloadStore:
        if self._store is None:
            if self._clock() < self._next:
                raise Unavailable("the payloads' directory could not be opened a moment ago")
            self._next = self._clock() + PAUSE
            self._store = self._opener()
        return self._store

    def _show(self) -> None:
        assert self._store is not None
        self._counters[_BYTES] = self._store.bytes
        self._counters[_REMOVED] = self._store.removed


class SafePublisher:
    """A publisher of events that may name stored bodies: those are safe before anybody has taken the events.

    Parameters
    ----------
    publisher : takes the events.
    claims : where the bodies are.
    """

    def __init__(self, publisher: Publisher, claims: Claims) -> None:
        self._publisher, self._claims = publisher, claims

    async def publish(self, records: Sequence[Record]) -> None:
        """Raises as the publisher does, and :class:`Unavailable` where the bodies' disk fails."""
        if self._claims.unsafe:  # in a thread: a disk may take its time, and what comes in must not wait for it
            await asyncio.get_running_loop().run_in_executor(None, self._claims.make_safe)
        await self._publisher.publish(records)

    async def close(self) -> None:
        await self._publisher.close()
