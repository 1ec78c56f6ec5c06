"""What the two processes of the sidecar are told. Plain values and JSON: the relay must not load pydantic."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from monitor.capture.rules import ModelColumns, RedactRule, SampleRule

MOST_WORKERS = 64
"""Relay processes that share a port at most."""

LONGEST_PATH = 107
"""Bytes of a Unix socket's path, sockaddr_un's limit."""


class Address(NamedTuple):
    """Where to listen or connect: a host name or IP address, and a port; or ``unix:`` and a path.

    >>> Address.parse("127.0.0.1:9081"), Address.parse("[::1]:80"), Address.parse(":8080").host
    (Address(host='127.0.0.1', port=9081), Address(host='::1', port=80), '0.0.0.0')
    >>> str(Address("::1", 80)), Address.parse("unix:/run/model.sock").path
    ('[::1]:80', '/run/model.sock')
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``host:port``, ``[IPv6]:port``, ``:port`` (every interface) or ``unix:path``.

        Raises
        ------
        ValueError : it is none of them.
        """
        if text.startswith("unix:"):
            return cls(_unix(text), 0)
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
            raise ValueError(f"{text!r} is no address; write host:port, for example 127.0.0.1:9081 or [::1]:9081")
        return cls(host[1:-1] if bracketed else host or "0.0.0.0", int(port))  # noqa: S104 - that is what ":port" asks

    @property
    def path(self) -> str:
        """The path of a Unix socket; empty if it is none."""
        return self.host[5:] if self.host.startswith("unix:") else ""

    def __str__(self) -> str:
        if self.path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _unix(text: str) -> str:
    if not 5 < len(text.encode()) <= 5 + LONGEST_PATH or "\0" in text:
        raise ValueError(f"{text!r} is no address: unix: needs a path of 1 to {LONGEST_PATH} bytes")
    return text


class Shipping(NamedTuple):
    """What the shipper is told: which events to make, where they go, where they wait.

    ``url`` is empty when events go to Kafka (``kafka`` and ``layout``: the fields of
    :class:`~monitor.transport.kafka.options.KafkaOptions` and ``TopicLayout``) or to the embedded log at ``log``.
    ``drain`` is how many seconds it has, once the relay has closed the tap, until it must have published or spooled
    everything.
    """

    source: str
    mode: str = "all"
    combined: bool = False
    include: tuple[str, ...] = ("inference",)
    exclude: tuple[str, ...] = ()
    sample: float = 1.0
    sample_rules: tuple[SampleRule, ...] = ()
    headers: tuple[str, ...] = ()
    redact: tuple[RedactRule, ...] = ()
    redact_key_env: str = ""
    redact_key_file: str = ""
    columns: tuple[ModelColumns, ...] = ()
    inflate: bool = False
    inflate_limit: int = 16 * 1024 * 1024
    payloads: str = ""
    payloads_above: int = 256 * 1024
    payloads_limit: int = 1024**3
    payloads_keep: float = 86400.0
    namespace: str = "default"
    model: str = ""
    endpoint: str = ""
    types: str = "kserve"
    key: str = "model"
    max_body: int = 1024 * 1024
    held: int = 64 * 1024 * 1024
    url: str = ""
    timeout: float = 10.0
    connections: int = 4
    pipeline: int = 32
    token: str = ""
    token_file: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    log: str = ".offpath/log.db"
    topic: str = "payloads"
    partitions: int = 1
    retain: int = 1024**3
    kafka: Mapping[str, Any] | None = None
    layout: Mapping[str, Any] | None = None
    create_topics: bool = True
    spool: str = ".offpath/spool.db"
    spool_limit: int = 256 * 1024 * 1024
    spool_age: float = 24 * 3600.0
    buffer: int = 8 * 1024 * 1024
    drain: float = 4.0


class Plan(NamedTuple):
    """What the relay process is told. ``copy`` false: relay only, no shipper."""

    listen: Address
    upstream: Address
    admin: Address
    shipping: Shipping
    queue: int = 32 * 1024 * 1024
    grace: float = 10.0
    copy: bool = True
    workers: int = 1

    def to_json(self) -> str:
        return json.dumps({**self._asdict(), "shipping": self.shipping._asdict()})

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """The inverse of :meth:`to_json`.

        >>> plan = Plan(Address("h", 1), Address("h", 2), Address("h", 3), Shipping("here"))
        >>> Plan.from_json(plan.to_json()) == plan
        True
        """
        told = json.loads(text)
        addresses = {name: Address(*told[name]) for name in ("listen", "upstream", "admin")}
        return cls(**{**told, **addresses, "shipping": _shipping(told["shipping"])})


def shipping_of(plan: Plan, number: int) -> Shipping:
    """What the shipper of relay process ``number`` is told: each has a spool of its own.

    >>> plan = Plan(Address("h", 1), Address("h", 2), Address("h", 3), Shipping("s", spool="a/spool.db"), workers=2)
    >>> shipping_of(plan, 0).spool, shipping_of(plan, 1).spool
    ('a/spool.db', 'a/spool.1.db')
    """
    return plan.shipping._replace(spool=spool_of(plan.shipping.spool, number))


def spool_of(spool: str, number: int) -> str:
    """The file of relay process ``number``.

    >>> spool_of("a/spool.db", 0), spool_of("a.b/spool", 1)
    ('a/spool.db', 'a.b/spool.1')
    """
    if not number:
        return spool
    stem, dot, ending = spool.rpartition(".")
    return f"{stem}.{number}{dot}{ending}" if stem and "/" not in ending else f"{spool}.{number}"


def _shipping(told: dict[str, Any]) -> Shipping:
    """JSON has lists only."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    values["sample_rules"] = tuple(SampleRule(*rule) for rule in told["sample_rules"])
    values["redact"] = tuple(RedactRule(*rule) for rule in told["redact"])
    values["columns"] = tuple(ModelColumns(model, tuple(ins), tuple(outs)) for model, ins, outs in told["columns"])
    return Shipping(**values)


def write_plan(plan: Plan) -> int:
    """A descriptor from which child processes read the plan: memory only, as a sidecar's disk may be read-only."""
    descriptor = os.memfd_create("offpath-plan", 0)
    os.write(descriptor, plan.to_json().encode())
    os.set_inheritable(descriptor, True)
    return descriptor


def read_plan(descriptor: int) -> Plan:
    """The plan behind a descriptor of :func:`write_plan`, as often as one likes."""
    return Plan.from_json(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
