"""What became of the demo's own requests, told from the embedded log by their ids: others may send through it too."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import orjson

from monitor.settings import TransportSettings, WorkerSettings
from monitor.transport.log import EmbeddedLog

AUDIT = "demo-audit"
"""A consumer group that commits nothing, so that the log keeps what the demo counts."""


class Own(NamedTuple):
    """Requests and responses of the demo: those that the worker is done with, and dead letters among them."""

    judged: int = 0
    dead_letters: int = 0


class OwnTraffic:
    """Counts events whose request id begins with ``prefix`` in the log at ``path``; each (id, type) once."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix = path, prefix
        transport = TransportSettings()
        self._topic, self._letters, self._group = transport.topic, transport.dead_letters, WorkerSettings().group
        with closing(EmbeddedLog(path, create=False)) as log:
            for partition in log.create_topic(self._topic):
                log.join(AUDIT, partition)

    def count(self) -> Own:
        """The numbers now."""
        with closing(EmbeddedLog(self._path, create=False)) as log:
            places = {stats.partition: _next(log, self._group, stats.partition) for stats in log.stats(self._topic)}
            return Own(len(self._ids(log, self._topic, places)), len(self._ids(log, self._letters, {})))

    def end(self) -> None:
        """Let the log forget again."""
        with closing(EmbeddedLog(self._path, create=False)) as log:
            log.leave(AUDIT, self._topic)

    def _ids(self, log: EmbeddedLog, topic: str, places: dict[str, int]) -> set[tuple[str, str]]:
        found = set()
        for block in log.scan(topic):
            end = places.get(block.partition, block.end_offset)
            for delivery in block.deliveries:
                headers = delivery.record.headers
                request_id = headers.get("ce_requestid", "")
                if delivery.offset < end and request_id.startswith(self._prefix):
                    found.add((request_id, headers.get("ce_type", "")))
        return found


def _next(log: EmbeddedLog, group: str, partition: str) -> int:
    """The first offset that the group has not judged and flushed."""
    checkpoint = log.committed(group, partition)
    return int(orjson.loads(checkpoint.state)["next"]) if checkpoint and checkpoint.state else 0
