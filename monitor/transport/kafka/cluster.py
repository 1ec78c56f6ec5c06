"""One process's view of a cluster: topics as configured, publishers that share one sender, a source."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from monitor.events import Partition
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.connect import connect
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.port import Client, Outcome, Producer
from monitor.transport.kafka.publisher import KafkaPublisher
from monitor.transport.kafka.sender import Sender
from monitor.transport.kafka.source import KafkaSource
from sinks.records import Record, Unavailable

STATE_RESERVE = 1000
"""Bytes of a state record beside its part of the state."""

_logger = logging.getLogger("offpath.transport")


class Cluster:
    """Connected.

    Parameters
    ----------
    options : where the brokers are.
    create : make topics that are not there.
    connector : answers the connected client.

    Raises
    ------
    Unavailable : no broker can be used; the message says why and what to change.
    """

    def __init__(
        self, options: KafkaOptions, *, create: bool, connector: Callable[[KafkaOptions], Client] = connect
    ) -> None:
        self.options, self._create = options, create
        self._client = connector(options)
        self._sender = Sender(self._client.producer, options.timeout)
        self._states: Producer | None = None

    def ensure(self, topic: str, layout: TopicLayout) -> None:
        """The topic is there when this returns; an existing one stays as it is.

        Raises
        ------
        Unavailable : it is not there and may not be made, or cannot be.
        """
        if self._client.partitions(topic):
            return
        if not self._create:
            raise Unavailable(f"there is no topic {topic}: make it, or set transport.create_topics: true")
        _logger.info("making topic %s with %d partitions", topic, layout.partitions)
        self._client.create(topic, layout)
        deadline = time.monotonic() + self.options.timeout
        while not self._client.partitions(topic):
            if time.monotonic() > deadline:
                raise Unavailable(f"topic {topic} was made, but is not known after {self.options.timeout:g} s")
            time.sleep(0.05)

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The topic's partitions, as far as they are known now."""
        return tuple(f"{topic}/{number}" for number in range(self._client.partitions(topic)))

    def publisher(self, topic: str) -> KafkaPublisher:
        """All publishers of a process share its one sending thread."""
        return KafkaPublisher(self._sender, topic, self.options.max_record)

    def source(
        self, topic: str, group: str, state_topic: str, *, warmup: int, instance: str = "", session: float = 45.0
    ) -> KafkaSource:
        """A member of the group, whose larger checkpoints go to the state topic."""
        states = States(
            f"{group}/{topic}",
            lambda records: self._write(state_topic, records),
            lambda offset: self._client.read_one(state_topic, 0, offset),
            self.options.max_record - STATE_RESERVE,
        )
        timeout = self.options.timeout
        return KafkaSource(
            self._client, topic, group, states, warmup=warmup, instance=instance, session=session, timeout=timeout
        )

    def ready(self, topic: str) -> None:
        """Raises :class:`Unavailable` while the brokers are away; asks them, and waits for the answer."""
        if not self._client.partitions(topic):
            raise Unavailable(f"there is no topic {topic}")

    async def close(self) -> None:
        await self._sender.close()
        if self._states is not None:
            self._states.close()
        self._client.close()

    def abandon(self) -> None:
        """Let go of the connection; nothing was sent yet."""
        self._client.close()

    def _write(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        """In the polling thread: apart from the sender, whose turn may come late."""
        if self._states is None:
            self._states = self._client.producer()
        return self._states.send(topic, records)


def late_publisher(options: KafkaOptions, topic: str, layout: TopicLayout, *, create: bool) -> OwningPublisher:
    """A publisher that connects, in its thread, with the first batch, and again with each next until that works."""

    def open_producer() -> Producer:
        cluster = Cluster(options, create=create)
        cluster.ensure(topic, layout)
        return cluster._client.producer()

    return OwningPublisher(Sender(open_producer, options.timeout), topic, options.max_record)


class OwningPublisher(KafkaPublisher):
    """A publisher with a sender of its own."""

    async def close(self) -> None:
        await self._sender.close()
