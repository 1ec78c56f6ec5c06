"""Reads a topic as a member of a consumer group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Future

from monitor.events import Checkpoint, Partition
from monitor.transport.base import Leaving, Signal
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.port import Client, Fenced
from monitor.transport.kafka.pump import Pump
from monitor.transport.kafka.signals import Signals
from sinks.records import Unavailable

BUFFER_BYTES = 32 * 1024 * 1024
STALE_SECONDS = 1.0
"""After so long without a poll this process was stopped, or starved: somebody else may have its partitions."""

REFUSALS, REFUSAL_SECONDS = 20, 0.1
"""How often a commit is tried while the group is changing, and the pause in between."""

_logger = logging.getLogger("offpath.transport")


class KafkaSource:
    """The partitions that the group gives to this member, in blocks, as they come.

    A thread polls all the time, also while the worker waits for a sink: a slow worker is not thrown out of its group.
    Brokers that are away later are a pause, not an end.

    Parameters
    ----------
    client, topic, group : whose records to read, and whose commits to resume from.
    states : where the states of checkpoints are kept.
    warmup : how far before the commit to begin.
    instance : name for static membership, of this member alone: it gets its partitions back after a restart.
    session : seconds after which a member that is gone loses its partitions.
    timeout : seconds that a commit may take.
    clock : epoch seconds, for ``Idle``.

    Raises
    ------
    Unavailable : from the iteration, if there is no such topic.
    """

    def __init__(
        self,
        client: Client,
        topic: str,
        group: str,
        states: States,
        *,
        warmup: int = 10_000,
        instance: str = "",
        session: float = 45.0,
        timeout: float = 10.0,
        buffer_bytes: int = BUFFER_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._topic, self._group, self._states = client, topic, group, states
        self._warmup, self._instance, self._session, self._clock = warmup, instance, session, clock
        self._timeout = timeout
        self._signals = Signals(buffer_bytes)
        self._pump: Pump | None = None
        self._owed: dict[int, Checkpoint] = {}
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Signal]:
        self._signals.attach(asyncio.get_running_loop())
        if self._pump is None:
            self._pump = await asyncio.to_thread(self._join)
            self._pump.start()
        else:
            self._pump.rewind()
        pump = self._pump
        pump.listening = True
        try:
            while not self._closed:
                held = pump.resume_at - time.monotonic()
                signal = await self._signals.get(blocks=held <= 0, seconds=held if held > 0 else None)
                if signal is not None:
                    yield signal
                elif self._signals.ended:
                    return
                if isinstance(signal, Leaving):
                    pump.handled.set()
        finally:
            pump.listening = False
            pump.handled.set()

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Durably note where to resume; partitions that are no longer ours are left out, quietly.

        Raises :class:`Unavailable`.
        """
        places = {int(name.rpartition("/")[2]): checkpoint for name, checkpoint in checkpoints.items()}
        if self._pump is not None:
            await self._commit(self._pump, places)

    async def still_ours(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """Those of the partitions that this member has, as far as it can know after a stop of the whole process."""
        pump = self._pump
        if pump is None:
            return ()
        now = time.monotonic()
        if now - pump.polled > STALE_SECONDS:  # a poll that began later would tell
            while pump.polled < now + STALE_SECONDS / 10 and not pump.closing.is_set():
                await asyncio.sleep(0.01)
                if time.monotonic() - now > self._session:
                    break
        return set(partitions) & set(pump.names())

    async def pause(self, seconds: float) -> None:
        """Deliver nothing for that long; the group is kept."""
        if self._pump is not None:
            self._pump.resume_at = time.monotonic() + seconds
        else:
            self._pause_at_start = seconds

    async def close(self) -> None:
        """Leave the group; again is harmless."""
        if self._closed:
            return
        self._closed = True
        self._signals.end()
        if self._pump is not None:
            await asyncio.to_thread(self._pump.close, self._session)

    def _join(self) -> Pump:
        if not self._client.partitions(self._topic):
            raise Unavailable(f"there is no topic {self._topic}: make it, or set transport.create_topics: true")
        member = self._client.member(self._group, instance=self._instance, session=self._session)
        self._member = member
        pump = Pump(member, self._topic, self._states, self._signals, warmup=self._warmup, clock=self._clock)
        pump.resume_at = time.monotonic() + self._pause_at_start
        return pump

    _pause_at_start = 0.0

    async def _commit(self, pump: Pump, places: Mapping[int, Checkpoint]) -> None:
        """While the group is changing a commit is refused, also of partitions that stay ours: soon after, it is not."""
        wanted = {**self._owed, **places}
        self._owed = {}
        for _ in range(1 if pump.leaving else REFUSALS):
            wanted = {p: checkpoint for p, checkpoint in wanted.items() if p in pump.owned}
            try:
                if wanted:
                    await self._once(pump, wanted)
            except Fenced as error:
                _logger.info("a commit was refused, as the group is changing: %s", error)
                await asyncio.sleep(REFUSAL_SECONDS)
            else:
                return
        self._owed = wanted  # goes with the next

    async def _once(self, pump: Pump, wanted: Mapping[int, Checkpoint]) -> None:
        sent = await asyncio.wrap_future(pump.errands.call(lambda: self._send(pump, wanted)))
        try:
            await asyncio.wait_for(asyncio.wrap_future(sent), self._timeout)
        except asyncio.TimeoutError:
            raise Unavailable(f"Kafka did not answer to a commit in {self._timeout:g} s") from None
        pump.errands.call(lambda: self._states.committed(list(wanted)))

    def _send(self, pump: Pump, wanted: Mapping[int, Checkpoint]) -> Future[None]:
        """In the polling thread."""
        told = {p: (checkpoint.offset, self._states.save(p, checkpoint.state)) for p, checkpoint in wanted.items()}
        if not pump.leaving:
            return self._member.commit(told)
        done: Future[None] = Future()
        try:
            self._member.commit_now(told)
        except (Fenced, Unavailable) as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done
