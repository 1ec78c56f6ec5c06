"""confluent-kafka (librdkafka) behind the port: configuration, topics, single records."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is its home all the same

from monitor.transport.kafka.confluent_member import ConfluentMember
from monitor.transport.kafka.confluent_producer import ConfluentProducer
from monitor.transport.kafka.options import OVERHEAD, KafkaOptions, TopicLayout
from monitor.transport.kafka.trouble import definite, tls_context, unavailable

T = TypeVar("T")

_NOT_THERE = frozenset(
    {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED", "LEADER_NOT_AVAILABLE"}
)

_silent = logging.getLogger("offpath.transport.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Told:
    """The last errors that librdkafka told its callback: it reports a wrong password nowhere else."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque(maxlen=16)

    def __call__(self, error: Any) -> None:
        self.texts.append(f"{error.name()}: {error.str()}")


def configuration(options: KafkaOptions, told: Told) -> dict[str, Any]:
    """What every client of the library is made with.

    Raises
    ------
    ValueError : a file of the security settings cannot be used.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": options.bootstrap,
        "client.id": "offpath",
        "security.protocol": options.protocol,
        "error_cb": told,
        "logger": _silent,  # what it logs, it tells the callback too
        "reconnect.backoff.max.ms": 2000,
        "socket.timeout.ms": max(1000, int(options.timeout * 1000)),
        "message.max.bytes": max(1000, options.max_record + OVERHEAD),
    }
    if options.encrypted:
        tls_context(options)  # librdkafka's own words for a missing file do not name it
        config["ssl.endpoint.identification.algorithm"] = "https" if options.check_hostname else "none"
        if options.ca:
            config["ssl.ca.location"] = options.ca
        if options.cert:
            config |= {"ssl.certificate.location": options.cert, "ssl.key.location": options.key or options.cert}
    if options.authenticated:
        config |= {
            "sasl.mechanism": options.mechanism,
            "sasl.username": options.username,
            "sasl.password": options.password,
        }
    return config


class ConfluentClient:
    """Connects at once.

    Raises
    ------
    Unavailable : it cannot within the options' timeout; the message says why.
    """

    name = "confluent-kafka"

    def __init__(self, options: KafkaOptions) -> None:
        self._options, self._told = options, Told()
        self._config = configuration(options, self._told)
        self._admin = AdminClient(self._config)
        self._asked(lambda seconds: self._admin.list_topics(timeout=seconds))

    def partitions(self, topic: str) -> int:
        """Not by ``list_topics(topic)``: where brokers make topics by themselves, that makes it, with their layout."""

        def describe(seconds: float) -> int:
            told = self._admin.describe_topics(TopicCollection([topic]), request_timeout=seconds)
            try:
                return len(told[topic].result().partitions)
            except KafkaException as error:
                if error.args[0].name() in _NOT_THERE:
                    return 0
                raise

        return self._asked(describe)

    def create(self, topic: str, layout: TopicLayout) -> None:
        config = dict(layout.config(self._options.max_record))
        new = NewTopic(topic, layout.partitions, layout.replication, config=config)
        try:
            self._admin.create_topics([new], operation_timeout=self._options.timeout)[topic].result()
        except KafkaException as error:
            if "TOPIC_ALREADY_EXISTS" not in str(error):
                raise self._unavailable([str(error)], f"topic {topic} cannot be made") from error

    def producer(self) -> ConfluentProducer:
        told = Told()
        return ConfluentProducer(self._options, configuration(self._options, told), told.texts)

    def member(self, group: str, *, instance: str = "", session: float = 45.0) -> ConfluentMember:
        told = Told()
        return ConfluentMember(self._options, configuration(self._options, told), told.texts, group, instance, session)

    def read_one(self, topic: str, partition: int, offset: int) -> bytes | None:
        own = {"group.id": "offpath-reader", "enable.auto.commit": False, "auto.offset.reset": "error"}
        reader = Consumer({**self._config, **own, "enable.partition.eof": True})
        deadline = time.monotonic() + self._options.timeout
        try:
            reader.assign([TopicPartition(topic, partition, offset)])
            while time.monotonic() < deadline:
                message = reader.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    value: bytes | None = message.value()
                    return value if message.offset() == offset else None
                if error.name() in ("_AUTO_OFFSET_RESET", "_PARTITION_EOF"):
                    return None
        finally:
            reader.close()
        raise self._unavailable([], f"{topic}/{partition} cannot be read")

    def close(self) -> None:
        """Nothing: the library's threads end with the object."""

    def _asked(self, question: Callable[[float], T]) -> T:
        """The brokers' answer; asked again and again, but not when the cause is certain."""
        deadline = time.monotonic() + self._options.timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return question(max(0.1, min(1.0, left)))
            except KafkaException as error:
                self._admin.poll(0)  # serves the callback
                texts = [str(error), *self._told.texts]
                if left <= 1.0 or definite(self._options, texts):
                    raise self._unavailable(texts, "no connection") from error

    def _unavailable(self, texts: list[str], doing: str) -> Exception:
        return unavailable(self._options, texts, doing)
