"""The port between offpath and a Kafka client: blocking calls, made in threads of ours.

Partitions are plain numbers here: a member reads one topic. Every call ends within the options' timeout, and raises
:class:`~sinks.base.Unavailable` with the cause in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from monitor.events import Delivery
from monitor.transport.kafka.options import TopicLayout
from sinks.records import Record, Rejected, Unavailable


class Fenced(Exception):
    """The broker refused a commit: this member has lost its partitions, or they are being handed over."""


class Refused(Rejected):
    """The broker refuses the record, or only the batch that it came in, because of another."""


class Sent(NamedTuple):
    """Where a record went."""

    partition: int
    offset: int


Outcome = Sent | Rejected | Unavailable


class Rebalance(Protocol):
    """Is told, in the thread that polls or one of the client's, what happens to the partitions."""

    def begin(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """They are ours now; answers the offsets to read from. May block for seconds."""
        ...

    def leave(self, partitions: Sequence[int], lost: bool) -> None:
        """They are taken from us when this returns; ``lost``: they are already. May block for seconds."""
        ...


class Producer(Protocol):
    """Sends records to topics, with ``acks=all``."""

    def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        """Send all and wait; one outcome a record. None is larger than the options allow."""
        ...

    def close(self) -> None: ...


class Member(Protocol):
    """A member of a consumer group on one topic, or (``group`` empty) a reader of chosen places."""

    def join(self, topic: str, rebalance: Rebalance) -> None: ...

    def poll(self, seconds: float) -> list[tuple[int, list[Delivery]]]:
        """What has come, by partition, in order; waits at most so long. Serves rebalances."""
        ...

    def positions(self) -> Mapping[int, int]:
        """Of the assigned partitions, the offset after the last that was polled, as far as known."""
        ...

    def high(self, partition: int) -> int | None:
        """The partition's end as the last fetch told it."""
        ...

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The partitions' ends, asked of the brokers now."""
        ...

    def starts(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The partitions' first offsets, asked of the brokers now."""
        ...

    def committed(self, partitions: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        """Offset and metadata of the group's last commits."""
        ...

    def commit(self, places: Mapping[int, tuple[int, str]]) -> Future[None]:
        """Done during later polls: with nothing, :class:`Fenced` or ``Unavailable``; perhaps never."""
        ...

    def commit_now(self, places: Mapping[int, tuple[int, str]]) -> None:
        """The same for a rebalance, within which nothing is polled. Raises :class:`Fenced` or ``Unavailable``."""
        ...

    def seek(self, places: Mapping[int, int]) -> None: ...

    def pause(self) -> None:
        """Of all assigned partitions; polling goes on."""
        ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class Client(Protocol):
    """A client library, connected to one cluster."""

    name: str

    def partitions(self, topic: str) -> int:
        """How many the topic has; 0 if there is no such topic."""
        ...

    def create(self, topic: str, layout: TopicLayout) -> None:
        """Make the topic; one that is there already stays as it is."""
        ...

    def producer(self) -> Producer: ...

    def member(self, group: str, *, instance: str = "", session: float = 45.0) -> Member: ...

    def read_one(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The value of one record; ``None`` if it is gone."""
        ...

    def close(self) -> None: ...


Opener = Callable[[], Client]
