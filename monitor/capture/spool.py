"""Where events wait on disk while their receiver is away: the embedded log, with one reader."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from monitor.events import Checkpoint, Delivery
from monitor.transport.base import Unavailable
from monitor.transport.lease import Lease
from monitor.transport.log import EmbeddedLog
from sinks.records import Record

TOPIC, GROUP = "spool", "shipper"
PARTITION = f"{TOPIC}/0"

RECORD_BYTES = 2048
"""What a record is taken to hold in memory beside its value."""


def size_of(record: Record) -> int:
    """Bytes of memory."""
    return RECORD_BYTES + len(record.value or b"")


class Spool:
    """A queue of records in a file. One batch at a time is handed out; what its receiver took leaves the file.

    Parameters
    ----------
    path : the file; its directory is made. One process at a time.
    limit : bytes; beyond it the oldest go.
    age : seconds after which a record is not handed out any more but goes.
    lost : told of records that go before anybody took them: why (``spool_full``, ``expired``), and how many.
    clock : epoch seconds.

    Raises
    ------
    Unavailable : (from every method) it cannot be used now: held by another process, disk full, read-only.
    monitor.transport.log.LogError : the file is damaged or something else.

    Examples
    --------
    >>> import tempfile
    >>> spool = Spool(Path(tempfile.mkdtemp()) / "spool.db", 10_000)
    >>> spool.add([Record("m", {"ce_id": "1"}, b"{}", 0.0)]); len(spool)
    1
    >>> batch = spool.oldest(10, 1000); spool.settle(left=()); len(batch), len(spool)
    (1, 0)
    >>> spool.close()
    """

    def __init__(
        self,
        path: Path,
        limit: int,
        *,
        age: float = math.inf,
        lost: Callable[[str, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._age, self._lost, self._clock = path, age, lost, clock
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
        except BaseException:
            self._lease.release()
            raise
        self._committed = self._position = checkpoint.offset if checkpoint else 0
        self._again: list[int] = []  # offsets before the position that were handed out and not taken
        self._out: list[int] = []  # offsets that are handed out
        self._gone = 0  # offsets before this one went
        self._look()

    def __len__(self) -> int:
        """Records that wait, those handed out among them."""
        return self._end - self._position + len(self._again) + len(self._out)

    @property
    def bytes(self) -> int:
        return self._bytes if len(self) else 0

    @property
    def handed_out(self) -> int:
        """Records of the batch that is handed out."""
        return len(self._out)

    def add(self, records: Sequence[Record], *, handed_out: bool = False) -> None:
        """Append all, durably, or none. ``handed_out``: to an empty spool, a batch already on its way."""
        assert not (handed_out and len(self))
        first = self._end
        self._log.append(TOPIC, records)
        if handed_out:
            self._out = list(range(first, first + len(records)))
            self._position = first + len(records)
        self._look()

    def oldest(self, limit: int, size: int) -> list[Record]:
        """Hand out the records that wait longest, in order: so many, and so many bytes, at most, but at least one."""
        assert not self._out
        batch: list[Record] = []
        try:
            self._hand_out(batch, limit, size)
        except BaseException:
            self._again, self._out = sorted(self._again + self._out), []
            raise
        return batch

    def settle(self, left: Collection[int]) -> None:
        """The batch handed out was dealt with, but for the records of these indices, which wait on."""
        untaken = [self._out[index] for index in sorted(left)]
        self._out = []
        still = untaken[bisect_left(untaken, self._gone) :]
        if len(still) < len(untaken):  # they went while it was not known whether the receiver takes them
            self._lost("spool_full", len(untaken) - len(still))
        self._again = sorted(self._again + still)
        self._commit()

    def close(self) -> None:
        self._log.close()
        self._lease.release()

    def remove(self) -> None:
        """Close, and take the file away before anybody else can open it. The lock's file stays, as with any lease."""
        self._log.close()
        for suffix in ("-wal", "-shm", ""):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
        self._lease.release()

    def _hand_out(self, batch: list[Record], limit: int, size: int) -> None:
        oldest_wanted, expired = self._clock() - self._age, 0
        for offset, record in self._waiting(limit):
            if record.timestamp >= oldest_wanted:
                size -= size_of(record)
                if batch and size < 0:
                    break
                batch.append(record)
                self._out.append(offset)
            else:
                expired += 1
            if self._again and self._again[0] == offset:
                del self._again[0]
            self._position = max(self._position, offset + 1)
            if len(batch) == limit:
                break
        if expired:
            self._lost("expired", expired)
            self._commit()

    def _waiting(self, limit: int) -> Iterator[tuple[int, Record]]:
        """What was handed out before, then what never was; in blocks, for as long as it is asked for more."""
        again = set(self._again)
        for offset in tuple(self._again):
            if offset in again:
                block = self._log.read(PARTITION, offset, limit)
                yield from ((d.offset, d.record) for d in _consecutive(block, again))
        while block := self._log.read(PARTITION, self._position, limit):
            yield from ((delivery.offset, delivery.record) for delivery in block)

    def _commit(self) -> None:
        """Note what is done with. It can be done later: if never, the receiver gets something twice."""
        resume = min([self._position, *self._again[:1], *self._out[:1]])
        with suppress(Unavailable):
            if resume > self._committed:
                self._log.commit(GROUP, PARTITION, Checkpoint(resume))
                self._committed = resume
            self._look()

    def _look(self) -> None:
        """See what is there, and note what went for want of room."""
        stats = self._log.stats(TOPIC)[0]
        self._end, self._bytes = stats.end, stats.bytes
        went = bisect_left(self._again, stats.start)
        del self._again[:went]
        went += max(stats.start - self._position, 0)
        self._position = max(self._position, stats.start)
        self._gone = stats.start
        if went:
            self._lost("spool_full", went)


def _consecutive(block: Sequence[Delivery], wanted: set[int]) -> Iterator[Delivery]:
    """The first deliveries that are wanted, which are so no more."""
    for delivery in block:
        if delivery.offset not in wanted:
            return
        wanted.discard(delivery.offset)
        yield delivery
