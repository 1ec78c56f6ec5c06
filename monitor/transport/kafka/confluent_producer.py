"""confluent-kafka's producer behind the port."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaException, Producer

from monitor.transport.kafka.options import KafkaOptions
from monitor.transport.kafka.port import Outcome, Refused, Sent
from monitor.transport.kafka.records import headers_out, milliseconds
from monitor.transport.kafka.trouble import definite, unavailable
from sinks.records import Record, Rejected

BATCH_BYTES = 1_000_000
"""The library's own. 128 KiB cost half as much CPU again for records of 20 KB."""
LATE_SECONDS = 2.0
"""How much longer than its own timeout the library may take to report a record."""

NOT_ACKNOWLEDGED = "the record was not acknowledged"

_FINAL = frozenset({"MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD", "INVALID_TIMESTAMP", "INVALID_MSG_SIZE"})


class ConfluentProducer:
    """Idempotent, so that order is kept over retries; made anew after a fatal error.

    Parameters
    ----------
    options, config : as :func:`monitor.transport.kafka.confluent_client.configuration` makes it.
    told : where the library's errors go.
    """

    def __init__(self, options: KafkaOptions, config: Mapping[str, Any], told: deque[str]) -> None:
        self._options, self._told = options, told
        self._config = {
            **config,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as every other client of the house, so that keys land alike
            "linger.ms": 0,  # batches form while the one before is under way
            "batch.size": BATCH_BYTES,
            "compression.type": options.compression,
            "message.timeout.ms": int(options.timeout * 1000),
            "request.timeout.ms": int(options.timeout * 1000),
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,  # bounded by who calls: one batch of bounded bytes at a time
        }
        self._producer: Producer | None = None

    def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        producer = self._producer = self._producer or Producer(self._config)
        self._told.clear()
        results: list[Sent | Rejected | str] = [NOT_ACKNOWLEDGED] * len(records)
        left = len(records)

        def delivered(i: int, error: Any, message: Any) -> None:
            nonlocal left
            left -= 1
            results[i] = _failure(error) if error else Sent(message.partition(), message.offset())

        for i, record in enumerate(records):
            try:
                self._produce(producer, topic, record, partial(delivered, i))
            except (KafkaException, BufferError, ValueError) as error:
                left -= 1
                results[i] = _refused(error)
        deadline = time.monotonic() + self._options.timeout + LATE_SECONDS
        while left and time.monotonic() < deadline and not definite(self._options, self._told):
            producer.poll(0.1)
        if left:
            producer.purge()
            producer.poll(1.0)
        return self._settled(results)

    def _settled(self, results: Sequence[Sent | Rejected | str]) -> list[Outcome]:
        failed = [result for result in results if isinstance(result, str)]
        if not failed:
            return [result for result in results if not isinstance(result, str)]
        self._producer = None  # nothing of this batch may be sent by it later; and it may be beyond repair
        away = unavailable(self._options, [*self._told, failed[-1]], "nothing could be published")
        return [away if isinstance(result, str) else result for result in results]

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(self._options.timeout)

    @staticmethod
    def _produce(producer: Producer, topic: str, record: Record, callback: Any) -> None:
        stamp = milliseconds(record)
        headers: list[Any] = list(headers_out(record))
        key = None if record.key is None else record.key.encode("utf-8", "replace")
        producer.produce(topic, record.value, key, headers=headers, on_delivery=callback, timestamp=stamp or 0)


def _refused(error: Exception) -> Rejected | str:
    inner = error.args[0] if isinstance(error, KafkaException) else None
    return _failure(inner) if inner is not None else Rejected(f"Kafka's client refuses the record: {error}")


def _failure(error: Any) -> Rejected | str:
    """Of a record: why it will never be taken, or else why it was not."""
    text = f"{error.name()}: {error.str()}"
    if error.name() not in _FINAL:
        return text
    return Refused(f"Kafka refuses the record ({text})")
