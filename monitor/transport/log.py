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

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from monitor.events import Checkpoint, Delivery, Partition, Record
from monitor.transport.base import Block, Rejected
from monitor.transport.log_file import DamagedLogError, LogError, Statements, connect, execute, in_words
from monitor.transport.murmur2 import partition_of
from monitor.transport.retention import TRIM_ROWS, delete, make_room, releasable

__all__ = ["DamagedLogError", "EmbeddedLog", "LogError", "PartitionStats"]

ROW_BYTES = 32
"""What a record is taken to cost beside its key, headers and value."""

BLOCK_BYTES = 8 * 1024 * 1024
"""A read stops after so much, so that large payloads do not multiply by the block size."""

# Named tuples from tuples without a Python call each: a third of the cost, in the loop that reads everything.
_record: Callable[[Iterable[Any]], Record] = partial(tuple.__new__, Record)
_delivery: Callable[[Iterable[Any]], Delivery] = partial(tuple.__new__, Delivery)


class PartitionStats(NamedTuple):
    """Offsets ``start`` to ``end`` (exclusive) are there and hold ``bytes``.

    ``dropped`` records went for want of room before every group had committed them.
    """

    partition: Partition
    start: int
    end: int
    bytes: int
    dropped: int


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
        self._db = connect(self.path, create=create)
        self._lock = threading.Lock()
        self._topics: dict[str, tuple[Statements, ...]] = {}
        self._turn = count()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def topics(self) -> tuple[str, ...]:
        return tuple(topic for (topic,) in self._query("SELECT DISTINCT topic FROM partitions ORDER BY topic"))

    def create_topic(self, topic: str, partitions: int | None = None) -> tuple[Partition, ...]:
        """The topic's partitions, made if it is new: ``partitions`` of them, or one.

        Raises
        ------
        LogError : it was created with another number of partitions, which never changes (keys would move).
        """
        if "/" in topic or not topic:
            raise LogError(f"{topic!r} is no topic name: it must not be empty or hold '/'")
        known = self._known(topic)
        if not known:
            self._create(topic, partitions or 1)
            known = self._known(topic)
        if partitions is not None and len(known) != partitions:
            raise LogError(
                f"topic {topic} of the log {self.path} has {len(known)} partitions, not {partitions}: set "
                f"transport.partitions to {len(known)}, or move the log away to start a new one"
            )
        return tuple(f"{topic}/{number}" for number in range(len(known)))

    def _create(self, topic: str, partitions: int) -> None:
        with self._writing() as db:
            if db.execute("SELECT 1 FROM partitions WHERE topic = ?", (topic,)).fetchone():
                return  # another process was quicker
            for number in range(partitions):
                made = db.execute("INSERT INTO partitions (topic, number) VALUES (?, ?)", (topic, number))
                db.execute(Statements(made.lastrowid or 0).create)

    def append(self, topic: str, records: Sequence[Record]) -> None:
        """Add the records in one transaction: all or none. A new topic gets one partition.

        A key decides the partition as in Kafka; the keyless records of a call go to one partition, in turns.

        Raises
        ------
        Rejected : a record's key or headers are no valid text.
        """
        if not records:
            return
        partitions = self._known(topic)
        if not partitions:
            self.create_topic(topic)
            partitions = self._known(topic)
        groups = {0: records} if len(partitions) == 1 else self._by_partition(records, len(partitions))
        with self._writing() as db:
            for number, group in groups.items():
                _insert(db, partitions[number], group)
            make_room(db, self.retain_bytes)

    def read(self, partition: Partition, offset: int, limit: int = 256) -> tuple[Delivery, ...]:
        """Up to ``limit`` records from ``offset`` on, or from the oldest there is; empty at the end.

        It may be fewer before the end, never none: a read stops at some 8 MiB.
        """
        rows = self._rows(partition, offset, limit)
        if not rows:
            return ()
        offsets, timestamps, keys, headers, values = zip(*rows, strict=True)
        if offsets[-1] - offsets[0] >= len(offsets):
            raise self._damaged(partition, offsets[0])
        try:
            told = [orjson.loads(blob) for blob in headers]
        except orjson.JSONDecodeError:
            raise self._damaged(partition, offsets[0]) from None
        records = map(_record, zip(keys, told, values, timestamps, strict=True))
        return tuple(map(_delivery, zip(repeat(partition), offsets, records, strict=False)))

    def _rows(self, partition: Partition, offset: int, limit: int) -> list[tuple[Any, ...]]:
        """The rows from the offset, or from the oldest there is. That they are missing is never taken for the end."""
        sql = self._sql(partition)
        again = False
        while not (rows := self._query(sql.read, (offset, offset + limit, offset, BLOCK_BYTES))):
            ((first, end),) = self._query("SELECT first, next FROM partitions WHERE id = ?", (sql.identity,))
            if end <= offset:
                return []
            if first <= offset and again:
                raise self._damaged(partition, offset)
            offset, again = max(offset, first), True  # trimmed, or appended, between the two queries
        if rows[0][0] > offset and rows[0][0] > self.start_offset(partition):
            raise self._damaged(partition, offset)
        return rows

    def _damaged(self, partition: Partition, offset: int) -> DamagedLogError:
        return DamagedLogError(
            f"the log {self.path} is damaged: records of {partition} are missing or unreadable "
            f"from offset {offset} on; move it away and start again with a new one"
        )

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
        return int(self._query("SELECT first FROM partitions WHERE id = ?", (self._sql(partition).identity,))[0][0])

    def end_offset(self, partition: Partition) -> int:
        """Offset that the next record will get."""
        return int(self._query("SELECT next FROM partitions WHERE id = ?", (self._sql(partition).identity,))[0][0])

    def stats(self, topic: str) -> tuple[PartitionStats, ...]:
        """Where each partition of the topic begins and ends, what it holds and what it lost."""
        rows = self._query(
            "SELECT number, first, next, position - freed, dropped FROM partitions WHERE topic = ? ORDER BY number",
            (topic,),
        )
        return tuple(PartitionStats(f"{topic}/{number}", *rest) for number, *rest in rows)

    def join(self, group: str, partition: Partition) -> None:
        """Keep the partition's records for this group from now on, though it has committed nothing yet."""
        with self._writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO commits SELECT id, ?, first, NULL FROM partitions WHERE id = ?",
                (group, self._sql(partition).identity),
            )

    def leave(self, group: str, topic: str) -> None:
        """Forget the group: it holds back no records any more."""
        with self._writing() as db:
            db.execute(
                "DELETE FROM commits WHERE consumers = ? AND partition IN (SELECT id FROM partitions WHERE topic = ?)",
                (group, topic),
            )

    def commit(self, group: str, partition: Partition, checkpoint: Checkpoint) -> None:
        """Note where the group resumes, and let go what no group needs."""
        self.commit_all(group, {partition: checkpoint})

    def commit_all(self, group: str, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """:meth:`commit` of several partitions, all or none."""
        rows = [(self._sql(partition).identity, group, *checkpoint) for partition, checkpoint in checkpoints.items()]
        with self._writing() as db:
            db.executemany("INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)", rows)
        for row in rows:
            while self._trim(row[0], TRIM_ROWS):
                pass

    def committed(self, group: str, partition: Partition) -> Checkpoint | None:
        """The group's last commit, ``None`` if there was none."""
        rows = self._query(
            "SELECT offset, state FROM commits WHERE partition = ? AND consumers = ? AND state IS NOT NULL",
            (self._sql(partition).identity, group),
        )
        return Checkpoint(*rows[0]) if rows else None

    def trim(self) -> int:
        """Let go what no group needs, now and in full (commits do it as they go). Returns the number of records."""
        total = 0
        for (identity,) in self._query("SELECT id FROM partitions"):
            while went := self._trim(identity, TRIM_ROWS, least=1):
                total += went
        return total

    def _trim(self, identity: int, rows: int, least: int = 1024) -> int:
        """Delete up to ``rows`` committed records; nothing if there are fewer than ``least``: small bites cost more."""
        with self._lock, in_words(self.path):
            _, free = releasable(self._db, identity, self.warmup)
        if free < least:
            return 0
        with self._writing() as db:  # another process may have trimmed, or a group joined, since
            first, free = releasable(db, identity, self.warmup)
            went = min(free, rows)
            return delete(db, Statements(identity), first, first + went) if went else 0

    def _by_partition(self, records: Sequence[Record], partitions: int) -> dict[int, list[Record]]:
        groups: dict[int, list[Record]] = {}
        keyless = next(self._turn) % partitions
        for record in records:
            number = keyless if record.key is None else partition_of(record.key, partitions)
            groups.setdefault(number, []).append(record)
        return groups

    def _known(self, topic: str) -> tuple[Statements, ...]:
        """The topic's partitions in order; none if there is no such topic."""
        if topic not in self._topics:
            rows = self._query("SELECT id FROM partitions WHERE topic = ? ORDER BY number", (topic,))
            if not rows:
                return ()
            self._topics[topic] = tuple(Statements(identity) for (identity,) in rows)
        return self._topics[topic]

    def _sql(self, partition: Partition) -> Statements:
        topic, _, number = partition.rpartition("/")
        try:
            return self._known(topic)[int(number)]
        except (IndexError, ValueError):
            raise LogError(f"the log {self.path} has no partition {partition}") from None

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, in_words(self.path):
            return execute(self._db, sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, in_words(self.path):
            execute(self._db, "BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _insert(db: sqlite3.Connection, sql: Statements, records: Sequence[Record]) -> None:
    offset, position = db.execute("SELECT next, position FROM partitions WHERE id = ?", (sql.identity,)).fetchone()
    rows = []
    try:
        for key, headers, value, timestamp in records:
            told = orjson.dumps(headers, default=dict)
            rows.append((offset, position, timestamp, key, told, value))
            position += ROW_BYTES + len(told) + len(value or b"") + len(key or "")
            offset += 1
        db.executemany(sql.insert, rows)
    except (UnicodeEncodeError, TypeError) as error:
        raise Rejected(f"a record's key or headers are no valid text: {error}") from error
    db.execute("UPDATE partitions SET next = ?, position = ? WHERE id = ?", (offset, position, sql.identity))
