"""From records to their receiver: in batches, over the disk while it is away or behind, in order.

Directly, as long as it takes them. From the first failure on, everything goes to the spool and is published from there,
oldest first and with the same ids, until the spool is empty. A batch leaves the spool when it is acknowledged. What
cannot be kept is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from monitor.capture.metrics import Counters, sample
from monitor.capture.spool import Spool
from monitor.transport.base import Publisher, Rejected, Unavailable
from monitor.transport.log import LogError
from sinks.base import Record

BATCH, BATCH_BYTES = 256, 4 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
RECORD_BYTES = 1024
"""What a record is taken to hold beside its value."""

_PUBLISHED, _SPOOLED, _FAILURES = sample("published_total"), sample("spooled_total"), sample("publish_failures_total")
_WAITING, _WAITING_BYTES = sample("spool_events"), sample("spool_bytes")

_logger = logging.getLogger("offpath.capture.shipper")


def _dropped(reason: str) -> str:
    return sample("dropped_events_total", reason=reason)


class Outbox:
    """Publishes what is put in.

    Parameters
    ----------
    publisher : the receiver.
    spool : where records wait; ``None`` if there is none: then ``limit`` is all there is.
    counters : where everything that leaves is counted.
    limit : bytes that wait in memory, while a batch is on its way, before they go to the spool.
    settled : told how many of all records put in so far, from the first on, are published, spooled or dropped.
    """

    def __init__(
        self,
        publisher: Publisher,
        spool: Spool | None,
        counters: Counters,
        *,
        limit: int = 8 * 1024 * 1024,
        settled: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._publisher, self._spool, self._counters = publisher, spool, counters
        self._limit, self._settled = limit, settled
        self._pending: deque[Record] = deque()
        self._bytes = 0
        self._done = self._flying = self._early = 0
        self._task: asyncio.Task[None] | None = None
        self.accepted = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._spooling = spool is not None and len(spool) > 0
        self._show()

    def put(self, record: Record) -> None:
        """Take a record. Beyond the limit the oldest in memory go to the spool, or are dropped and counted."""
        self._pending.append(record)
        self.accepted += 1
        self._bytes += _size(record)
        self._wake.set()
        if self._bytes > self._limit:
            self._spill()
            while self._bytes > self._limit and self._pending:
                self._lose(1, "spool_unavailable")

    def start(self) -> None:
        """Publish from now on, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Publish what is left for at most so long; what then remains goes to the spool, or is dropped and counted."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=max(seconds, 0.0))
            if late:
                self._task.cancel()
                await asyncio.wait(late)
        self._spill()
        self._lose(len(self._pending), "shutdown")
        self._show()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if self._pending or self._spooling:
                if await self._step():
                    pause = FIRST_PAUSE
                    await asyncio.sleep(0)
                elif self._closing:
                    return
                else:
                    await self._nap(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _nap(self, seconds: float) -> None:
        """Wait, but keep moving to disk what comes in."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._closing and (left := until - asyncio.get_running_loop().time()) > 0:
            self._spill()
            await asyncio.sleep(min(left, 0.05))

    async def _step(self) -> bool:
        """One batch, from the spool while there is something in it. False if it could not be published now."""
        if not self._spooling:
            return await self._direct()
        self._spill()
        return await self._replay()

    async def _direct(self) -> bool:
        batch = self._take()
        self._flying = len(batch)
        try:
            taken = await self._publish(batch)
        except BaseException:  # cancelled by close(): nobody knows what the receiver got, so it gets it again
            self._back(batch)
            raise
        finally:
            self._flying = 0
        if not taken:
            self._back(batch)
            self._spooling = self._spool is not None
            self._spill()
            return False
        self._note(len(batch))
        return True

    async def _replay(self) -> bool:
        assert self._spool is not None
        try:
            batch = _fitting(self._spool.oldest(BATCH))
            if not batch:
                self._spooling = False
                self._show()
                return True
            if not await self._publish(batch):
                return False
            self._spool.acknowledge(len(batch))
        except (Unavailable, LogError) as error:
            _logger.error("the spool: %s", error)
            return False
        self._show()
        return True

    async def _publish(self, batch: Sequence[Record]) -> bool:
        try:
            await self._publisher.publish(batch)
        except Unavailable as error:
            self._counters[_FAILURES] += 1
            _logger.warning("events wait: %s", error)
            return False
        except Rejected as error:
            if len(batch) == 1:
                self._counters[_dropped("rejected")] += 1
                _logger.error("an event is refused: %s", error)
                return True
            return await self._one_by_one(batch)
        self._counters[_PUBLISHED] += len(batch)
        return True

    async def _one_by_one(self, batch: Sequence[Record]) -> bool:
        """Find the refused ones. The others may arrive twice, with the same ids."""
        before = self._counters[_PUBLISHED], self._counters[_dropped("rejected")]
        done = False
        try:
            for record in batch:
                if not await self._publish([record]):
                    return False
            done = True
        finally:
            if not done:  # the whole batch comes again
                self._counters[_PUBLISHED], self._counters[_dropped("rejected")] = before
        return True

    def _take(self) -> list[Record]:
        batch = _fitting(tuple(islice(self._pending, BATCH)))
        for record in batch:
            self._pending.popleft()
            self._bytes -= _size(record)
        return batch

    def _back(self, batch: Sequence[Record]) -> None:
        self._pending.extendleft(reversed(batch))
        self._bytes += sum(map(_size, batch))

    def _spill(self) -> None:
        """Move what is in memory to the spool."""
        if self._spool is None or not self._pending:
            return
        try:
            while self._pending:
                batch = tuple(islice(self._pending, BATCH))
                self._counters[_dropped("spool_full")] += self._store(batch)
                for record in batch:
                    self._pending.popleft()
                    self._bytes -= _size(record)
                self._note(len(batch))
        except (Unavailable, LogError) as error:
            _logger.error("the spool takes no events: %s", error)
        self._spooling = len(self._spool) > 0
        self._show()

    def _store(self, batch: Sequence[Record]) -> int:
        assert self._spool is not None
        try:
            went = self._spool.add(batch)
        except Rejected as error:  # text that no transport can carry
            if len(batch) > 1:
                return sum(self._store((record,)) for record in batch)
            _logger.error("an event cannot be stored: %s", error)
            self._counters[_dropped("invalid")] += 1
            return 0
        self._counters[_SPOOLED] += len(batch)
        return went

    def _note(self, count: int) -> None:
        """So many are settled; while an older batch is on its way, the younger ones are not reported."""
        self._early += count
        if not self._flying:
            self._done, self._early = self._done + self._early, 0
            self._settled(self._done)

    def _lose(self, count: int, reason: str) -> None:
        """Drop the oldest in memory."""
        for _ in range(count):
            self._bytes -= _size(self._pending.popleft())
        self._counters[_dropped(reason)] += count
        self._note(count)

    def _show(self) -> None:
        if self._spool is not None:
            self._counters[_WAITING] = len(self._spool)
            self._counters[_WAITING_BYTES] = self._spool.bytes


def _size(record: Record) -> int:
    return RECORD_BYTES + len(record.value or b"")


def _fitting(records: Sequence[Record]) -> list[Record]:
    """The first records, at least one, that together are no larger than a batch may be."""
    batch: list[Record] = []
    size = 0
    for record in records:
        size += _size(record)
        if batch and size > BATCH_BYTES:
            break
        batch.append(record)
    return batch
