"""From records to their receiver: in batches, over the disk while it is away or behind, in order.

Directly, as long as it takes them at once. From the first failure on, or when a batch is under way for too long,
everything goes to the spool and is published from there, oldest first and with the same ids, until the spool is empty.
A record leaves the spool when the receiver has taken it. What cannot be kept is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from monitor.capture.delivering import deliver
from monitor.capture.metrics import Counters, sample
from monitor.capture.quiet import Quiet
from monitor.capture.shelf import Shelf
from monitor.capture.spool import RECORD_BYTES, size_of
from monitor.transport.base import Publisher
from sinks.records import Record

BATCH, BATCH_BYTES = 256, 2 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

SLOW_SECONDS, SPILL_SECONDS = 1.0, 0.1
"""A batch that is under way for so long goes to the spool too, and what comes in after it every so often."""

_PUBLISHED, _FAILURES = sample("published_total"), sample("publish_failures_total")

_logger = logging.getLogger("offpath.capture.shipper")


class Outbox:
    """Publishes what is put in.

    Parameters
    ----------
    publisher : the receiver.
    shelf : where records wait; ``None`` if there is none: then ``limit`` is all there is.
    counters : where everything that leaves is counted.
    limit : bytes that wait in memory before they go to the spool. A batch on its way comes on top.
    settled : told how many of all records put in so far, from the first on, are published, spooled or dropped.
    """

    def __init__(
        self,
        publisher: Publisher,
        shelf: Shelf | None,
        counters: Counters,
        *,
        limit: int = 8 * 1024 * 1024,
        settled: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._publisher, self._shelf, self._counters = publisher, shelf, counters
        self._limit, self._settled = limit, settled
        self._pending: deque[Record] = deque()
        self._bytes = 0
        self._done = self._early = 0
        self._flight: Sequence[Record] = ()  # on its way, and in memory only
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._quiet = Quiet(_logger)
        self._asked_pause = 0.0
        self._moved = False
        self.accepted = 0

    def put(self, record: Record) -> None:
        """Take a record. Beyond the limit the oldest in memory go to the spool, or are dropped and counted."""
        self._pending.append(record)
        self.accepted += 1
        self._bytes += RECORD_BYTES + len(record.value or b"")
        if len(self._pending) == 1:
            self._wake.set()
        if self._bytes > self._limit:
            self._spill()
            while self._bytes > self._limit and self._pending:
                self._lose(1, "spool_unavailable")

    @property
    def crowded(self) -> bool:
        """More than half of the memory is in use: better give the publisher a moment."""
        return 2 * self._bytes > self._limit

    @property
    def keeps_up(self) -> bool:
        """Nothing waits on disk, and little in memory."""
        return not self._shelf and not self.crowded

    @property
    def done(self) -> int:
        """How many of the records accepted are published, spooled or dropped, from the first on."""
        return self._done

    def start(self) -> None:
        """Publish from now on, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Publish what is left for at most so long; what then remains goes to the spool, or is dropped and counted.

        The publisher is closed.
        """
        self._closing = True
        self._wake.set()
        moment = min(0.1 * seconds, 0.5)  # what closing and giving up may take, of the time there is
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=max(seconds - 3 * moment, 0.0))
            if late:  # closing the publisher tells what of the batch was taken
                await self._close_publisher(moment)
                _, late = await asyncio.wait({self._task}, timeout=moment)
            if late:
                self._task.cancel()
                await asyncio.wait(late)
        self._spill()
        self._lose(len(self._pending), "shutdown")
        await self._close_publisher(max(moment, 0.1))

    async def _close_publisher(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._publisher.close(), seconds)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if not (self._pending or self._shelf):
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            elif await self._step():
                pause = FIRST_PAUSE
                await asyncio.sleep(0)
            elif self._closing:
                return
            else:
                await self._nap(max(pause, self._asked_pause))
                pause = FIRST_PAUSE if self._moved else min(pause * 2, LONGEST_PAUSE)

    async def _nap(self, seconds: float) -> None:
        """Wait, but keep moving to disk what comes in."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._closing and (left := until - asyncio.get_running_loop().time()) > 0:
            self._spill()
            await asyncio.sleep(min(left, SPILL_SECONDS))

    async def _step(self) -> bool:
        """One batch, from the spool while there is something in it. False if it was not taken as a whole."""
        if self._shelf:
            self._spill()
        batch: Sequence[Record] = self._shelf.oldest(BATCH, BATCH_BYTES) if self._shelf else ()
        if not batch:  # nothing is in the spool, or it cannot be read now
            batch = self._flight = self._take()
            if not batch:
                return not self._shelf
        timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._slow)
        self._timer = timer
        left: Sequence[Record] = batch
        try:
            left = await self._publish(batch)
        finally:  # also when close() ends it: nobody knows what the receiver got, so it gets it again
            self._timer.cancel()
            self._land(batch, left)
        return not left

    def _land(self, batch: Sequence[Record], left: Sequence[Record]) -> None:
        """A batch is no longer on its way."""
        if not self._flight:
            assert self._shelf is not None
            missing = set(map(id, left))
            self._shelf.settle([index for index, record in enumerate(batch) if id(record) in missing])
            return
        self._flight = ()
        self._pending.extendleft(reversed(left))
        self._bytes += sum(map(size_of, left))
        self._note(len(batch) - len(left))
        if left:
            self._spill()

    async def _publish(self, batch: Sequence[Record]) -> Sequence[Record]:
        """What is left of it."""
        outcome = await deliver(self._publisher, batch)
        self._counters[_PUBLISHED] += len(batch) - len(outcome.left) - len(outcome.refused)
        self._moved = len(outcome.left) < len(batch)
        self._asked_pause = outcome.retry_after
        if outcome.refused:
            self._counters[sample("dropped_events_total", reason="rejected")] += len(outcome.refused)
            self._quiet.say(logging.ERROR, "refused", f"{len(outcome.refused)} events are refused: {outcome.refusal}")
        if outcome.left:
            self._counters[_FAILURES] += 1
            self._quiet.say(logging.WARNING, "away", f"events wait: {outcome.problem}")
        elif self._quiet.again("away"):
            _logger.info("the receiver takes events again")
        return outcome.left

    def _slow(self) -> None:
        self._spill()
        self._timer = asyncio.get_running_loop().call_later(SPILL_SECONDS, self._slow)

    def _take(self) -> list[Record]:
        batch: list[Record]
        if len(self._pending) <= BATCH and self._bytes <= BATCH_BYTES:
            batch = list(self._pending)
            self._pending.clear()
            self._bytes = 0
            return batch
        batch = []
        size = 0
        while self._pending and len(batch) < BATCH:
            one = size_of(self._pending[0])
            if batch and size + one > BATCH_BYTES:
                break
            size += one
            batch.append(self._pending.popleft())
        self._bytes -= size
        return batch

    def _spill(self) -> None:
        """Move what is in memory to the spool, oldest first."""
        if self._shelf is None or self._shelf.resting or not (self._pending or self._flight):
            return
        if self._flight:
            if self._shelf:  # it could not be read, and holds what is older
                return
            if not self._shelf.add(self._flight, handed_out=True):
                return
            flown, self._flight = len(self._flight), ()
            self._note(flown)
        while batch := self._take():
            if not self._shelf.add(batch):
                self._pending.extendleft(reversed(batch))
                self._bytes += sum(map(size_of, batch))
                return
            self._note(len(batch))

    def _note(self, count: int) -> None:
        """So many are settled; while an older batch is in memory only, the younger ones are not reported."""
        self._early += count
        if not self._flight:
            self._done, self._early = self._done + self._early, 0
            self._settled(self._done)

    def _lose(self, count: int, reason: str) -> None:
        """Drop the oldest in memory."""
        for _ in range(count):
            self._bytes -= size_of(self._pending.popleft())
        self._counters[sample("dropped_events_total", reason=reason)] += count
        self._note(count)
