"""The only loop: read, judge, flush the sinks, then commit.

Nothing is committed before every finding and dead letter of it is durable; a sink that is away pauses the source
instead of filling memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from monitor.events import Checkpoint, Delivery, Partition
from monitor.outcome import Outcome
from monitor.outflow import Observer, Outflow
from monitor.parts import Part
from monitor.transport.base import Assigned, Block, Idle, Leaving, Quiet, Revoked, Source, Waiting
from sinks.base import Finding

log = logging.getLogger("offpath.worker")

HELD_FINDINGS = 1000
"""So many are given to the sinks before it is time to commit."""

HELD_PARTS = 50
"""The same, of summaries, each of which may fill a record."""


class Judging(Protocol):
    """What judges deliveries: :class:`~monitor.pipeline.Pipeline`, or that of summaries."""

    def assign(self, partition: Partition, checkpoint: Checkpoint | None) -> None: ...

    def revoke(self, partition: Partition) -> None: ...

    def process(self, partition: Partition, deliveries: Iterable[Delivery]) -> Outcome: ...

    def expire(self, now: float) -> Outcome: ...

    def quiet(self, partitions: Iterable[Partition], now: float) -> Outcome: ...

    def checkpoint(self, partition: Partition) -> Checkpoint | None: ...

    def fill(self) -> Mapping[str, float]: ...


class Worker:
    """Runs a pipeline over a source.

    Parameters
    ----------
    source, pipeline : where deliveries come from, and what judges them.
    outflow : takes what comes of them.
    observer : takes the numbers.
    clock : seconds, monotonic; only for the rhythm of commits.
    commit_every : seconds between commits while there is work; when idle it commits at once.
    """

    def __init__(
        self,
        source: Source,
        pipeline: Judging,
        outflow: Outflow,
        observer: Observer,
        clock: Callable[[], float],
        commit_every: float = 1.0,
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._outflow = outflow
        self._observer = observer
        self._clock = clock
        self._commit_every = commit_every
        self._assigned: set[Partition] = set()
        self._behind: set[Partition] = set()
        self._findings: dict[Partition, list[Finding]] = {}
        self._parts: dict[Partition, list[Part]] = {}
        self._dirty: set[Partition] = set()
        self._last_commit = clock()

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
            if self._outflow.stopping.is_set():
                break
        await self._commit()

    def stop(self) -> None:
        """Ask the loop to end after the block at hand."""
        self._outflow.stopping.set()

    async def _rebalance(self, signal: Assigned | Leaving | Revoked) -> None:
        if isinstance(signal, Assigned):
            log.info("reading %s from offset %d", signal.partition, signal.start)
            self._assigned.add(signal.partition)
            self._observer.lag(signal.partition, 0, 0.0)  # the series is there before there is anything to read
            self._resume(signal.partition, signal.checkpoint)
        elif isinstance(signal, Leaving):
            await self._commit()
        else:
            log.info("%s is another worker's now", signal.partition)
            self._forget(signal.partition)

    def _resume(self, partition: Partition, checkpoint: Checkpoint | None) -> None:
        try:
            self._pipeline.assign(partition, checkpoint)
        except (ValueError, TypeError, AttributeError) as error:  # another program's commit, in our group
            if checkpoint is None:
                raise
            place = f"{partition}, committed at offset {checkpoint.offset}"
            log.error("%s: its checkpoint cannot be read (%s); windows begin anew there", place, error)
            self._pipeline.assign(partition, checkpoint._replace(state=""))

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
        first, last = block.deliveries[0], block.deliveries[-1]
        self._lag(block, first, block.end_offset - first.offset)  # a single event may take a minute to judge
        outcome = self._pipeline.process(block.partition, block.deliveries)
        self._dirty.add(block.partition)
        self._lag(block, last, block.end_offset - last.offset - 1)
        await self._emit(outcome, block.partition)
        await self._commit_in_time()

    def _lag(self, block: Block, at: Delivery, events: int) -> None:
        """So many events wait, and event time has come to that of ``at``."""
        since = at.record.timestamp
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
            await self._outflow.bury(outcome.dead_letters)

    async def _commit(self) -> None:
        """Give the findings to the sinks and flush them, publish summaries, then commit what went on."""
        ours = set(await self._source.still_ours(self._assigned))
        findings = [finding for partition, of_it in self._findings.items() if partition in ours for finding in of_it]
        parts = [part for partition, of_it in self._parts.items() if partition in ours for part in of_it]
        self._findings.clear()
        self._parts.clear()
        await self._outflow.write(findings)
        if parts:
            await self._outflow.publish(parts)
        checkpoints = {
            partition: checkpoint
            for partition in self._dirty & ours
            if (checkpoint := self._pipeline.checkpoint(partition)) is not None
        }
        self._last_commit = self._clock()
        self._observer.fill(self._pipeline.fill())
        if checkpoints:
            await self._outflow.until_taken("commit", lambda: self._source.commit(checkpoints))
            self._observer.committed(time.time())
        self._dirty -= set(checkpoints)

    def _forget(self, partition: Partition) -> None:
        self._assigned.discard(partition)
        self._behind.discard(partition)
        self._findings.pop(partition, None)
        self._parts.pop(partition, None)
        self._observer.lag(partition, 0, 0.0)
        self._dirty.discard(partition)
        self._pipeline.revoke(partition)
