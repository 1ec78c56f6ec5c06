"""Findings in an SQLite file: what the status page and its API read, also while a worker writes."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sinks.base import Finding
from sinks.records import Unavailable

_TABLES = """
CREATE TABLE IF NOT EXISTS findings (
    id TEXT PRIMARY KEY, monitor TEXT NOT NULL, scope TEXT NOT NULL, state TEXT NOT NULL, alarm INTEGER NOT NULL,
    end REAL NOT NULL, statistic REAL, threshold REAL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_monitor ON findings (monitor, scope, end);
CREATE INDEX IF NOT EXISTS by_alarm ON findings (alarm, end);
"""
PRUNE_EVERY = 1000
"""Findings between two looks at whether there are too many."""

MAX_BUFFERED = 50_000
"""Findings kept in memory while the file cannot be written."""


def connect(path: Path) -> sqlite3.Connection:
    """The open file with its tables. Raises :class:`Unavailable`."""
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLES)
    return db


class _File:
    """The open file; begun anew where it was moved or removed."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        self._open()

    def _open(self) -> None:
        self._db = connect(self._path)
        self._stat = self._path.stat()
        if self._read_only:
            self._db.execute("PRAGMA query_only = ON")

    def db(self) -> sqlite3.Connection:
        """The connection. Raises :class:`OSError` or :class:`sqlite3.Error`."""
        try:
            there = os.path.samestat(self._path.stat(), self._stat)
        except FileNotFoundError:
            there = False
        if not there:
            self._db.close()  # before the new one is made: it removes the log beside the file by its name
            self._open()
        return self._db

    def close(self) -> None:
        self._db.close()


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as :class:`Unavailable`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the findings' store {path} cannot be used: {error}") from error


class StoreSink:
    """Keeps the newest ``keep`` findings. What :meth:`flush` returned for survives the death of any process.

    A file that is removed meanwhile is begun anew with the findings that come.
    """

    def __init__(self, path: Path, *, keep: int = 100_000) -> None:
        self._path = path
        self._keep = keep
        self._file = _File(path)
        self._buffer: list[Finding] = []
        self._since_prune = 0

    async def write(self, findings: Sequence[Finding]) -> None:
        if len(self._buffer) + len(findings) > MAX_BUFFERED:
            await self.flush()
        self._buffer.extend(findings)

    async def flush(self) -> None:
        if not self._buffer:
            return
        rows = [_row(finding) for finding in self._buffer]
        with in_words(self._path):
            db = self._file.db()
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany("INSERT OR IGNORE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                self._prune(db, len(rows))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        self._buffer.clear()

    def _prune(self, db: sqlite3.Connection, written: int) -> None:
        self._since_prune += written
        if self._since_prune >= PRUNE_EVERY:
            self._since_prune = 0
            db.execute(
                "DELETE FROM findings WHERE rowid IN (SELECT rowid FROM findings ORDER BY end DESC LIMIT -1 OFFSET ?)",
                (self._keep,),
            )

    async def close(self) -> None:
        self._file.close()


def _row(finding: Finding) -> tuple[Any, ...]:
    verdict = finding.verdict
    body = finding.to_json()
    return (
        finding.id, finding.monitor, finding.scope, verdict.state, int(finding.alarm), finding.end.timestamp(),
        verdict.statistic, verdict.threshold, body,
    )  # fmt: skip


class FindingStore:
    """The reading side. Every call opens no file and holds no lock beyond itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File(path, read_only=True)

    def latest(self, monitor: str) -> dict[str, Any] | None:
        """The newest evaluation of a monitor's windows."""
        found = self.findings(monitor=monitor, scope="window", limit=1)
        return found[0] if found else None

    def timeline(self, monitor: str, limit: int = 200) -> list[dict[str, Any]]:
        """The last evaluations, oldest first: end, statistic, threshold, state, alarm, id."""
        rows = self._query(
            "SELECT id, end, statistic, threshold, state, alarm FROM findings WHERE monitor = ? AND scope = 'window' "
            "ORDER BY end DESC LIMIT ?",
            (monitor, limit),
        )
        names = ("id", "end", "statistic", "threshold", "state", "alarm")
        return [{**dict(zip(names, row, strict=True)), "alarm": bool(row[5])} for row in reversed(rows)]

    def findings(
        self,
        *,
        monitor: str | None = None,
        scope: str | None = None,
        alarm: bool | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """The newest findings that fit, newest first."""
        asked = {"monitor": monitor, "scope": scope, "alarm": None if alarm is None else int(alarm)}
        given = {name: value for name, value in asked.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1"
        # only the names above reach the text, values are bound
        sql = f"SELECT body FROM findings WHERE {where} ORDER BY end DESC, rowid DESC LIMIT ?"  # noqa: S608
        return [json.loads(body) for (body,) in self._query(sql, (*given.values(), limit))]

    def finding(self, identity: str) -> dict[str, Any] | None:
        rows = self._query("SELECT body FROM findings WHERE id = ?", (identity,))
        return json.loads(rows[0][0]) if rows else None

    def counts(self, monitor: str) -> dict[str, int]:
        """How many evaluations (by state), alarms and flagged events are kept of a monitor."""
        rows = self._query(
            "SELECT scope, state, alarm, count(*) FROM findings WHERE monitor = ? GROUP BY 1, 2, 3", (monitor,)
        )
        counts = {"ok": 0, "alert": 0, "insufficient_data": 0, "alarms": 0, "flagged_events": 0}
        for scope, state, alarm, n in rows:
            if scope == "instance":
                counts["flagged_events"] += n
            else:
                counts[state] += n
                counts["alarms"] += n * alarm
        return counts

    def _query(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with in_words(self._path):
            return self._file.db().execute(sql, values).fetchall()

    def close(self) -> None:
        self._file.close()
