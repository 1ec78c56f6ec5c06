"""How to reach the brokers, and what a topic made here looks like. Plain values: the sidecar hands them on as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

OVERHEAD = 512
"""Bytes that Kafka adds to a record and its batch, at most; headers are counted apart."""


class KafkaOptions(NamedTuple):
    """Where the brokers are, and what they want to see.

    ``client`` is ``auto``, ``kafka-python`` or ``confluent-kafka``; ``protocol`` and ``mechanism`` are Kafka's names.
    ``timeout`` bounds every call, in seconds; ``max_record`` a record's key, headers and value, in bytes.

    >>> KafkaOptions("broker:9092", password="secret")
    KafkaOptions(broker:9092, PLAINTEXT)
    """

    bootstrap: str
    client: str = "auto"
    protocol: str = "PLAINTEXT"
    ca: str = ""
    cert: str = ""
    key: str = ""
    check_hostname: bool = True
    mechanism: str = ""
    username: str = ""
    password: str = ""
    compression: str = "none"
    max_record: int = 1_000_000
    timeout: float = 10.0

    def __repr__(self) -> str:
        """Without secrets: options end up in tracebacks."""
        return f"KafkaOptions({self.bootstrap}, {self.protocol})"

    @property
    def encrypted(self) -> bool:
        """The brokers are spoken to over TLS."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def authenticated(self) -> bool:
        """A user name is shown."""
        return self.protocol.startswith("SASL_")


class TopicLayout(NamedTuple):
    """Of a topic that is made at start. ``replication`` of -1 is the brokers' default; ``retention`` is in seconds."""

    partitions: int = 6
    replication: int = -1
    retention: float = 7 * 86400.0
    compact: bool = False

    def config(self, max_record: int) -> Mapping[str, str]:
        """Kafka's topic settings.

        The time of a record is when the broker appended it: retention by event times would delete, at once, the
        older events that a spool sends after an outage.
        """
        told: dict[str, Any] = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": max_record + OVERHEAD,
        }
        if self.compact:
            told |= {"cleanup.policy": "compact"}
        else:
            told |= {"cleanup.policy": "delete", "retention.ms": int(self.retention * 1000)}
        return {name: str(value) for name, value in told.items()}
