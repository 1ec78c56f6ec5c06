"""The spool, whatever becomes of its disk: opened when it can be, set aside when damaged, tried again after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from monitor.capture.metrics import Counters, sample
from monitor.capture.quiet import Quiet
from monitor.capture.spool import Spool
from monitor.transport.base import Rejected, Unavailable
from monitor.transport.log import DamagedLogError, LogError
from sinks.records import Record

PAUSE = 1.0
"""Seconds for which a disk that failed is left alone."""

MOST_DAMAGED = 10
"""Damaged files that are kept: the first ones and the latest. A failing disk must not be filled with them."""

NO_SPOOL = "no spool, events wait in memory only"

_SPOOLED = sample("spooled_total")
_WAITING, _WAITING_BYTES = sample("spool_events"), sample("spool_bytes")

_logger = logging.getLogger("offpath.capture.shipper")


class Shelf:
    """A :class:`~monitor.capture.spool.Spool` that fails by saying no. What it loses is counted.

    Parameters
    ----------
    path : the spool's file.
    opener : opens it, given whom to tell of losses; raises as the spool does.
    counters : where losses, and what waits, are counted.
    trouble : what it means that the disk fails.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[Callable[[str, int], None]], Spool],
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        trouble: str = NO_SPOOL,
    ) -> None:
        self._path, self._opener, self._counters, self._clock = path, opener, counters, clock
        self._trouble = trouble
        self._spool: Spool | None = None
        self._handed_out: Spool | None = None
        self._rest_until = 0.0
        self._quiet = Quiet(_logger)
        self._shown = self._shown_bytes = 0
        self._try(lambda _: None)

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._spool) if self._spool is not None else 0

    @property
    def resting(self) -> bool:
        """The disk failed just now."""
        return self._clock() < self._rest_until

    def add(self, records: Sequence[Record], *, handed_out: bool = False) -> bool:
        """Whether they are on disk now, all of them."""
        return self._try(lambda spool: self._store(spool, records, handed_out))

    def oldest(self, limit: int, size: int) -> list[Record]:
        """The next batch; empty if there is none, or it cannot be read now."""
        batch: list[Record] = []
        self._try(lambda spool: batch.extend(spool.oldest(limit, size)))
        self._handed_out = self._spool
        return batch

    def settle(self, left: Collection[int]) -> None:
        """What became of the batch: see :meth:`Spool.settle`."""
        if self._handed_out is not self._spool:  # set aside meanwhile
            self._lose("spool_damaged", len(left))
            return
        self._rest_until = 0.0
        self._try(lambda spool: spool.settle(left))

    @property
    def is_empty(self) -> bool:
        """The spool is there, and nothing is in it."""
        return self._spool is not None and not len(self._spool)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def remove(self) -> None:
        """Close for good; the file goes."""
        if self._spool is not None:
            self._spool.remove()
            self._spool = None

    def _try(self, action: Callable[[Spool], object]) -> bool:
        if self.resting:
            return False
        try:
            if self._spool is None:
                self._spool = self._opener(self._lose)
            action(self._spool)
        except DamagedLogError as error:
            self._set_aside(error)
            return False
        except (Unavailable, LogError) as error:
            self._rest_until = self._clock() + PAUSE
            self._quiet.say(logging.ERROR, "disk", f"{self._trouble}: {error}")
            return False
        finally:
            self._show()
        if self._quiet.again("disk"):
            _logger.info("the spool %s can be used again", self._path)
        return True

    def _store(self, spool: Spool, records: Sequence[Record], handed_out: bool) -> None:
        try:
            spool.add(records, handed_out=handed_out)
            self._counters[_SPOOLED] += len(records)
            if handed_out:
                self._handed_out = spool
        except Rejected as error:  # text that no transport can carry
            if handed_out:
                raise Unavailable(f"a batch under way cannot be stored: {error}") from error
            if len(records) == 1:
                self._quiet.say(logging.ERROR, "invalid", f"an event cannot be stored: {error}")
                self._lose("invalid", 1)
                return
            for record in records:
                self._store(spool, (record,), handed_out=False)

    def _set_aside(self, error: DamagedLogError) -> None:
        """A damaged file must neither stop the shipper nor be lost to whoever wants to look at it."""
        if self._spool is not None:  # what is handed out is counted when it is known what became of it
            self._lose("spool_damaged", len(self._spool) - self._spool.handed_out)
        self.close()
        aside = self._aside()
        told = f"the spool {self._path} is damaged ({error.reason})"
        try:
            for suffix in ("-wal", "-shm", ""):
                file = self._path.with_name(self._path.name + suffix)
                if file.exists():
                    file.replace(aside.with_name(aside.name + suffix))
        except OSError as failure:
            self._rest_until = self._clock() + PAUSE
            self._quiet.say(logging.ERROR, "disk", f"{told} and cannot be moved to {aside}: {failure.strerror}")
        else:
            _logger.error("%s: it is now %s, and a new one is begun", told, aside)

    def _aside(self) -> Path:
        """Where a damaged file goes: a name that is free, or the last of all."""
        first = self._path.with_name(self._path.name + ".damaged")
        names = [first, *(first.with_name(f"{first.name}.{number}") for number in range(1, MOST_DAMAGED))]
        return next((name for name in names if not name.exists()), names[-1])

    def _lose(self, reason: str, count: int) -> None:
        self._counters[sample("dropped_events_total", reason=reason)] += count

    def _show(self) -> None:
        """What waits here, beside what waits on other shelves."""
        waiting, size = len(self), self._spool.bytes if self._spool is not None else 0
        self._counters[_WAITING] += waiting - self._shown
        self._counters[_WAITING_BYTES] += size - self._shown_bytes
        self._shown, self._shown_bytes = waiting, size
