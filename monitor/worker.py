"""The only loop: read, judge, flush the sinks, then commit.

Nothing is committed before every finding and dead letter of it is durable; a sink that is away pauses the source
instead of filling memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from monitor.dead_letters import CUT, cut, dead_letter_record, place_of
from monitor.events import Checkpoint, DeadLetter, Delivery, Partition, Record
from monitor.outcome import Outcome, Tally
from monitor.parts import Part, to_record
from monitor.transport.base import (
    Assigned,
    Block,
    Idle,
    Leaving,
    Publisher,
    Quiet,
    Rejected,
    Revoked,
    Source,
    Unavailable,
    Waiting,
)
from sinks.base import Finding, Sink

log = logging.getLogger("offpath.worker")

HELD_FINDINGS = 1000
"""So many are given to the sinks before it is time to commit."""

HELD_PARTS = 50
"""The same, of summaries, each of which may fill a record."""

FIRST_BACKOFF, LAST_BACKOFF = 0.2, 30.0
"""Seconds between attempts at a sink that is away."""


class Observer(Protocol):
    """Takes the worker's own numbers: see :class:`sinks.pipeline_metrics.PipelineMetrics`."""

    def observe(self, tally: Tally) -> None: ...

    def fill(self, fill: Mapping[str, float]) -> None: ...

    def lag(self, partition: Partition, events: int, seconds: float) -> None: ...

    def dead_letters(self, reasons: Sequence[str]) -> None: ...

    def error(self, stage: str) -> None: ...

    def committed(self, now: float) -> None: ...


class Judging(Protocol):
    """What judges deliveries: :class:`~monitor.pipeline.Pipeline`, or that of summaries."""

    def assign(self, partition: Partition, checkpoint: Checkpoint | None) -> None: ...

    def revoke(self, partition: Partition) -> None: ...

    def process(self, partition: Partition, deliveries: Iterable[Delivery]) -> Outcome: ...

    def expire(self, now: float) -> Outcome: ...

    def quiet(self, partitions: Iterable[Partition], now: float) -> Outcome: ...

    def checkpoint(self, partition: Partition) -> Checkpoint | None: ...

    def fill(self) -> Mapping[str, float]: ...


class Outlet(Protocol):
    """A sink and the monitors whose findings it takes."""

    @property
    def sink(self) -> Sink: ...

    def takes(self, finding: Finding) -> bool: ...


