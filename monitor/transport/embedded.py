"""Source and publisher on the embedded log.

SQLite answers in microseconds, so both call it on the event loop: a thread hop a block would cost more than the read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from monitor.events import Checkpoint, Partition, Record
from monitor.settings import TransportSettings, parse_size
from monitor.transport.base import Assigned, Block, Idle, Quiet, Rejected, Signal, Unavailable
from monitor.transport.lease import Lease
from monitor.transport.log import EmbeddedLog

__all__ = ["EmbeddedPublisher", "EmbeddedSource", "open_log"]

FIRST_NAP = 0.002
"""Seconds between looks at a log that had records a moment ago; doubles up to ``poll_seconds``."""

QUIET_SECONDS = 1.0
"""A partition without records for so long is told, while others are busy."""

MAX_RECORD_BYTES = 16 * 1024 * 1024

_logger = logging.getLogger("offpath.transport")


def open_log(settings: TransportSettings, *, warmup: int = 10_000) -> EmbeddedLog:
    """The configured log with its topics; its directory is made if there is none.

    Raises
    ------
    LogError : it is no log, or its topic has another number of partitions than configured.
    Unavailable : it cannot be opened now.
    """
    path = Path(settings.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the log's directory {path.parent} cannot be made: {error.strerror}") from error
    log = EmbeddedLog(path, retain_bytes=parse_size(settings.retain), warmup=warmup)
    try:
        log.create_topic(settings.topic, settings.partitions)
        log.create_topic(settings.dead_letters)
    except BaseException:
        log.close()
        raise
    return log


class EmbeddedSource:
    """All partitions of a topic, for the one consumer of a group.

    Assigns every partition first, then gives blocks in turns, and :class:`Idle` when there is nothing more. A log
    that cannot be read for a while is a pause, not an end.

    Parameters
    ----------
    log, topic, group : what to read, and whose commits to resume from. A new topic gets one partition.
    block : records a block at most.
    poll_seconds : longest nap while idle.
    warmup : how far before the commit to begin; default: the log's.
    clock : epoch seconds, for :class:`Idle`.

    Raises
    ------
    Unavailable : the group has a live consumer already, or the log cannot be used now.
    """

    def __init__(
        self,
        log: EmbeddedLog,
        topic: str,
        group: str,
        *,
        block: int = 256,
        poll_seconds: float = 0.05,
        warmup: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._group = log, group
        self._block, self._poll_seconds, self._clock = block, poll_seconds, clock
        self._warmup = log.warmup if warmup is None else warmup
        self._closed = asyncio.Event()
        self._resume_at = 0.0
        lock = log.path.with_name(f"{log.path.name}.{topic}.{group}.lock")
        self._lease = Lease(lock, f"the place of consumer group {group!r} on topic {topic} of {log.path}")
        try:
            self._partitions = log.create_topic(topic)
            for partition in self._partitions:
                log.join(group, partition)
        except BaseException:
            self._lease.release()
            raise

    async def __aiter__(self) -> AsyncIterator[Signal]:
        positions: dict[Partition, int] = {}
        for partition in self._partitions:
            assigned = self._assigned(partition)
            positions[partition] = assigned.start
            yield assigned
        nap = FIRST_NAP
        fed: dict[Partition, float] = dict.fromkeys(self._partitions, time.monotonic())
        while not self._closed.is_set():
            caught_up = True
            quiet = []
            for partition in self._partitions:
                await self._breathe()
                if self._closed.is_set():
                    return
                block = await self._next(partition, positions[partition])
                if block is not None:
                    positions[partition] = block.deliveries[-1].offset + 1
                    caught_up = False
                    fed[partition] = time.monotonic()
                    yield block
                elif time.monotonic() - fed[partition] > QUIET_SECONDS:
                    fed[partition] = time.monotonic()
                    quiet.append(partition)
            if caught_up and not self._closed.is_set():
                yield Idle(self._clock())
                await self._nap(nap)
            elif quiet:
                yield Quiet(tuple(quiet), self._clock())
            nap = min(nap * 2, self._poll_seconds) if caught_up else FIRST_NAP

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Durably note where to resume. Raises :class:`Unavailable`."""
        self._log.commit_all(self._group, checkpoints)

    async def still_ours(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """All: the lease lasts as long as the process."""
        return partitions

    async def pause(self, seconds: float) -> None:
        """Deliver nothing for that long."""
        self._resume_at = time.monotonic() + seconds

    async def close(self) -> None:
        """End the iteration and let another consumer take the group; the log stays open."""
        self._closed.set()
        self._lease.release()

    def _assigned(self, partition: Partition) -> Assigned:
        checkpoint = self._log.committed(self._group, partition)
        oldest, end = self._log.start_offset(partition), self._log.end_offset(partition)
        if checkpoint is None:
            return Assigned(partition, None, oldest)
        if checkpoint.offset > end:
            _logger.warning("%s ends at %d, before the commit at %d", partition, end, checkpoint.offset)
        return Assigned(partition, checkpoint, max(oldest, min(checkpoint.offset, end) - self._warmup))

    async def _next(self, partition: Partition, position: int) -> Block | None:
        """The next block, ``None`` at the end; waits out a log that cannot be read."""
        nap = 0.1
        while not self._closed.is_set():
            try:
                deliveries = self._log.read(partition, position, self._block)
                if not deliveries:
                    return None
                if (first := deliveries[0].offset) > position:
                    _logger.warning("%s: %d records went before they were read", partition, first - position)
                return Block(partition, deliveries, self._log.end_offset(partition))
            except Unavailable as error:
                _logger.warning("cannot read, trying again in %.1f s: %s", nap, error)
                await self._nap(nap)
                nap = min(nap * 2, 5.0)
        return None

    async def _breathe(self) -> None:
        """Let the event loop serve others between blocks, and keep to :meth:`pause`."""
        await asyncio.sleep(0)
        while (left := self._resume_at - time.monotonic()) > 0 and not self._closed.is_set():
            await self._nap(left)

    async def _nap(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)


class EmbeddedPublisher:
    """Appends to a topic; a batch is durable against the death of any process when :meth:`publish` returns.

    Parameters
    ----------
    log, topic : where to; a new topic gets one partition.
    max_record_bytes : records with larger values are rejected.
    """

    def __init__(self, log: EmbeddedLog, topic: str, *, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._log, self._topic = log, topic
        self._max_record_bytes = min(max_record_bytes, log.retain_bytes // 2)
        log.create_topic(topic)

    async def publish(self, records: Sequence[Record]) -> None:
        """Append all in one transaction.

        Raises
        ------
        Rejected : a record is too large or no valid text; records of the batch that are not too large were taken.
        Unavailable : the log is locked, its disk is full: nothing was taken.
        """
        limit = self._max_record_bytes
        large = [record for record in records if record.value is not None and len(record.value) > limit]
        fitting = [record for record in records if record.value is None or len(record.value) <= limit]
        self._log.append(self._topic, fitting)
        if large:
            largest = max(len(record.value or b"") for record in large)
            raise Rejected(
                f"{len(large)} of {len(records)} records are larger than topic {self._topic} "
                f"takes: {largest} bytes, at most {limit}",
                refused=large,
            )

    async def close(self) -> None:
        """Nothing to do: the log belongs to whoever opened it."""
