"""The SQLite file of the embedded log: opening it, transactions, and SQLite's errors in words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.transport.log_tables import TABLES
from sinks.records import Unavailable

APPLICATION_ID = 0x6F667061  # "ofpa"
FORMAT = 1
_MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 2.0
"""How long another process may hold the write lock; it normally does for a millisecond."""


class LogError(ValueError):
    """The log cannot be used as asked, now or later; the message says why and what to do."""


class DamagedLogError(LogError):
    """The file was a log, as far as can be told, and is damaged. ``reason`` is what SQLite says of it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the log {path} is damaged ({reason}); move it away and start again with a new one")
        self.reason = reason


class LogFile:
    """The open file: one connection for all threads of a process, which lets in one at a time.

    Raises
    ------
    LogError : there is none and ``create`` is false; it is damaged, something else, or of a newer format.
    Unavailable : (from every method, too) no such directory, no permission, locked for long, disk full.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._db = _connect(path, create=create)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        with self._lock, _in_words(self.path):
            return _execute(self._db, sql, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for reads of several statements; others may write in between."""
        with self._lock, _in_words(self.path):
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction, committed at the end, rolled back after an error."""
        with self._lock, _in_words(self.path):
            _execute(self._db, "BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """SQLite's errors as :class:`Unavailable`, where waiting may help, or :class:`LogError`."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a mistake of ours, say a log used after close()
        raise
    except sqlite3.OperationalError as error:
        if "decode" in str(error):  # text that is no UTF-8 was never written by us
            raise _damaged(path, error) from error
        raise Unavailable(f"the log {path} cannot be used now: {_explained(str(error))}") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LogError:
    if not _may_be_sqlite(path):
        return LogError(f"{path} is another file, no log ({error}); give the log another path")
    return DamagedLogError(path, str(error))


def _may_be_sqlite(path: Path) -> bool:
    """Whether the file begins as SQLite's do, or with zeros: what a crash leaves of a page that was never written."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError:
        return True
    return head in (_MAGIC[: len(head)], bytes(len(head)))


def _explained(message: str) -> str:
    if "locked" in message:
        return f"another process held its write lock for more than {BUSY_SECONDS:g} s ({message})"
    if "full" in message:
        return f"no space is left on its disk ({message})"
    if "readonly" in message:
        return f"the file or its directory is read-only for this user ({message})"
    return message


def _execute(db: sqlite3.Connection, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
    """Execute, and wait for other processes by short naps.

    SQLite's own waiting takes longer and longer naps: beside a process that appends all the time, tens of
    milliseconds in the median and seconds at worst.
    """
    deadline = 0.0
    while True:
        try:
            return db.execute(sql, values)
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            deadline = deadline or now + BUSY_SECONDS
            if "locked" not in str(error) or now > deadline:
                raise


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    if not path.exists() and not create:
        raise LogError(f"there is no log at {path}")
    if not path.parent.is_dir():
        raise Unavailable(f"the log {path} cannot be opened: {path.parent} is no directory")
    with _in_words(path):
        uri = path.resolve().as_uri() + ("" if create else _read_only(path))
        db = sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _read_only(path: Path) -> str:
    """How a log is opened where SQLite can make no file beside it: as one that nobody changes.

    What is not folded in yet stands in the ``-wal`` file, and can be read only together with the ``-shm`` file.
    """
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]
    if os.access(path.parent, os.W_OK) or all(file.exists() for file in beside):
        return ""
    if beside[0].exists() and beside[0].stat().st_size:
        raise LogError(f"the last records of {path} are in {beside[0].name}: copy both to where you may write")
    return "?immutable=1"


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if not _is_log(db, path):
        _use_wal(db)
        db.execute("BEGIN IMMEDIATE")
        if not _is_log(db, path):  # another process may have been quicker
            for table in TABLES:
                db.execute(table)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what they delete: twice the cost
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute("PRAGMA busy_timeout = 2")  # milliseconds; from here on `_execute` does the waiting


def _is_log(db: sqlite3.Connection, path: Path) -> bool:
    """False for an empty file.

    The tables are looked for first: who creates a log commits them together with the number, so that a log made by
    another process between the two looks is seen as one.
    """
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version > FORMAT:
            raise LogError(
                f"the log {path} has format {version}, this offpath reads up to {FORMAT}: "
                "update offpath, or let it start a new log elsewhere (transport.path)"
            )
        return True
    if tables:
        raise LogError(f"{path} is an SQLite file of something else; give the log another path (transport.path)")
    return False


def _use_wal(db: sqlite3.Connection) -> None:
    """Two processes that create the log at once collide here, and SQLite does not wait for this lock by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