class Worker:
    """Runs a pipeline over a source.

    Parameters
    ----------
    source, pipeline : where deliveries come from, and what judges them.
    outlets : sinks, each with its choice of monitors.
    dead_letters : takes what could not be used.
    observer : takes the numbers.
    clock : seconds, monotonic; only for the rhythm of commits.
    commit_every : seconds between commits while there is work; when idle it commits at once.
    summaries : takes the parts of windows that are merged elsewhere.
    turn : whoever holds it writes to the sinks, where several workers share them.
    """

    def __init__(
        self,
        source: Source,
        pipeline: Judging,
        outlets: Sequence[Outlet],
        dead_letters: Publisher,
        observer: Observer,
        clock: Callable[[], float],
        commit_every: float = 1.0,
        summaries: Publisher | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._outlets = outlets
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._commit_every = commit_every
        self._summaries = summaries
        self._turn = turn or asyncio.Lock()
        self._assigned: set[Partition] = set()
        self._behind: set[Partition] = set()
        self._findings: dict[Partition, list[Finding]] = {}
        self._parts: dict[Partition, list[Part]] = {}
        self._dirty: set[Partition] = set()
        self._last_commit = clock()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until :meth:`stop`; then flushes and commits what was judged."""
        async for signal in self._source:
            if isinstance(signal, Block):
                await self._block(signal)
            elif isinstance(signal, Idle):
                await self._idle(signal.now)
            elif isinstance(signal, Quiet):
                await self._expired(self._pipeline.quiet(signal.partitions, signal.now))
            elif isinstance(signal, Waiting):
                await self._commit_in_time()
            else:
                await self._rebalance(signal)
            if self._stopping.is_set():
                break
        await self._commit()

    def stop(self) -> None:
        """Ask the loop to end after the block at hand."""
        self._stopping.set()

    async def _rebalance(self, signal: Assigned | Leaving | Revoked) -> None:
        if isinstance(signal, Assigned):
            log.info("reading %s from offset %d", signal.partition, signal.start)
            self._assigned.add(signal.partition)
            self._observer.lag(signal.partition, 0, 0.0)  # the series is there before there is anything to read
            self._pipeline.assign(signal.partition, signal.checkpoint)
        elif isinstance(signal, Leaving):
            await self._commit()
        else:
            log.info("%s is another worker's now", signal.partition)
            self._forget(signal.partition)

    async def _idle(self, now: float) -> None:
        for partition in self._behind:
            self._observer.lag(partition, 0, 0.0)
        self._behind.clear()
        await self._expired(self._pipeline.expire(now))
        if self._dirty:
            await self._commit()

    async def _expired(self, outcome: Outcome) -> None:
        if outcome.findings or outcome.parts:  # windows were closed by the clock: their place has to be noted too
            self._dirty |= self._assigned
            await self._emit(outcome)
        else:
            self._observer.observe(outcome.tally)

    async def _block(self, block: Block) -> None:
        outcome = self._pipeline.process(block.partition, block.deliveries)
        self._dirty.add(block.partition)
        self._lag(block)
        await self._emit(outcome, block.partition)
        await self._commit_in_time()

    def _lag(self, block: Block) -> None:
        last = block.deliveries[-1]
        events = block.end_offset - last.offset - 1
        since = last.record.timestamp
        self._observer.lag(block.partition, events, max(0.0, time.time() - since) if events and since > 0 else 0.0)
        if events:
            self._behind.add(block.partition)

    async def _commit_in_time(self) -> None:
        findings, parts = (sum(map(len, held.values())) for held in (self._findings, self._parts))
        full = findings > HELD_FINDINGS or parts > HELD_PARTS
        if self._dirty and (full or self._clock() - self._last_commit >= self._commit_every):
            await self._commit()

    async def _emit(self, outcome: Outcome, partition: Partition | None = None) -> None:
        """Findings are kept until the commit: those of a partition that is lost before are another worker's.

        They are of ``partition``, or else each of that where its rows are.
        """
        self._observer.observe(outcome.tally)
        for finding in outcome.findings:
            self._findings.setdefault(partition or finding.first.partition, []).append(finding)
        for part in outcome.parts:
            self._parts.setdefault(part.partition, []).append(part)
        for finding in {finding.monitor: finding for finding in outcome.findings if finding.alarm}.values():
            log.warning("%s: %s", finding.monitor, finding.text)  # of many windows at once the last
        if outcome.dead_letters:
            await self._bury(outcome.dead_letters)

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters[:3]:
            log.warning("dead letter from %s: %s: %s", place_of(letter), letter.reason, letter.message)
        records = [dead_letter_record(letter) for letter in letters]
        self._observer.dead_letters([letter.reason for letter in letters])
        await self._until_taken("dead_letters", lambda: self._publish(records))

    async def _publish(self, records: Sequence[Record]) -> None:
        """Publish dead letters; one that is too large is cut rather than lost, and costs no other."""
        try:
            await self._dead_letters.publish(records)
        except Rejected as error:
            if len(records) > 1:
                for record in records:
                    await self._publish([record])
            elif CUT not in records[0].headers:
                await self._publish([cut(records[0])])
            else:
                self._observer.error("dead_letters")
                log.error("the dead-letter topic rejects a record, which is lost: %s", error)

    async def _commit(self) -> None:
        """Give the findings to the sinks and flush them, publish summaries, then commit what went on."""
        ours = set(await self._source.still_ours(self._assigned))
        findings = [finding for partition, of_it in self._findings.items() if partition in ours for finding in of_it]
        parts = [part for partition, of_it in self._parts.items() if partition in ours for part in of_it]
        self._findings.clear()
        self._parts.clear()
        async with self._turn:
            await self._write(findings)
        if parts:
            await self._until_taken("summaries", partial(self._publish_parts, parts))
        checkpoints = {
            partition: checkpoint
            for partition in self._dirty & ours
            if (checkpoint := self._pipeline.checkpoint(partition)) is not None
        }
        self._last_commit = self._clock()
        self._observer.fill(self._pipeline.fill())
        if checkpoints:
            await self._until_taken("commit", lambda: self._source.commit(checkpoints))
            self._observer.committed(time.time())
        self._dirty -= set(checkpoints)

    async def _write(self, findings: Sequence[Finding]) -> None:
        for outlet in self._outlets:
            wanted = [finding for finding in findings if outlet.takes(finding)]
            if wanted:
                await self._until_taken(type(outlet.sink).__name__, partial(outlet.sink.write, wanted))
        for outlet in self._outlets:
            await self._until_taken(type(outlet.sink).__name__, outlet.sink.flush)

    async def _publish_parts(self, parts: Sequence[Part]) -> None:
        assert self._summaries is not None
        await self._summaries.publish([to_record(part, time.time()) for part in parts])
        said = Counter((part.monitor, "published") for part in parts if part.batch is not None)
        self._observer.observe(Tally(summaries=said))

    def _forget(self, partition: Partition) -> None:
        self._assigned.discard(partition)
        self._behind.discard(partition)
        self._findings.pop(partition, None)
        self._parts.pop(partition, None)
        self._observer.lag(partition, 0, 0.0)
        self._dirty.discard(partition)
        self._pipeline.revoke(partition)

    async def _until_taken(self, stage: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do it until it succeeds or is refused, the source paused meanwhile; on :meth:`stop` give up, uncommitted."""
        backoff = FIRST_BACKOFF
        while True:
            try:
                await act()
                return
            except Rejected as error:  # for good: trying again would stop everything behind it
                self._observer.error(stage)
                log.error("%s: %s", stage, error)
                return
            except Unavailable as error:
                self._observer.error(stage)
                log.warning("%s is away, trying again in %.1f s: %s", stage, backoff, error)
                if self._stopping.is_set():
                    raise
                await self._source.pause(backoff)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)
