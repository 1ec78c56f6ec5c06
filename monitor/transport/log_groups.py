"""The consumer groups of the embedded log: where each resumes, and what goes behind them."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.events import Checkpoint, Partition
from monitor.transport.log_file import LogFile
from monitor.transport.log_tables import Statements
from monitor.transport.log_topics import Topics
from monitor.transport.retention import TRIM_ROWS, delete, releasable


class Groups:
    """The cursors of all groups.

    Parameters
    ----------
    file, topics : of the log.
    warmup : committed records kept a partition.
    """

    def __init__(self, file: LogFile, topics: Topics, warmup: int) -> None:
        self._file, self._topics, self._warmup = file, topics, warmup

    def join(self, group: str, partition: Partition) -> None:
        """Keep the partition's records for this group from now on, though it has committed nothing yet."""
        identity = self._topics.sql(partition).identity
        with self._file.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO commits SELECT id, ?, first, NULL FROM partitions WHERE id = ?",
                (group, identity),
            )

    def leave(self, group: str, topic: str) -> None:
        """Forget the group: it holds back no records any more."""
        with self._file.writing() as db:
            db.execute(
                "DELETE FROM commits WHERE consumers = ? AND partition IN (SELECT id FROM partitions WHERE topic = ?)",
                (group, topic),
            )

    def commit(self, group: str, checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Note where the group resumes, all or none, and let go what no group needs."""
        rows = [
            (self._topics.sql(partition).identity, group, *checkpoint) for partition, checkpoint in checkpoints.items()
        ]
        with self._file.writing() as db:
            db.executemany("INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)", rows)
        for row in rows:
            while self._trim(row[0], TRIM_ROWS):
                pass

    def committed(self, group: str, partition: Partition) -> Checkpoint | None:
        """The group's last commit, ``None`` if there was none."""
        rows = self._file.query(
            "SELECT offset, state FROM commits WHERE partition = ? AND consumers = ? AND state IS NOT NULL",
            (self._topics.sql(partition).identity, group),
        )
        return Checkpoint(*rows[0]) if rows else None

    def trim(self) -> int:
        """Let go what no group needs, in full. Returns the number of records."""
        total = 0
        for (identity,) in self._file.query("SELECT id FROM partitions"):
            while went := self._trim(identity, TRIM_ROWS, least=1):
                total += went
        return total

    def _trim(self, identity: int, rows: int, least: int = 1024) -> int:
        """Delete up to ``rows`` committed records; nothing if there are fewer than ``least``: small bites cost more."""
        with self._file.reading() as db:
            _, free = releasable(db, identity, self._warmup)
        if free < least:
            return 0
        with self._file.writing() as db:  # another process may have trimmed, or a group joined, since
            first, free = releasable(db, identity, self._warmup)
            went = min(free, rows)
            return delete(db, Statements(identity), first, first + went) if went else 0
