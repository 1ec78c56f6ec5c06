"""One batch to a publisher, and what became of each record, however much the publisher tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from monitor.transport.base import Publisher, Rejected, Unavailable
from sinks.records import Record


class Outcome(NamedTuple):
    """``left`` was not taken now, ``refused`` never will be; the receiver has taken the others."""

    left: Sequence[Record] = ()
    problem: str = ""
    retry_after: float = 0.0
    refused: Sequence[Record] = ()
    refusal: str = ""


async def deliver(publisher: Publisher, batch: Sequence[Record]) -> Outcome:
    """Publish the batch; where something of it is refused and nobody says what, one record after the other."""
    try:
        await publisher.publish(batch)
    except Unavailable as error:
        left = batch if error.left is None else error.left
        return Outcome(left, str(error), error.retry_after, error.refused, str(error))
    except Rejected as error:
        if error.refused is not None or len(batch) == 1:
            return Outcome(refused=batch if error.refused is None else error.refused, refusal=str(error))
        return await _one_by_one(publisher, batch)
    return Outcome()


async def _one_by_one(publisher: Publisher, batch: Sequence[Record]) -> Outcome:
    """Find the refused ones. The others may arrive twice, with the same ids."""
    refused: list[Record] = []
    refusal = ""
    for index, record in enumerate(batch):
        outcome = await deliver(publisher, [record])
        refused += outcome.refused
        refusal = outcome.refusal or refusal
        if outcome.left:
            return outcome._replace(left=batch[index:], refused=refused, refusal=refusal)
    return Outcome(refused=refused, refusal=refusal)
