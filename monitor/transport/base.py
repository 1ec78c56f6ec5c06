"""The port between the worker and a transport. Kafka's semantics, whatever stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple, Protocol

from monitor.events import Checkpoint, Delivery, Partition
from sinks.records import Publisher, Record, Rejected, Unavailable

__all__ = [
    "Assigned",
    "Block",
    "Idle",
    "Leaving",
    "Publisher",
    "Quiet",
    "Record",
    "Rejected",
    "Revoked",
    "Signal",
    "Source",
    "Unavailable",
    "Waiting",
]


class Assigned(NamedTuple):
    """This consumer now reads the partition, from ``start`` on.

    ``start`` is the committed offset less the source's warm-up (or the oldest record there is): the worker's
    de-duplication and joining look back that far.
    """

    partition: Partition
    checkpoint: Checkpoint | None
    start: int


class Block(NamedTuple):
    """Some consecutive deliveries of one partition, in offset order, never empty."""

    partition: Partition
    deliveries: tuple[Delivery, ...]
    end_offset: int
    """The offset that the partition's next record will get: lag is ``end_offset`` minus the last offset plus 1."""


class Idle(NamedTuple):
    """Nothing was there to read: the consumer has caught up on all of its partitions. ``now`` is epoch seconds."""

    now: float


class Quiet(NamedTuple):
    """Nothing was there to read in these partitions for a second, and nothing is, while others are busy.

    ``now`` is epoch seconds. All of their blocks came before.
    """

    partitions: tuple[Partition, ...]
    now: float


class Waiting(NamedTuple):
    """Nothing came, and perhaps not everything was read: the transport is away, or no partition is ours."""


class Leaving(NamedTuple):
    """The partitions are about to be another consumer's: a commit made before the next signal still counts.

    :class:`Revoked` follows for each.
    """

    partitions: tuple[Partition, ...]


class Revoked(NamedTuple):
    """The partition now belongs to another consumer: publish and commit nothing more for it."""

    partition: Partition


Signal = Assigned | Block | Idle | Quiet | Waiting | Leaving | Revoked


class Source(Protocol):
    """Delivers the records of one topic to one consumer of a group.

    Iteration never ends by itself; it stops after :meth:`close`. Blocks rather than single deliveries: an
    asynchronous step costs more than decoding a small event.
    """

    def __aiter__(self) -> AsyncIterator[Signal]: ...

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Durably note where to resume. Raises :class:`Unavailable`."""
        ...

    async def still_ours(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """Those of the partitions that no other consumer can have taken meanwhile: publish nothing for others."""
        ...

    async def pause(self, seconds: float) -> None:
        """Deliver nothing for that long, without losing the partitions."""
        ...

    async def close(self) -> None: ...
