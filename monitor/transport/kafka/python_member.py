"""kafka-python's consumer behind the port."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from monitor.events import Delivery
from monitor.transport.kafka.options import KafkaOptions
from monitor.transport.kafka.port import Fenced, Rebalance
from monitor.transport.kafka.python_listener import Listener
from monitor.transport.kafka.python_opening import opened
from monitor.transport.kafka.records import headers_in
from monitor.transport.kafka.trouble import unavailable
from sinks.records import Record, Unavailable

BLOCK = 500

_FENCED = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

_logger = logging.getLogger("offpath.transport")


_END = "\0"
"""librdkafka ends a commit's text with it, shows it to nobody, and reads on beyond the text of a commit without it."""


def _ended(text: str) -> str:
    return text and text + _END


class PythonMember:
    """Cooperative-sticky. Pauses all of its partitions or none: a paused one loses what was fetched for it.

    The ends of partitions are asked with a second consumer: on the first, the question waits behind a fetch.
    """

    def __init__(
        self,
        options: KafkaOptions,
        config: Mapping[str, Any],
        heard: Iterable[str],
        group: str,
        instance: str,
        session: float,
    ) -> None:
        self._options, self._heard, self._topic = options, heard, ""
        self._milliseconds = int(options.timeout * 1000)
        common = {
            **config,
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "metadata_max_age_ms": 30_000,  # how soon new partitions are seen
        }
        own = {
            "group_id": group,
            "group_instance_id": instance or None,
            "session_timeout_ms": int(session * 1000),
            "heartbeat_interval_ms": int(session * 1000 / 10),
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 100,
            "fetch_max_bytes": 16 * 1024 * 1024,
            "max_poll_records": BLOCK,
        }
        self._consumer = opened(KafkaConsumer, {**common, **own})
        self._asker = opened(KafkaConsumer, {**common, "group_id": None})
        self._reading: set[int] = set()
        self._paused = False

    def join(self, topic: str, rebalance: Rebalance) -> None:
        self._topic = topic
        with self._errors("the topic is not known"):
            # a leader that does not know the topic yet would give nobody a partition, until its knowledge is renewed
            self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe([topic], listener=Listener(self, rebalance, self._consumer._net.sleep))

    def begun(self, starts: Mapping[int, int]) -> None:
        """The partitions were assigned, and are read from these offsets."""
        self._reading |= set(starts)
        self.seek(starts)
        if self._paused:
            self.pause()

    def ended(self, partitions: Iterable[int]) -> None:
        """The partitions are going: what is still fetched of them is not ours."""
        self._reading -= set(partitions)

    def poll(self, seconds: float) -> list[tuple[int, list[Delivery]]]:
        with self._errors("nothing could be read"):
            found = self._consumer.poll(int(seconds * 1000))
        return [
            (place.partition, self._deliveries(f"{self._topic}/{place.partition}", records))
            for place, records in found.items()
            if place.partition in self._reading and records
        ]

    @staticmethod
    def _deliveries(partition: str, records: Iterable[Any]) -> list[Delivery]:
        return [
            Delivery(
                partition,
                found.offset,
                Record(
                    None if found.key is None else found.key.decode("utf-8", "replace"),
                    headers_in(found.headers),
                    found.value,
                    max(found.timestamp, 0) / 1000,
                ),
            )
            for found in records
        ]

    def positions(self) -> Mapping[int, int]:
        known = {}
        for partition in tuple(self._reading):
            with suppress(KafkaError, KeyError):
                position = self._consumer.position(self._place(partition), timeout_ms=100)
                if position is not None:
                    known[partition] = position
        return known

    def high(self, partition: int) -> int | None:
        with suppress(KafkaError, KeyError):
            high: int | None = self._consumer.highwater(self._place(partition))
            return high
        return None

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return self._ask(self._asker.end_offsets, partitions)

    def starts(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return self._ask(self._asker.beginning_offsets, partitions)

    def _ask(self, question: Callable[..., Any], partitions: Sequence[int]) -> Mapping[int, int]:
        with self._errors("the ends of the topic are not known"):
            told = question([self._place(p) for p in partitions], timeout_ms=self._milliseconds)
        return {place.partition: offset for place, offset in told.items()}

    def committed(self, partitions: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        known = {}
        with self._errors("the group's commits are not known"):
            for partition in partitions:
                place = self._place(partition)
                found = self._consumer.committed(place, metadata=True, timeout_ms=self._milliseconds)
                if found is not None and found.offset >= 0:
                    known[partition] = (found.offset, (found.metadata or "").rstrip(_END))
        return known

    def commit(self, places: Mapping[int, tuple[int, str]]) -> Future[None]:
        """Not the library's ``commit``, which blocks, and tries again and again, while the group is rebalanced."""
        done: Future[None] = Future()
        offsets = {self._place(p): OffsetAndMetadata(offset, _ended(told), -1) for p, (offset, told) in places.items()}

        def failed(error: Exception) -> None:
            fenced = isinstance(error, _FENCED)
            if done.set_running_or_notify_cancel():  # else nobody waits any more
                done.set_exception(Fenced(str(error)) if fenced else self._away(error, "the commit failed"))

        def succeeded(_: object) -> None:
            if done.set_running_or_notify_cancel():
                done.set_result(None)

        try:
            future = self._consumer.commit_async(offsets)
        except KafkaError as error:
            failed(error)
        else:
            future.add_errback(failed)
            future.add_callback(succeeded)
        return done

    def commit_now(self, places: Mapping[int, tuple[int, str]]) -> None:
        try:
            self.commit(places).result(self._options.timeout)
        except (TimeoutError, FutureTimeoutError):
            raise Fenced("the group's coordinator did not answer during the rebalance") from None

    def seek(self, places: Mapping[int, int]) -> None:
        for partition, offset in places.items():
            self._consumer.seek(self._place(partition), offset)

    def pause(self) -> None:
        self._paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        self._paused = False
        self._consumer.resume(*self._consumer.assignment())

    def close(self) -> None:
        for consumer in (self._consumer, self._asker):
            with suppress(KafkaError):
                consumer.close(autocommit=False, timeout_ms=min(2000, self._milliseconds))

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise self._away(error, doing) from error

    def _away(self, error: BaseException, doing: str) -> Unavailable:
        return unavailable(self._options, [*self._heard, repr(error)], doing)
