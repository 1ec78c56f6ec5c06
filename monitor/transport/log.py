"""The embedded log: topics, partitions, offsets and group cursors in one SQLite file, for one machine.

Kafka's semantics without a broker. Several processes may append, read and commit at once. What an append has
returned for survives ``kill -9`` of any process (it is in the operating system's hands); a power failure may take
the last moments' appends and commits, never the order or the rest (WAL, ``synchronous=NORMAL``: a sync per append
would cost a disk's latency, and the copies are not the only trace of the traffic).

Records that every group has committed go, except for the ``warmup`` newest of them. Records that a slow group still
needs stay up to ``retain_bytes``; beyond it the fullest partition's oldest go, and are counted as ``dropped``: a
forgotten consumer must neither fill the disk nor stop the traffic being watched. A reader who was behind goes on at
the oldest record there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from monitor.events import Checkpoint, Delivery, Partition, Record
from monitor.transport.base import Block
from monitor.transport.log_file import DamagedLogError, LogError, LogFile
from monitor.transport.log_groups import Groups
from monitor.transport.log_rows import deliveries, insert
from monitor.transport.log_topics import PartitionStats, Topics
from monitor.transport.murmur2 import partition_of
from monitor.transport.retention import make_room

__all__ = ["DamagedLogError", "EmbeddedLog", "LogError", "PartitionStats"]

BLOCK_BYTES = 8 * 1024 * 1024
"""A read stops after so much, so that large payloads do not multiply by the block size."""


class EmbeddedLog:
    """An append-only log in one file.

    Parameters
    ----------
    path : the file; its directory must exist. SQLite puts ``-wal`` and ``-shm`` files beside it.
    retain_bytes : bytes kept for slow groups, over all topics.
    warmup : committed records kept a partition, for consumers to look back at after a restart.
    create : make the file if there is none.

    Raises
    ------
    LogError : the file is damaged, something else, of a newer format, or missing and not to be created.
    Unavailable : (from every method) locked for long, disk full, read-only, no such directory.

    Examples
    --------
    >>> import tempfile
    >>> log = EmbeddedLog(Path(tempfile.mkdtemp()) / "log.db")
    >>> log.append("payloads", [Record("income", {"ce_id": "1"}, b"{}", 0.0)])
    >>> [(d.partition, d.offset, d.record.key) for d in log.read("payloads/0", 0)]
    [('payloads/0', 0, 'income')]
    >>> log.commit("workers", "payloads/0", Checkpoint(1)); log.committed("workers", "payloads/0")
    Checkpoint(offset=1, state='')
    >>> log.close()
    """

    def __init__(self, path: Path, *, retain_bytes: int = 1024**3, warmup: int = 10_000, create: bool = True) -> None:
        self.path = Path(path)
        self.retain_bytes = retain_bytes
        self.warmup = warmup
        self._file = LogFile(self.path, create=create)
        self._topics = Topics(self._file)
        self._groups = Groups(self._file, self._topics, warmup)
        self._turn = count()

    def close(self) -> None:
        self._file.close()

    def topics(self) -> tuple[str, ...]:
        return self._topics.names()

    def create_topic(self, topic: str, partitions: int | None = None) -> tuple[Partition, ...]:
        """The topic's partitions, made if it is new: ``partitions`` of them, or one.

        Raises
        ------
        LogError : it was created with another number of partitions, which never changes (keys would move).
        """
        return self._topics.create(topic, partitions)

    def append(self, topic: str, records: Sequence[Record]) -> None:
        """Add the records in one transaction: all or none. A new topic gets one partition.

        A key decides the partition as in Kafka; the keyless records of a call go to one partition, in turns.

        Raises
        ------
        Rejected : a record's key or headers are no valid text.
        """
        if not records:
            return
        partitions = self._topics.known(topic)
        if not partitions:
            self._topics.create(topic)
            partitions = self._topics.known(topic)
        groups = {0: records} if len(partitions) == 1 else self._by_partition(records, len(partitions))
        with self._file.writing() as db:
            for number, group in groups.items():
                insert(db, partitions[number], group)
            make_room(db, self.retain_bytes)

    def read(self, partition: Partition, offset: int, limit: int = 256) -> tuple[Delivery, ...]:
        """Up to ``limit`` records from ``offset`` on, or from the oldest there is; empty at the end.

        It may be fewer before the end, never none: a read stops at some 8 MiB.
        """
        rows = self._rows(partition, offset, limit)
        if not rows:
            return ()
        try:
            return deliveries(partition, rows)
        except ValueError:
            raise self._damaged(partition, rows[0][0]) from None

    def _rows(self, partition: Partition, offset: int, limit: int) -> list[tuple[Any, ...]]:
        """The rows from the offset, or from the oldest there is. That they are missing is never taken for the end."""
        sql = self._topics.sql(partition)
        again = False
        while not (rows := self._file.query(sql.read, (offset, offset + limit, offset, BLOCK_BYTES))):
            ((first, end),) = self._file.query("SELECT first, next FROM partitions WHERE id = ?", (sql.identity,))
            if end <= offset:
                return []
            if first <= offset and again:
                raise self._damaged(partition, offset)
            offset, again = max(offset, first), True  # trimmed, or appended, between the two queries
        if rows[0][0] > offset and rows[0][0] > self.start_offset(partition):
            raise self._damaged(partition, offset)
        return rows

    def _damaged(self, partition: Partition, offset: int) -> DamagedLogError:
        return DamagedLogError(self.path, f"records of {partition} are missing or unreadable from offset {offset} on")

    def scan(self, topic: str, limit: int = 256) -> Iterator[Block]:
        """Everything there is now, oldest first, in blocks, the partitions in turns; no group, no commit."""
        ends = {stats.partition: stats.end for stats in self.stats(topic)}
        positions = dict.fromkeys(ends, 0)
        while positions:
            for partition in tuple(positions):
                end = ends[partition]
                found = self.read(partition, positions[partition], limit)
                block = tuple(delivery for delivery in found if delivery.offset < end)
                if block:
                    yield Block(partition, block, end)
                    positions[partition] = block[-1].offset + 1
                else:
                    del positions[partition]

    def start_offset(self, partition: Partition) -> int:
        """Offset of the oldest record there is (or of the next one)."""
        return int(
            self._file.query("SELECT first FROM partitions WHERE id = ?", (self._topics.sql(partition).identity,))[0][0]
        )

    def end_offset(self, partition: Partition) -> int:
        """Offset that the next record will get."""
        return int(
            self._file.query("SELECT next FROM partitions WHERE id = ?", (self._topics.sql(partition).identity,))[0][0]
        )

    def stats(self, topic: str) -> tuple[PartitionStats, ...]:
        """Where each partition of the topic begins and ends, what it holds and what it lost."""
        return self._topics.stats(topic)

    def join(self, group: str, partition: Partition) -> None:
        """Keep the partition's records for this group from now on, though it has committed nothing yet."""
        self._groups.join(group, partition)

    def leave(self, group: str, topic: str) -> None:
        """Forget the group: it holds back no records any more."""
        self._groups.leave(group, topic)

    def commit(self, group: str, partition: Partition, checkpoint: Checkpoint) -> None:
        """Note where the group resumes, and let go what no group needs."""
        self._groups.commit(group, {partition: checkpoint})

    def commit_all(self, group: str, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """:meth:`commit` of several partitions, all or none."""
        self._groups.commit(group, checkpoints)

    def committed(self, group: str, partition: Partition) -> Checkpoint | None:
        """The group's last commit, ``None`` if there was none."""
        return self._groups.committed(group, partition)

    def trim(self) -> int:
        """Let go what no group needs, now and in full (commits do it as they go). Returns the number of records."""
        return self._groups.trim()

    def _by_partition(self, records: Sequence[Record], partitions: int) -> dict[int, list[Record]]:
        groups: dict[int, list[Record]] = {}
        keyless = next(self._turn) % partitions
        for record in records:
            number = keyless if record.key is None else partition_of(record.key, partitions)
            groups.setdefault(number, []).append(record)
        return groups
