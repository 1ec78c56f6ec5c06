"""Where a checkpoint's state is kept: in the commit itself, or, too large for it, in a compacted topic beside it.

Kafka keeps up to 4,096 bytes of text with a committed offset. A state that does not fit, compressed, is written to the
topic first, and the commit names the records' offsets: so offset and state change together, with the commit, and a
worker killed in between resumes from the commit before. Keys change with every assignment and alternate between two
slots: whatever a member writes that was thrown out of its group, it overwrites nothing that a commit names.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
import zlib
from collections.abc import Callable, Sequence
from itertools import count

from monitor.transport.kafka.port import Outcome, Sent
from sinks.records import Record, Unavailable

INLINE_BYTES = 4000
"""Kafka's ``offset.metadata.max.bytes`` is 4,096, the end that clients put behind a text included."""

PLAIN, PACKED, STORED = "j", "z", "s"
"""First letter of the commit's text: JSON as it is, compressed, or the place of the records that hold it."""

Write = Callable[[Sequence[Record]], Sequence[Outcome]]
Read = Callable[[int], bytes | None]

_logger = logging.getLogger("offpath.transport")


def pack(state: str) -> str | None:
    """The state as a commit's text, ``None`` if it does not fit.

    >>> pack('{"next":5}'), unpack(pack('{"a":1}' * 1000)) == '{"a":1}' * 1000, pack("")
    ('j{"next":5}', True, '')
    """
    if not state:
        return ""
    if len(state) < 1000 and state.isascii():
        return PLAIN + state
    text = PACKED + base64.b85encode(zlib.compress(state.encode(), 6)).decode()
    return text if len(text) <= INLINE_BYTES else None


def unpack(text: str) -> str:
    """The inverse of :func:`pack`; of a text that is none of ours, nothing."""
    if text.startswith(PLAIN):
        return text[1:]
    if text.startswith(PACKED):
        return zlib.decompress(base64.b85decode(text[1:])).decode()
    return ""


class States:
    """Checkpoint states of one group on one topic.

    Parameters
    ----------
    owner : group and topic, the first part of the records' keys.
    write, read : of the state topic's only partition: records in, and one record's value by offset.
    chunk : bytes a record at most.
    """

    def __init__(self, owner: str, write: Write, read: Read, chunk: int) -> None:
        self._owner, self._write, self._read, self._chunk = owner, write, read, chunk
        self._epochs: dict[int, str] = {}
        self._slots: dict[int, count[int]] = {}
        self._stale: dict[int, str] = {}

    def load(self, partition: int, text: str) -> str:
        """The state that a commit's text stands for; also marks a new assignment of the partition."""
        self._epochs[partition], self._slots[partition] = uuid.uuid4().hex[:8], count()
        self._stale.pop(partition, None)
        try:
            return self._stored(partition, text) if text.startswith(STORED) else unpack(text)
        except (ValueError, LookupError, TypeError, zlib.error) as error:
            self._stale.pop(partition, None)
            _logger.error("partition %d: what is noted with the group's commit cannot be read (%s)", partition, error)
            return self._without(partition)

    def _stored(self, partition: int, text: str) -> str:
        values = [self._read(offset) for offset in json.loads(text[1:])["at"]]
        self._stale[partition] = text
        if None in values:
            _logger.error("partition %d: the state of its checkpoint is gone from the state topic", partition)
            return self._without(partition)
        return zlib.decompress(b"".join(value for value in values if value is not None)).decode()

    @staticmethod
    def _without(partition: int) -> str:
        _logger.error("partition %d: windows begin anew at the committed offset", partition)
        return ""

    def save(self, partition: int, state: str) -> str:
        """The text to commit; what it names is durable.

        Raises
        ------
        Unavailable : the state topic cannot take it now.
        """
        text = pack(state)
        if text is not None:
            return text
        data = zlib.compress(state.encode(), 6)
        chunks = [data[start : start + self._chunk] for start in range(0, len(data), self._chunk)]
        name = f"{self._epochs[partition]}/{next(self._slots[partition]) % 2}"
        offsets = []
        for outcome in self._write(
            [Record(k, {}, v, 0.0) for k, v in zip(self._keys(partition, name, len(chunks)), chunks, strict=True)]
        ):
            if not isinstance(outcome, Sent):
                raise Unavailable(f"the state of a checkpoint cannot be stored: {outcome}")
            offsets.append(outcome.offset)
        return STORED + json.dumps({"name": name, "at": offsets}, separators=(",", ":"))

    def committed(self, partitions: Sequence[int]) -> None:
        """The texts are committed: what the assignments before have left may go."""
        for partition in partitions:
            if text := self._stale.pop(partition, ""):
                told = json.loads(text[1:])
                keys = self._keys(partition, told["name"], len(told["at"]))
                self._write([Record(key, {}, None, 0.0) for key in keys])

    def _keys(self, partition: int, name: str, chunks: int) -> list[str]:
        return [f"{self._owner}/{partition}/{name}/{i}" for i in range(chunks)]
