"""A rebalance as kafka-python tells it, to the port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from kafka import AsyncConsumerRebalanceListener, TopicPartition

from monitor.transport.kafka.port import Rebalance

NAP = 0.005


class Reader(Protocol):
    """Whoever reads the partitions that come and go."""

    def begun(self, starts: Mapping[int, int]) -> None:
        """The partitions were assigned, and are read from these offsets."""
        ...

    def ended(self, partitions: Iterable[int]) -> None:
        """The partitions are going: what is still fetched of them is not ours."""
        ...


class Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Runs what blocks in a thread of its own: the library calls it on the loop that sends its heartbeats."""

    def __init__(self, member: Reader, rebalance: Rebalance, sleep: Callable[[float], Any]) -> None:
        self._member, self._rebalance, self._sleep = member, rebalance, sleep
        self._thread = ThreadPoolExecutor(1, "offpath-rebalance")

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = sorted(place.partition for place in assigned)
        if partitions:
            await self._run(lambda: self._member.begun(self._rebalance.begin(partitions)))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._leave(revoked, lost=False)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        await self._leave(lost, lost=True)

    async def _leave(self, places: Iterable[TopicPartition], *, lost: bool) -> None:
        partitions = sorted(place.partition for place in places)
        if partitions:
            self._member.ended(partitions)
            await self._run(lambda: self._rebalance.leave(partitions, lost))

    async def _run(self, act: Callable[[], None]) -> None:
        running = self._thread.submit(act)
        while not running.done():
            await self._sleep(NAP)
        running.result()
