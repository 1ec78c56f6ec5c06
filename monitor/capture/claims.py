"""Large bodies by claim check: stored, and the event says where."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from monitor.capture.metrics import Counters, sample
from monitor.transport.base import Unavailable

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
