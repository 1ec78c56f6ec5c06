"""The configured transport, opened: where a process reads and publishes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from monitor.events import Partition
from monitor.settings import (
    KafkaTransportSettings,
    Settings,
    TransportSettings,
    WorkerSettings,
    parse_duration,
)
from monitor.transport import embedded
from monitor.transport.base import Source
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.log import EmbeddedLog
from sinks.records import Publisher

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


MERGING = "-summaries"
"""Ending of the name of the group that merges: a group of its own, so that neither waits when the other changes."""


class OpenTransport(Protocol):
    """What the worker, the ingest endpoint and sinks need of a transport."""

    def source(self, worker: WorkerSettings) -> Source:
        """The payload topic, for a consumer of the worker's group."""
        ...

    def partitions(self) -> Sequence[Partition]:
        """Of the payload topic."""
        ...

    def summaries(self, worker: WorkerSettings) -> Source:
        """The topic of windows that are to be merged, for a consumer of a group beside the worker's."""
        ...

    def publisher(self, topic: str) -> Publisher: ...

    def ready(self) -> object:
        """Raises :class:`~sinks.base.Unavailable` while it is away; may wait for an answer."""
        ...

    def collectors(self) -> Iterable[Collector]:
        """Its own metrics."""
        ...

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of it, before anything was read or published."""
        ...


def open_log(settings: Settings) -> EmbeddedLog:
    """The embedded log of the configuration, made if there is none.

    It keeps twice the look-back before the commit: an event there is known as a duplicate only by an earlier one.

    Raises
    ------
    ValueError : the configured transport is another.
    """
    if not isinstance(settings.transport, TransportSettings):
        raise ValueError(f"transport.type is {settings.transport.type}: there is no embedded log")
    return embedded.open_log(settings.transport, warmup=2 * settings.worker.lookback)


def open_transport(settings: Settings) -> OpenTransport:
    """The transport, its topics made as the configuration says.

    Raises
    ------
    monitor.transport.base.Unavailable : it cannot be used now.
    ValueError : a secret or a file that the settings name is not there.
    """
    if isinstance(settings.transport, KafkaTransportSettings):
        return KafkaTransport(settings.transport)
    return EmbeddedTransport(settings, open_log(settings))


class EmbeddedTransport:
    """The log in a file."""

    def __init__(self, settings: Settings, log: EmbeddedLog) -> None:
        self._transport, self.log = settings.transport, log

    def source(self, worker: WorkerSettings) -> EmbeddedSource:
        return EmbeddedSource(self.log, self._transport.topic, worker.group)

    def partitions(self) -> Sequence[Partition]:
        return self.log.create_topic(self._transport.topic)

    def summaries(self, worker: WorkerSettings) -> EmbeddedSource:
        return EmbeddedSource(self.log, self._transport.summaries, f"{worker.group}{MERGING}", warmup=0)

    def publisher(self, topic: str) -> EmbeddedPublisher:
        return EmbeddedPublisher(self.log, topic)

    def ready(self) -> object:
        return self.log.stats(self._transport.topic)

    def collectors(self) -> Iterable[Collector]:
        from sinks.log_metrics import LogMetrics

        topics = (self._transport.topic, self._transport.dead_letters)
        return [LogMetrics(lambda: [stats for topic in topics for stats in self.log.stats(topic)])]

    async def close(self) -> None:
        self.log.close()

    def abandon(self) -> None:
        self.log.close()


class KafkaTransport:
    """Topics on Kafka's brokers."""

    def __init__(self, settings: KafkaTransportSettings) -> None:
        from monitor.transport.kafka.cluster import Cluster
        from monitor.transport.kafka.configured import kafka_options, layout

        self._settings = settings
        self._cluster = Cluster(kafka_options(settings), create=settings.create_topics)
        self._spread = layout(settings)
        self._cluster.ensure(settings.topic, self._spread)
        self._single = self._spread._replace(partitions=1)
        self._cluster.ensure(settings.dead_letters, self._single)

    def source(self, worker: WorkerSettings) -> Source:
        return self._source(self._settings.topic, worker.group, 2 * worker.lookback)

    def partitions(self) -> Sequence[Partition]:
        return self._cluster.partitions(self._settings.topic)

    def summaries(self, worker: WorkerSettings) -> Source:
        self._cluster.ensure(self._settings.summaries, self._spread)
        return self._source(self._settings.summaries, f"{worker.group}{MERGING}", 0)

    def _source(self, topic: str, group: str, warmup: int) -> Source:
        settings = self._settings
        self._cluster.ensure(settings.state, self._single._replace(compact=True))
        return self._cluster.source(
            topic,
            group,
            settings.state,
            warmup=warmup,
            instance=settings.instance_id or "",
            session=parse_duration(settings.session_timeout),
        )

    def publisher(self, topic: str) -> Publisher:
        if topic not in (self._settings.topic, self._settings.dead_letters, self._settings.summaries):
            self._cluster.ensure(topic, self._single)
        return self._cluster.publisher(topic)

    def ready(self) -> object:
        self._cluster.ready(self._settings.topic)
        return None

    def collectors(self) -> Iterable[Collector]:
        return ()

    async def close(self) -> None:
        await self._cluster.close()

    def abandon(self) -> None:
        self._cluster.abandon()
