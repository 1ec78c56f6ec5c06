"""confluent-kafka's consumer behind the port."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from monitor.events import Delivery
from monitor.transport.kafka.options import KafkaOptions
from monitor.transport.kafka.port import Fenced, Rebalance
from monitor.transport.kafka.records import headers_in
from monitor.transport.kafka.trouble import unavailable
from sinks.records import Record, Unavailable

BLOCK = 500
QUEUED_KBYTES = 16 * 1024
"""What the library reads ahead. Its default is 64 MiB a partition."""

_FENCED = frozenset(
    {
        "ILLEGAL_GENERATION",
        "UNKNOWN_MEMBER_ID",
        "REBALANCE_IN_PROGRESS",
        "FENCED_INSTANCE_ID",
        "STALE_MEMBER_EPOCH",
        "FENCED_MEMBER_EPOCH",
        "_STATE",
        "_ASSIGNMENT_LOST",
    }
)

_logger = logging.getLogger("offpath.transport")


def _told(place: TopicPartition) -> str:
    """The text of a commit; nothing if another program has written it, which does not end it as librdkafka does."""
    try:
        return place.metadata or ""
    except UnicodeDecodeError:
        _logger.error("%s: what is noted with the group's commit cannot be read; windows begin anew there", place)
        return ""


class ConfluentMember:
    """Cooperative-sticky; offsets are given at the assignment, as a seek before it is an error."""

    def __init__(
        self,
        options: KafkaOptions,
        config: Mapping[str, Any],
        told: Iterable[str],
        group: str,
        instance: str,
        session: float,
    ) -> None:
        self._options, self._told, self._topic = options, told, ""
        own = {
            "group.id": group,
            "session.timeout.ms": int(session * 1000),
            "heartbeat.interval.ms": int(session * 1000 / 10),
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": QUEUED_KBYTES,
            "fetch.queue.backoff.ms": 10,  # once that much is read ahead; the default, a second, starves a quick reader
            "fetch.message.max.bytes": 1024 * 1024,
            "fetch.wait.max.ms": 100,
            "topic.metadata.refresh.interval.ms": 30_000,  # how soon new partitions are seen
        }
        if instance:
            own["group.instance.id"] = instance
        self._commits: deque[Future[None]] = deque()
        self._consumer = Consumer({**config, **own, "on_commit": self._committed})
        self._positions: dict[int, int] = {}

    def join(self, topic: str, rebalance: Rebalance) -> None:
        self._topic = topic

        def assigned(consumer: Any, partitions: Sequence[TopicPartition]) -> None:
            starts = rebalance.begin([p.partition for p in partitions])
            self._positions.update(starts)
            consumer.incremental_assign([TopicPartition(topic, p, offset) for p, offset in starts.items()])

        def left(consumer: Any, partitions: Sequence[TopicPartition], *, lost: bool = False) -> None:
            rebalance.leave([p.partition for p in partitions], lost)
            for p in partitions:
                self._positions.pop(p.partition, None)
            consumer.incremental_unassign(partitions)

        def lost(consumer: Any, partitions: Sequence[TopicPartition]) -> None:
            left(consumer, partitions, lost=True)

        self._consumer.subscribe([topic], on_assign=assigned, on_revoke=left, on_lost=lost)

    def poll(self, seconds: float) -> list[tuple[int, list[Delivery]]]:
        with self._errors("nothing could be read"):
            messages = self._consumer.consume(BLOCK, seconds)
        found = []
        for partition, of_it in groupby(messages, lambda message: message.partition()):
            deliveries = self._deliveries(f"{self._topic}/{partition}", of_it)
            if deliveries and partition in self._positions:
                self._positions[partition] = deliveries[-1].offset + 1
                found.append((partition, deliveries))
        return found

    def _deliveries(self, partition: str, messages: Iterable[Any]) -> list[Delivery]:
        deliveries = []
        for message in messages:
            error = message.error()
            if error is None:
                key = message.key()
                record = Record(
                    None if key is None else key.decode("utf-8", "replace"),
                    headers_in(message.headers()),
                    message.value(),
                    max(message.timestamp()[1], 0) / 1000,
                )
                deliveries.append(Delivery(partition, message.offset(), record))
            elif error.name() == "_PARTITION_EOF":
                self._positions[message.partition()] = message.offset()
            else:
                _logger.warning("%s: %s", partition, error.str())
        return deliveries

    def positions(self) -> Mapping[int, int]:
        return self._positions

    def high(self, partition: int) -> int | None:
        with suppress(KafkaException):
            high: int = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)[1]
            return high if high >= 0 else None
        return None

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return {p: self._bounds(p)[1] for p in partitions}

    def starts(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return {p: self._bounds(p)[0] for p in partitions}

    def _bounds(self, partition: int) -> tuple[int, int]:
        place = TopicPartition(self._topic, partition)
        with self._errors("the ends of the topic are not known"):
            bounds: tuple[int, int] = self._consumer.get_watermark_offsets(place, timeout=self._options.timeout)
            return bounds

    def committed(self, partitions: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        with self._errors("the group's commits are not known"):
            places = [TopicPartition(self._topic, p) for p in partitions]
            known = self._consumer.committed(places, timeout=self._options.timeout)
        for place in known:
            if place.error is not None:
                raise unavailable(self._options, [str(place.error)], "the group's commits are not known")
        return {place.partition: (place.offset, _told(place)) for place in known if place.offset >= 0}

    def commit(self, places: Mapping[int, tuple[int, str]]) -> Future[None]:
        """Asynchronous: the other kind waits for brokers that are away as long as they are."""
        done: Future[None] = Future()
        try:
            self._consumer.commit(offsets=self._places(places), asynchronous=True)
        except KafkaException as error:
            done.set_exception(self._failure(error.args[0]))
        except RuntimeError as error:  # it is closed
            done.set_exception(Fenced(str(error)))
        else:
            self._commits.append(done)
        return done

    def commit_now(self, places: Mapping[int, tuple[int, str]]) -> None:
        try:
            failures = [p.error for p in self._consumer.commit(offsets=self._places(places), asynchronous=False) or ()]
        except KafkaException as error:
            raise self._failure(error.args[0]) from error
        for failure in filter(None, failures):
            raise self._failure(failure)

    def _places(self, places: Mapping[int, tuple[int, str]]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, p, offset, metadata) for p, (offset, metadata) in places.items()]

    def _committed(self, error: Any, places: Sequence[TopicPartition]) -> None:
        """The library's answer to the oldest commit."""
        if not self._commits:
            return
        done = self._commits.popleft()
        if not done.set_running_or_notify_cancel():  # nobody waits any more
            return
        failure = error or next((place.error for place in places if place.error is not None), None)
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(self._failure(failure))

    def _failure(self, failure: Any) -> Exception:
        if failure.name() in _FENCED:
            return Fenced(failure.str())
        return unavailable(self._options, [*self._told, f"{failure.name()}: {failure.str()}"], "the commit failed")

    def seek(self, places: Mapping[int, int]) -> None:
        with self._errors("a place could not be sought"):
            for partition, offset in places.items():
                self._positions[partition] = offset
                self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def pause(self) -> None:
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        self._consumer.resume(self._consumer.assignment())

    def close(self) -> None:
        self._consumer.close()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._away(error, doing) from error

    def _away(self, error: KafkaException, doing: str) -> Unavailable:
        return unavailable(self._options, [*self._told, str(error)], doing)
