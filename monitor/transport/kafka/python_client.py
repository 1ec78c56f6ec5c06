"""kafka-python behind the port: configuration, topics, single records."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError

from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.python_member import PythonMember
from monitor.transport.kafka.python_opening import opened
from monitor.transport.kafka.python_producer import PythonProducer
from monitor.transport.kafka.trouble import tls_context, unavailable


class Heard(logging.Handler):
    """The last warnings of the library: it says why it cannot connect nowhere else, and says it very often."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: deque[str] = deque(maxlen=64)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()[:500]
        if text not in self.texts:
            self.texts.append(text)

    @classmethod
    def install(cls) -> Heard:
        """The process's one, in place of the library's own output."""
        library = logging.getLogger("kafka")
        for handler in library.handlers:
            if isinstance(handler, cls):
                return handler
        heard = cls()
        library.addHandler(heard)
        library.setLevel(logging.WARNING)
        library.propagate = False
        return heard


def configuration(options: KafkaOptions) -> dict[str, Any]:
    """What every client of the library is made with.

    Raises
    ------
    ValueError : a file of the security settings cannot be used.
    """
    config: dict[str, Any] = {
        "bootstrap_servers": [address.strip() for address in options.bootstrap.split(",")],
        "client_id": "offpath",
        "security_protocol": options.protocol,
        "bootstrap_timeout_ms": int(options.timeout * 1000),  # wrong passwords are retried as long
        "request_timeout_ms": max(600, int(options.timeout * 1000)),
        "reconnect_backoff_max_ms": 2000,
    }
    if options.encrypted:
        config["ssl_context"] = tls_context(options)
        config["ssl_check_hostname"] = options.check_hostname
    if options.authenticated:
        config |= {
            "sasl_mechanism": options.mechanism,
            "sasl_plain_username": options.username,
            "sasl_plain_password": options.password,
        }
    return config


class PythonClient:
    """Connects at once.

    Raises
    ------
    Unavailable : it cannot within the options' timeout; the message says why.
    """

    name = "kafka-python"

    def __init__(self, options: KafkaOptions) -> None:
        self._options, self._heard = options, Heard.install().texts
        self._config = configuration(options)
        self._heard.clear()
        try:
            self._admin = opened(KafkaAdminClient, self._config)
        except KafkaError as error:
            raise self._unavailable(error, "no connection") from error

    def partitions(self, topic: str) -> int:
        try:
            (told,) = self._admin.describe_topics([topic])
        except KafkaError as error:
            raise self._unavailable(error, "no connection") from error
        return 0 if told["error_code"] else len(told["partitions"])

    def create(self, topic: str, layout: TopicLayout) -> None:
        wanted = {
            topic: {
                "num_partitions": layout.partitions,
                "replication_factor": layout.replication,
                "configs": dict(layout.config(self._options.max_record)),
            }
        }
        try:
            self._admin.create_topics(wanted, timeout_ms=int(self._options.timeout * 1000))
        except TopicAlreadyExistsError:
            return
        except KafkaError as error:
            raise self._unavailable(error, f"topic {topic} cannot be made") from error

    def producer(self) -> PythonProducer:
        return PythonProducer(self._options, self._config, self._heard)

    def member(self, group: str, *, instance: str = "", session: float = 45.0) -> PythonMember:
        try:
            return PythonMember(self._options, self._config, self._heard, group, instance, session)
        except KafkaError as error:
            raise self._unavailable(error, "no connection") from error

    def read_one(self, topic: str, partition: int, offset: int) -> bytes | None:
        place, deadline = TopicPartition(topic, partition), time.monotonic() + self._options.timeout
        reader = None
        try:
            reader = opened(KafkaConsumer, {**self._config, "group_id": None, "enable_auto_commit": False})
            reader.assign([place])
            first, end = reader.beginning_offsets([place])[place], reader.end_offsets([place])[place]
            if not first <= offset < end:
                return None
            reader.seek(place, offset)
            while time.monotonic() < deadline:
                for found in reader.poll(500, max_records=1).get(place, ()):
                    value: bytes | None = found.value
                    return value if found.offset == offset else None
        except KafkaError as error:
            raise self._unavailable(error, f"{topic}/{partition} cannot be read") from error
        finally:
            if reader is not None:
                reader.close()
        raise unavailable(self._options, [*self._heard], f"{topic}/{partition} cannot be read")

    def close(self) -> None:
        with suppress(KafkaError):
            self._admin.close()

    def _unavailable(self, error: KafkaError, doing: str) -> Exception:
        return unavailable(self._options, [repr(error), *self._heard], doing)
