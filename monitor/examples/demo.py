"""The demo: a model in production with offpath beside it, from the first request to the alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from monitor.examples.outcome import Summary, summarise
from monitor.examples.own import Own, OwnTraffic
from monitor.examples.stack import Stack
from monitor.examples.story import Story
from monitor.examples.traffic import Call, Sent, calls, id_prefix, send
from monitor.examples.watching import Seen, Watcher

DRAIN_SECONDS = 30.0
LOOK_EVERY = 0.5
GENTLE_RATE = 40.0
"""Requests a second once everything has been shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many requests are sent, how fast, and with which seed; ``window`` in rows."""

    seed: int = 1
    clean: int = 1400
    shifted: int = 500
    planted: int = 8
    rate: float = 250.0
    window: int = 500


Report = Callable[[Seen, Sent], None]


async def run(
    story: Story, plan: Plan, stack: Stack, report: Report, conclude: Callable[[Summary], None], *, once: bool
) -> None:
    """Send the story and conclude; without ``once`` go on gently until cancelled."""
    with Watcher(stack.addresses.admin, stack.addresses.worker) as watcher:
        demo = _Demo(story, plan, stack, watcher, report)
        await demo.send(calls(story, plan.clean, plan.shifted, plan.planted, plan.seed), plan.rate)
        await demo.drain()
        conclude(await asyncio.to_thread(demo.summary))
        demo.own.end()
        if not once:
            await demo.send(calls(story, 0, 0, 0, plan.seed + 1), GENTLE_RATE)


class _Demo:
    def __init__(self, story: Story, plan: Plan, stack: Stack, watcher: Watcher, report: Report) -> None:
        self._story, self._plan, self._stack = story, plan, stack
        self._watcher, self._report = watcher, report
        self._sent = Sent()
        self.own = OwnTraffic(stack.log, id_prefix(plan.seed))

    async def send(self, entries: Iterator[Call], rate: float) -> None:
        clients = asyncio.create_task(send(entries, self._stack.addresses.capture, self._sent, rate))
        try:
            while not clients.done():
                await self._look()
        finally:
            clients.cancel()
        await clients

    async def drain(self) -> None:
        """Until the worker has judged all that was answered, and written what it found: it commits only then."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (await self._count()).judged < 2 * self._sent.answered and time.monotonic() < deadline:
            await self._look()
        await self._look()

    async def _count(self) -> Own:
        return await asyncio.to_thread(self.own.count)

    def summary(self) -> Summary:
        name, watcher = self._story.name, self._watcher
        drift = (f"{name}-drift", f"{name}-predictions")
        texts = {found["id"]: found["text"] for found in watcher.findings(drift[0], "window")}
        return summarise(
            name,
            self._plan.seed,
            self._sent,
            watcher.look(),
            self.own.count(),
            {monitor: watcher.timeline(monitor) for monitor in drift},
            watcher.findings(f"{name}-outliers", "instance"),
            texts,
            time.monotonic() - self._stack.began,
        )

    async def _look(self) -> Seen:
        self._stack.check()
        seen = await asyncio.to_thread(self._watcher.look)
        self._report(seen, self._sent)
        await asyncio.sleep(LOOK_EVERY)
        return seen
