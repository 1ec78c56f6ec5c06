"""One thread that sends: what comes while a batch is under way goes together with the next."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from monitor.transport.kafka.port import Outcome, Producer, Refused
from monitor.transport.kafka.records import size
from sinks.records import Record, Unavailable

BATCH_BYTES = 8 * 1024 * 1024
"""Sent before anything is waited for: the clients themselves bound no memory."""

HELD_BYTES = 64 * 1024 * 1024
"""What may wait; beyond it publishing waits for room."""


CLOSE_SECONDS = 3.0


class _Job(NamedTuple):
    topic: str
    records: Sequence[Record]
    bytes: int
    done: asyncio.Future[list[Outcome]]
    loop: asyncio.AbstractEventLoop


class Sender:
    """Sends for any number of publishers of one event loop.

    Parameters
    ----------
    open_producer : makes the producer, in the thread; its :class:`Unavailable` is that of the batch.
    timeout : seconds that a publisher waits for room.
    """

    def __init__(self, open_producer: Callable[[], Producer], timeout: float) -> None:
        self._open, self._timeout = open_producer, timeout
        self._producer: Producer | None = None
        self._jobs: deque[_Job] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    async def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        """One outcome a record, in order; of records that were not tried, :class:`Unavailable`."""
        outcomes: list[Outcome] = []
        for batch in _batches(records):
            outcomes += await self._batch(topic, *batch)
            if isinstance(outcomes[-1], Unavailable):
                away = outcomes[-1]
                return outcomes + [away] * (len(records) - len(outcomes))
        return outcomes

    async def close(self) -> None:
        """Send what waits, and end the thread; a batch that the brokers do not take is left after a while."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    async def _batch(self, topic: str, records: Sequence[Record], total: int) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(self._until_room(total), self._timeout)
        except asyncio.TimeoutError:
            return [Unavailable(f"{self._held} bytes are waiting for Kafka already")] * len(records)
        job = _Job(topic, records, total, loop.create_future(), loop)
        with self._changed:
            if self._closing:
                self._held -= total
                return [Unavailable("the publisher is closed")] * len(records)
            self._jobs.append(job)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="offpath-kafka-sender", daemon=True)
            self._thread.start()
        return await job.done

    async def _until_room(self, wanted: int) -> None:
        while self._held and self._held + wanted > HELD_BYTES:
            self._room.clear()
            await self._room.wait()
        self._held += wanted

    def _run(self) -> None:
        while jobs := self._take():
            records = [record for job in jobs for record in job.records]
            try:
                outcomes = self._send(jobs[0].topic, records)
            except Exception as error:  # whatever a library raises is no reason to send nothing more
                outcomes = [Unavailable(f"nothing could be published: {error}")] * len(records)
            self._settle(jobs, outcomes)
        if self._producer is not None:
            self._producer.close()

    def _take(self) -> list[_Job]:
        """The next jobs of one topic, together no larger than a batch; none at the end."""
        with self._changed:
            while not self._jobs and not self._closing:
                self._changed.wait()
            jobs: list[_Job] = []
            total = 0
            while self._jobs and (not jobs or (self._jobs[0].topic == jobs[0].topic and total < BATCH_BYTES)):
                jobs.append(self._jobs.popleft())
                total += jobs[-1].bytes
            return jobs

    def _send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        if self._producer is None:
            self._producer = self._open()
        return _send_apart(self._producer, topic, records)

    def _settle(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        start = 0
        for job in jobs:
            stop = start + len(job.records)
            told = list(outcomes[start:stop])
            start = stop
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(self._done, job, told)

    def _done(self, job: _Job, outcomes: list[Outcome]) -> None:
        self._held -= job.bytes
        self._room.set()
        if not job.done.done():
            job.done.set_result(outcomes)


def _send_apart(producer: Producer, topic: str, records: Sequence[Record]) -> list[Outcome]:
    """Send; what the broker refuses together in halves again, until it is known which records are meant.

    Brokers refuse a batch as a whole. In halves a bad record among a thousand costs twenty sends more, and the others
    keep their order.
    """
    outcomes = producer.send(topic, records)
    refused = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Refused)]
    if len(records) == 1 or not refused:
        return outcomes
    middle = (len(refused) + 1) // 2
    away: Unavailable | None = None
    for half in (refused[:middle], refused[middle:]):
        if not half:
            continue
        again: list[Outcome] = [away] * len(half) if away else _send_apart(producer, topic, [records[i] for i in half])
        for i, outcome in zip(half, again, strict=True):
            outcomes[i] = outcome
        away = next((outcome for outcome in again if isinstance(outcome, Unavailable)), None)
    return outcomes


def _batches(records: Sequence[Record]) -> list[tuple[Sequence[Record], int]]:
    batches: list[tuple[Sequence[Record], int]] = []
    start = total = 0
    for i, record in enumerate(records):
        if total > BATCH_BYTES:
            batches.append((records[start:i], total))
            start, total = i, 0
        total += size(record)
    return [*batches, (records[start:], total)] if start < len(records) else batches
