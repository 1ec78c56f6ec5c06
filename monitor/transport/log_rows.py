"""Records to the embedded log's rows, and rows to deliveries."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import orjson

from monitor.events import Delivery, Partition, Record
from monitor.transport.base import Rejected
from monitor.transport.log_tables import Statements

ROW_BYTES = 32
"""What a record is taken to cost beside its key, headers and value."""

# Named tuples from tuples without a Python call each: a third of the cost, in the loop that reads everything.
_record: Callable[[Iterable[Any]], Record] = partial(tuple.__new__, Record)
_delivery: Callable[[Iterable[Any]], Delivery] = partial(tuple.__new__, Delivery)


def insert(db: sqlite3.Connection, sql: Statements, records: Sequence[Record]) -> None:
    """Append to a partition, in a transaction of the caller.

    Raises
    ------
    Rejected : a record's key or headers are no valid text.
    """
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


def deliveries(partition: Partition, rows: Sequence[tuple[Any, ...]]) -> tuple[Delivery, ...]:
    """One a row, of which there is at least one.

    Raises
    ------
    ValueError : rows are missing between them, or headers cannot be read: the file is damaged.
    """
    offsets, timestamps, keys, headers, values = zip(*rows, strict=True)
    if offsets[-1] - offsets[0] >= len(offsets):
        raise ValueError("rows are missing")
    told = [orjson.loads(blob) for blob in headers]
    records = map(_record, zip(keys, told, values, timestamps, strict=True))
    return tuple(map(_delivery, zip(repeat(partition), offsets, records, strict=False)))
