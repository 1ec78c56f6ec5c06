"""kafka-python's producer behind the port, around the faults of version 3.0.12.

It knows no bound of memory, so whoever calls sends a bounded number of bytes and waits. ``send`` blocks while a topic's
place is unknown, so its place is asked for first, within the timeout. An idempotent producer is poisoned by one record
that the broker finds too large, so it is not idempotent; one request under way a connection keeps the order instead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    BrokerResponseError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from monitor.transport.kafka.options import OVERHEAD, KafkaOptions
from monitor.transport.kafka.port import Outcome, Refused, Sent
from monitor.transport.kafka.python_opening import opened
from monitor.transport.kafka.records import headers_out, milliseconds
from monitor.transport.kafka.trouble import unavailable
from sinks.records import Record, Rejected

BATCH_BYTES = 128 * 1024
"""The library's own 16 KiB cost a third more CPU a record."""

LATE_SECONDS = 2.0

_BY_BROKER = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError, InvalidTimestampError)
_FINAL = (*_BY_BROKER, ValueError, TypeError)
_NEIGHBOUR = "part of a batch"
"""What the library says of a record that came with one that the broker refused; its error has no class of its own."""


class PythonProducer:
    """Opened by the first send, and again after one that failed: nothing of that batch may be sent by it later.

    Parameters
    ----------
    options, config : as :func:`monitor.transport.kafka.python_client.configuration` makes it.
    heard : where the library's warnings go.
    """

    def __init__(self, options: KafkaOptions, config: Mapping[str, Any], heard: deque[str]) -> None:
        self._options, self._heard = options, heard
        milliseconds_ = int(options.timeout * 1000)
        self._config = {
            **config,
            "acks": "all",
            "enable_idempotence": False,
            "max_in_flight_requests_per_connection": 1,
            "batch_size": BATCH_BYTES,
            "linger_ms": 0,
            "compression_type": None if options.compression == "none" else options.compression,
            "max_request_size": max(1000, options.max_record + OVERHEAD),
            "max_block_ms": milliseconds_,
            "delivery_timeout_ms": max(milliseconds_, config["request_timeout_ms"]),
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        self._producer: KafkaProducer | None = None

    def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        self._heard.clear()
        deadline = time.monotonic() + self._options.timeout + LATE_SECONDS
        try:
            if self._producer is None:
                self._producer = opened(KafkaProducer, self._config)
            self._producer.partitions_for(topic)  # the one place where it may block
        except KafkaError as error:
            self._drop()
            return self._settled([error] * len(records))
        producer = self._producer
        futures = [self._send(producer, topic, record) for record in records]
        results = [self._result(future, deadline) for future in futures]
        return self._settled(results)

    def close(self) -> None:
        self._drop()

    @staticmethod
    def _send(producer: KafkaProducer, topic: str, record: Record) -> Any:
        """Its future, or why there is none."""
        key = None if record.key is None else record.key.encode("utf-8", "replace")
        try:
            return producer.send(topic, record.value, key, headers_out(record), timestamp_ms=milliseconds(record))
        except (KafkaError, ValueError, TypeError) as error:
            return error

    @staticmethod
    def _result(future: Any, deadline: float) -> Sent | Exception:
        if isinstance(future, Exception):
            return future
        try:
            done = future.get(timeout=max(0.0, deadline - time.monotonic()))
            return Sent(done.partition, done.offset)
        except (KafkaError, BrokerResponseError) as error:
            found: Exception = error
            return found

    def _settled(self, results: Sequence[Sent | Exception]) -> list[Outcome]:
        failed = [result for result in results if isinstance(result, Exception) and not _final(result)]
        if not failed:
            return [result if isinstance(result, Sent) else _rejected(result) for result in results]
        away = unavailable(self._options, [*self._heard, repr(failed[-1])], "nothing could be published")
        self._drop()
        return [
            result if isinstance(result, Sent) else _rejected(result) if _final(result) else away for result in results
        ]

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with suppress(KafkaError):
            producer.close(timeout=1)
        producer._closed = True  # a close that failed would be tried again, and fail, when the object goes


def _final(error: Exception) -> bool:
    return isinstance(error, _FINAL) or _because_of_another(error)


def _because_of_another(error: Exception) -> bool:
    return type(error) is KafkaError and _NEIGHBOUR in str(error)


def _rejected(error: Exception) -> Rejected:
    kind = Refused if isinstance(error, _BY_BROKER) or _because_of_another(error) else Rejected
    return kind(f"Kafka refuses the record ({type(error).__name__}): {error}")
