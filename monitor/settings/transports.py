"""Where copied payloads travel: the embedded log, or Kafka."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from monitor.settings.quantities import Duration, Size, parse_duration
from monitor.settings.section import Conflict, Section
from monitor.settings.values import Flag, Name, Text, Whole

_BROKER = r"(\[[0-9A-Fa-f:.%]+\]|[^\s:,/]+):[0-9]{1,5}"


class TransportSettings(Section):
    """Where copied payloads travel. ``embedded``: a log in one SQLite file, for one machine."""

    type: Literal["embedded"] = Field(default="embedded", description="A log in one SQLite file.")
    path: Text = Field(default=".offpath/log.db", description="The log's file.")
    topic: Name = Field(default="payloads", description="Topic of the copied payloads.")
    dead_letters: Name = Field(default="dead-letters", description="Topic of what could not be used.")
    summaries: Name = Field(default="summaries", description="Topic of windows that are to be merged, if any.")
    partitions: Whole = Field(
        default=1,
        ge=1,
        le=64,
        description="Of a new `topic`; the events of a model share one unless keyed by request.",
    )
    retain: Size = Field(default="1GiB", description="What slow consumers may hold back before old records go.")

    def conflicts(self) -> Iterator[Conflict]:
        """Topics that are one."""
        return _apart(self.summaries, self.topic, self.dead_letters)


def _apart(summaries: str, topic: str, dead_letters: str) -> Iterator[Conflict]:
    if summaries in (topic, dead_letters):
        words = "summaries: must be another topic than topic and dead_letters"
        yield Conflict(words, ("summaries", "topic", "dead_letters"))


class SecuritySettings(Section):
    """How Kafka's brokers are spoken to. Passwords come from a variable or a file, never from here."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="As Kafka names them; SSL is TLS."
    )
    ca: str | None = Field(default=None, description="PEM file of the CA; default: the system's CAs.")
    cert: str | None = Field(default=None, description="PEM file of the client's certificate, for mutual TLS.")
    key: str | None = Field(default=None, description="PEM file of its key; default: it is in `cert`.")
    check_hostname: Flag = Field(default=True, description="The certificate must be of the broker's name.")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="Of SASL."
    )
    username: str | None = Field(default=None, description="Of SASL.")
    password_env: str = Field(default="OFFPATH_KAFKA_PASSWORD", description="Variable that holds the password.")
    password_file: str | None = Field(default=None, description="File that holds it, instead of the variable.")

    def conflicts(self) -> Iterator[Conflict]:
        """What the protocol needs, and what it has no use for."""
        tls, sasl = self.protocol.endswith("SSL"), self.protocol.startswith("SASL_")
        if sasl and not self.username:
            yield Conflict(f"protocol: {self.protocol} needs a username", ("protocol", "username"))
        if not sasl and self.username:
            words = f"username: protocol {self.protocol} shows none: say SASL_SSL or SASL_PLAINTEXT"
            yield Conflict(words, ("protocol", "username"))
        for name in ("ca", "cert", "key"):
            if not tls and getattr(self, name) is not None:
                words = f"{name}: protocol {self.protocol} uses none: say SSL or SASL_SSL"
                yield Conflict(words, ("protocol", name))
        if tls and self.key is not None and self.cert is None:
            yield Conflict("key: is of no use without cert", ("protocol", "key", "cert"))


class KafkaTransportSettings(Section):
    """Where copied payloads travel. ``kafka``: topics on Kafka's brokers, for any number of machines."""

    type: Literal["kafka"] = Field(description="Topics on Kafka's brokers.")
    bootstrap: Text = Field(
        description="host:port of one or more brokers, separated by commas.",
        json_schema_extra={"pattern": rf"^\s*{_BROKER}\s*(,\s*{_BROKER}\s*)*$"},
    )
    client: Literal["auto", "kafka-python", "confluent-kafka"] = Field(
        default="auto", description="auto: confluent-kafka where it is installed, as it needs less CPU."
    )
    security: SecuritySettings = Field(default=SecuritySettings(), description="TLS and SASL.")
    topic: Name = Field(default="payloads", description="Topic of the copied payloads.")
    dead_letters: Name = Field(default="dead-letters", description="Topic of what could not be used.")
    state: Name = Field(default="offpath-state", description="Topic of checkpoints too large for a commit.")
    summaries: Name = Field(
        default="offpath-summaries", description="Topic of windows that are to be merged, if any; as many partitions."
    )
    create_topics: Flag = Field(default=True, description="Make topics that are not there, as below.")
    partitions: Whole = Field(default=6, ge=1, le=10_000, description="Of a new `topic`; most others get one.")
    replication: Whole | None = Field(default=None, ge=1, description="Of new topics; default: the brokers'.")
    retention: Duration = Field(default="7d", description="Of new topics.")
    max_record: Size = Field(default="1000000", description="Larger records are refused; of new topics, the limit.")
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = Field(
        default="none", description="Of what is sent. kafka-python needs a package for each but gzip."
    )
    timeout: Duration = Field(default="10s", description="Of one call; then the brokers count as away.")
    instance_id: str | None = Field(
        default=None, description="Static membership: a name of this worker alone, the same after a restart."
    )
    session_timeout: Duration = Field(default="45s", description="After it a worker that is gone loses its partitions.")

    def conflicts(self) -> Iterator[Conflict]:
        """Addresses that are none, topics that are one."""
        if not all(re.fullmatch(_BROKER, address.strip()) for address in self.bootstrap.split(",")):
            words = "bootstrap: expected host:port, for example kafka:9092, or several with commas"
            yield Conflict(words, ("bootstrap",))
        if self.state in (self.topic, self.dead_letters, self.summaries):
            words = "state: must be another topic than topic, dead_letters and summaries"
            yield Conflict(words, ("state", "topic", "dead_letters", "summaries"))
        yield from _apart(self.summaries, self.topic, self.dead_letters)
        if not parse_duration(self.timeout) >= 1:
            yield Conflict("timeout: expected 1s at least", ("timeout",))


def _transport_type(value: Any) -> Any:
    return value.get("type", "embedded") if isinstance(value, dict) else getattr(value, "type", "embedded")


AnyTransport = Annotated[
    Annotated[TransportSettings, Tag("embedded")] | Annotated[KafkaTransportSettings, Tag("kafka")],
    Discriminator(_transport_type),
]
