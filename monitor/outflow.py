"""What leaves a worker: findings to the sinks, dead letters, summaries. Each is tried until it is taken."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from monitor.dead_letters import CUT, cut, dead_letter_record, place_of
from monitor.events import DeadLetter, Partition, Record
from monitor.outcome import Tally
from monitor.parts import Part, to_record
from monitor.transport.base import Publisher, Rejected, Unavailable
from sinks.base import Finding, Sink

log = logging.getLogger("offpath.worker")

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


class Outlet(Protocol):
    """A sink and the monitors whose findings it takes."""

    @property
    def sink(self) -> Sink: ...

    def takes(self, finding: Finding) -> bool: ...


class Outflow:
    """Gives, and waits where it has to.

    Parameters
    ----------
    outlets : sinks, each with its choice of monitors.
    dead_letters : takes what could not be used.
    summaries : takes the parts of windows that are merged elsewhere.
    observer : takes the numbers.
    turn : whoever holds it writes to the sinks, where several workers share them.
    pause : stops the source for so many seconds.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        dead_letters: Publisher,
        summaries: Publisher | None,
        observer: Observer,
        turn: asyncio.Lock,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._outlets = outlets
        self._dead_letters = dead_letters
        self._summaries = summaries
        self._observer = observer
        self._turn = turn
        self._pause = pause
        self.stopping = asyncio.Event()
        """Once set, what cannot be taken now is given up: the next run reads it again."""

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters; the first few are told in the log."""
        for letter in letters[:3]:
            log.warning("dead letter from %s: %s: %s", place_of(letter), letter.reason, letter.message)
        records = [dead_letter_record(letter) for letter in letters]
        self._observer.dead_letters([letter.reason for letter in letters])
        await self.until_taken("dead_letters", partial(self._bury, records))

    async def _bury(self, records: Sequence[Record]) -> None:
        """One that is too large is cut rather than lost, and costs no other."""
        try:
            await self._dead_letters.publish(records)
        except Rejected as error:
            if len(records) > 1:
                for record in records:
                    await self._bury([record])
            elif CUT not in records[0].headers:
                await self._bury([cut(records[0])])
            else:
                self._observer.error("dead_letters")
                log.error("the dead-letter topic rejects a record, which is lost: %s", error)

    async def write(self, findings: Sequence[Finding]) -> None:
        """Give each sink the findings that it takes; all of them are durable on return."""
        async with self._turn:
            for outlet in self._outlets:
                wanted = [finding for finding in findings if outlet.takes(finding)]
                if wanted:
                    await self.until_taken(type(outlet.sink).__name__, partial(outlet.sink.write, wanted))
            for outlet in self._outlets:
                await self.until_taken(type(outlet.sink).__name__, outlet.sink.flush)

    async def publish(self, parts: Sequence[Part]) -> None:
        """Publish summaries."""
        await self.until_taken("summaries", partial(self._publish, parts))

    async def _publish(self, parts: Sequence[Part]) -> None:
        assert self._summaries is not None
        await self._summaries.publish([to_record(part, time.time()) for part in parts])
        said = Counter((part.monitor, "published") for part in parts if part.batch is not None)
        self._observer.observe(Tally(summaries=said))

    async def until_taken(self, stage: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do it until it succeeds or is refused, the source paused meanwhile; once stopping, it gives up."""
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
                if self.stopping.is_set():
                    raise
                await self._pause(backoff)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)
