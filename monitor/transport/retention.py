"""What goes from the log, and when: bytes beyond the bound, and records that no group needs."""

from __future__ import annotations

import sqlite3

from monitor.transport.log_tables import Statements

TRIM_ROWS = 4096
"""Rows deleted in one transaction; appends from other processes get in between."""

_FREE = """SELECT p.first, min(p.next, min(c.offset)) - ? - p.first
    FROM partitions p JOIN commits c ON c.partition = p.id WHERE p.id = ?"""


def releasable(db: sqlite3.Connection, identity: int, warmup: int) -> tuple[int, int]:
    """The partition's first offset, and how many records from there no group needs."""
    first, free = db.execute(_FREE, (warmup, identity)).fetchone()
    return first or 0, max(0, free or 0)


def make_room(db: sqlite3.Connection, retain_bytes: int) -> None:
    """Drop the oldest records of the fullest partition while the log holds too much."""
    (excess,) = db.execute("SELECT sum(position - freed) FROM partitions").fetchone()
    excess -= retain_bytes
    if excess <= 0:
        return
    excess += min(retain_bytes // 16, 1024 * 1024)  # and a little more, so as not to be here every time
    while excess > 0:
        fullest = "SELECT id, first, next, freed FROM partitions ORDER BY position - freed DESC LIMIT 1"
        identity, first, end, freed = db.execute(fullest).fetchone()
        if first == end:
            return
        sql = Statements(identity)
        cut = _cut(db, sql, first, end, freed + excess)
        stop = min(cut, first + TRIM_ROWS)
        delete(db, sql, first, stop)
        (slowest,) = db.execute("SELECT min(offset) FROM commits WHERE partition = ?", (identity,)).fetchone()
        lost = max(0, stop - max(first, slowest or 0))
        db.execute("UPDATE partitions SET dropped = dropped + ? WHERE id = ?", (lost, identity))
        excess -= db.execute("SELECT freed FROM partitions WHERE id = ?", (identity,)).fetchone()[0] - freed


def delete(db: sqlite3.Connection, sql: Statements, first: int, stop: int) -> int:
    db.execute(sql.delete, (first, stop))
    there = db.execute(sql.position, (stop,)).fetchone()
    db.execute(
        "UPDATE partitions SET first = ?, freed = coalesce(?, position) WHERE id = ?",
        (stop, there[0] if there else None, sql.identity),
    )
    return stop - first


def _cut(db: sqlite3.Connection, sql: Statements, first: int, end: int, position: int) -> int:
    """The first offset at or behind the position: all before it may go. By bisection."""
    low, high = first + 1, end
    while low < high:
        middle = (low + high) // 2
        (there,) = db.execute(sql.position, (middle,)).fetchone()
        if there < position:
            low = middle + 1
        else:
            high = middle
    return low
