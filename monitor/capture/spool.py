"""Where events wait on disk while their receiver is away: the embedded log, with one reader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from monitor.events import Checkpoint
from monitor.transport.base import Unavailable
from monitor.transport.lease import Lease
from monitor.transport.log import EmbeddedLog
from sinks.base import Record

TOPIC, GROUP = "spool", "shipper"
PARTITION = f"{TOPIC}/0"


class Spool:
    """A queue of records in a file. They leave it when they are acknowledged, or, the oldest first, beyond ``limit``.

    Parameters
    ----------
    path : the file; its directory is made. One process at a time.
    limit : bytes.

    Raises
    ------
    Unavailable : (from every method) it cannot be used now: held by another process, disk full, read-only.
    monitor.transport.log.LogError : the file is damaged or something else.

    Examples
    --------
    >>> import tempfile
    >>> spool = Spool(Path(tempfile.mkdtemp()) / "spool.db", 10_000)
    >>> spool.add([Record("m", {"ce_id": "1"}, b"{}", 0.0)]), len(spool)
    (0, 1)
    >>> batch = spool.oldest(10); spool.acknowledge(len(batch)); len(spool)
    0
    >>> spool.close()
    """

    def __init__(self, path: Path, limit: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the spool's directory {path.parent} cannot be made: {error.strerror}") from error
        self._lease = Lease(path.with_name(path.name + ".lock"), f"the spool {path}")
        try:
            self._log = EmbeddedLog(path, retain_bytes=limit, warmup=0)
            self._log.create_topic(TOPIC, 1)
            self._log.join(GROUP, PARTITION)
            checkpoint = self._log.committed(GROUP, PARTITION)
            self._next = checkpoint.offset if checkpoint else 0
            self._look()
        except BaseException:
            self._lease.release()
            raise

    def __len__(self) -> int:
        """Records that wait."""
        return self._end - max(self._next, self._start)

    @property
    def bytes(self) -> int:
        return self._bytes if len(self) else 0

    def add(self, records: Sequence[Record]) -> int:
        """Append all, durably. Returns how many old records that wait had to go for it."""
        self._log.trim()  # what was acknowledged is no loss
        self._log.append(TOPIC, records)
        first = max(self._next, self._start)
        self._look()
        return max(self._start - first, 0)

    def oldest(self, limit: int) -> tuple[Record, ...]:
        """The records that wait longest, in order."""
        if not len(self):
            return ()
        deliveries = self._log.read(PARTITION, max(self._next, self._start), limit)
        return tuple(delivery.record for delivery in deliveries)

    def acknowledge(self, count: int) -> None:
        """The ``count`` oldest are done."""
        after = max(self._next, self._start) + count
        self._log.commit(GROUP, PARTITION, Checkpoint(after))
        self._next = after
        with suppress(Unavailable):  # it is committed: room can be made later
            self._log.trim()
        self._look()

    def close(self) -> None:
        self._log.close()
        self._lease.release()

    def _look(self) -> None:
        stats = self._log.stats(TOPIC)[0]
        self._start, self._end, self._bytes = stats.start, stats.end, stats.bytes
