"""Publishes records to a topic."""

from __future__ import annotations

from collections.abc import Sequence

from monitor.transport.kafka.records import size
from monitor.transport.kafka.sender import Sender
from sinks.records import Record, Rejected, Unavailable

_LARGE = Rejected("too large to be sent")


class KafkaPublisher:
    """A batch is on all replicas in step when :meth:`publish` returns; the records of a key stay in order.

    Parameters
    ----------
    sender : sends; it belongs to whoever opened it.
    topic : where to.
    max_record : bytes of a record's key, headers and value; larger ones are never sent.
    """

    def __init__(self, sender: Sender, topic: str, max_record: int) -> None:
        self._sender, self._topic, self._max_record = sender, topic, max_record

    async def publish(self, records: Sequence[Record]) -> None:
        """Raises :class:`Unavailable`, within the client's timeout, or :class:`Rejected`: the others were taken."""
        fitting = [record for record in records if size(record) <= self._max_record]
        outcomes = await self._sender.send(self._topic, fitting) if fitting else []
        told = {id(record): outcome for record, outcome in zip(fitting, outcomes, strict=True)}
        left = [record for record in fitting if isinstance(told[id(record)], Unavailable)]
        refused = [record for record in records if isinstance(told.get(id(record), _LARGE), Rejected)]
        if left:
            away = told[id(left[0])]
            raise Unavailable(f"topic {self._topic}: {away}", left=left, refused=refused)
        if refused:
            why = told.get(id(refused[0])) or self._too_large(refused[0])
            raise Rejected(f"{len(refused)} of {len(records)} records: {why}", refused=refused)

    def _too_large(self, record: Record) -> str:
        at_most = f"at most {self._max_record} (transport.max_record)"
        return f"larger than topic {self._topic} takes: {size(record)} bytes, {at_most}"

    async def close(self) -> None:
        """Nothing to do: the sender belongs to whoever opened it."""
