"""The tables of the embedded log, and the SQL on them.

Each partition has a table of its own, its row id the offset: an append goes to the right edge of a b-tree, where SQLite
is quickest (all partitions in one tree cost 1.7 times as much). ``position`` counts the partition's bytes up to the
record: how much a range holds is one subtraction, whatever its length.
"""

from __future__ import annotations

TABLES = (
    """CREATE TABLE partitions (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
        first INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0,
        freed INTEGER NOT NULL DEFAULT 0, position INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number))""",
    """CREATE TABLE commits (
        partition INTEGER NOT NULL, consumers TEXT NOT NULL, offset INTEGER NOT NULL, state TEXT,
        PRIMARY KEY (partition, consumers)) WITHOUT ROWID""",
)

_RECORDS = """CREATE TABLE {records} (
    offset INTEGER PRIMARY KEY, position INTEGER NOT NULL, timestamp REAL NOT NULL,
    key TEXT, headers BLOB NOT NULL, value BLOB)"""


class Statements:
    """The SQL on one partition's records."""

    def __init__(self, identity: int) -> None:
        self.identity = identity
        self.create, self.insert, self.delete, self.position, self.read = (
            sql.format(records=f"records_{identity:d}")
            for sql in (
                _RECORDS,
                "INSERT INTO {records} VALUES (?, ?, ?, ?, ?, ?)",
                "DELETE FROM {records} WHERE offset >= ? AND offset < ?",
                "SELECT position FROM {records} WHERE offset = ?",
                """SELECT offset, timestamp, key, headers, value FROM {records} WHERE offset >= ? AND offset < ?
                AND position < (SELECT position FROM {records} WHERE offset >= ? ORDER BY offset LIMIT 1) + ?
                ORDER BY offset""",
            )
        )
