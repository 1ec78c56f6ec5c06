"""The topics of the embedded log and their partitions."""

from __future__ import annotations

from typing import NamedTuple

from monitor.events import Partition
from monitor.transport.log_file import LogError, LogFile
from monitor.transport.log_tables import Statements


class PartitionStats(NamedTuple):
    """Offsets ``start`` to ``end`` (exclusive) are there and hold ``bytes``.

    ``dropped`` records went for want of room before every group had committed them.
    """

    partition: Partition
    start: int
    end: int
    bytes: int
    dropped: int


class Topics:
    """What topics there are; a partition is ``topic/number``. Their numbers of partitions never change, so are kept."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._topics: dict[str, tuple[Statements, ...]] = {}

    def names(self) -> tuple[str, ...]:
        return tuple(topic for (topic,) in self._file.query("SELECT DISTINCT topic FROM partitions ORDER BY topic"))

    def create(self, topic: str, partitions: int | None = None) -> tuple[Partition, ...]:
        """The topic's partitions, made if it is new: ``partitions`` of them, or one.

        Raises
        ------
        LogError : it was created with another number of partitions, which never changes (keys would move).
        """
        if "/" in topic or not topic:
            raise LogError(f"{topic!r} is no topic name: it must not be empty or hold '/'")
        known = self.known(topic)
        if not known:
            self._insert(topic, partitions or 1)
            known = self.known(topic)
        if partitions is not None and len(known) != partitions:
            raise LogError(
                f"topic {topic} of the log {self._file.path} has {len(known)} partitions, not {partitions}: set "
                f"transport.partitions to {len(known)}, or move the log away to start a new one"
            )
        return tuple(f"{topic}/{number}" for number in range(len(known)))

    def _insert(self, topic: str, partitions: int) -> None:
        with self._file.writing() as db:
            if db.execute("SELECT 1 FROM partitions WHERE topic = ?", (topic,)).fetchone():
                return  # another process was quicker
            for number in range(partitions):
                made = db.execute("INSERT INTO partitions (topic, number) VALUES (?, ?)", (topic, number))
                db.execute(Statements(made.lastrowid or 0).create)

    def known(self, topic: str) -> tuple[Statements, ...]:
        """The topic's partitions in order; none if there is no such topic."""
        if topic not in self._topics:
            rows = self._file.query("SELECT id FROM partitions WHERE topic = ? ORDER BY number", (topic,))
            if not rows:
                return ()
            self._topics[topic] = tuple(Statements(identity) for (identity,) in rows)
        return self._topics[topic]

    def sql(self, partition: Partition) -> Statements:
        """The statements on the partition's records; :class:`LogError` if there is no such partition."""
        topic, _, number = partition.rpartition("/")
        try:
            return self.known(topic)[int(number)]
        except (IndexError, ValueError):
            raise LogError(f"the log {self._file.path} has no partition {partition}") from None

    def stats(self, topic: str) -> tuple[PartitionStats, ...]:
        """Where each partition of the topic begins and ends, what it holds and what it lost."""
        rows = self._file.query(
            "SELECT number, first, next, position - freed, dropped FROM partitions WHERE topic = ? ORDER BY number",
            (topic,),
        )
        return tuple(PartitionStats(f"{topic}/{number}", *rest) for number, *rest in rows)
