"""Spools of relay processes that are no more, as after ``workers`` was lowered: what waits in them is published too.

Through the outbox, a batch at a time and only while that keeps up, so that nothing of what comes in now has to wait for
it. A record leaves its file when the outbox has it behind it; a file that is empty is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from monitor.capture.outbox import BATCH, BATCH_BYTES, Outbox
from monitor.capture.plan import MOST_WORKERS, spool_of
from monitor.capture.shelf import Shelf

PAUSE, MOMENT = 1.0, 0.02
"""Seconds between two looks, at the files and at a batch."""

_logger = logging.getLogger("offpath.capture.shipper")


def orphans(spool: str, workers: int) -> list[Path]:
    """The spools that none of so many relay processes uses."""
    paths = (Path(spool_of(spool, number)) for number in range(workers, MOST_WORKERS))
    return [path for path in paths if path.exists()]


class Adoption:
    """Empties spools through an outbox.

    Parameters
    ----------
    paths : of their files.
    opener : a shelf for a file.
    outbox : where their records go.
    """

    def __init__(self, paths: list[Path], opener: Callable[[Path], Shelf], outbox: Outbox) -> None:
        self._shelves = {path: opener(path) for path in paths}
        self._outbox = outbox
        self._under_way: Shelf | None = None
        self._until = 0

    async def run(self) -> None:
        """Return when all are empty."""
        while self._shelves:
            for path in tuple(self._shelves):
                if await self._empty(self._shelves[path]):
                    self._remove(path)
            await asyncio.sleep(PAUSE)

    def close(self) -> None:
        """After the outbox: note what it has dealt with of the last batch; the rest waits for the next start."""
        self._settle()
        for shelf in self._shelves.values():
            shelf.close()

    async def _empty(self, shelf: Shelf) -> bool:
        """Go on until the outbox does not keep up. Whether nothing is left."""
        while self._outbox.keeps_up:
            batch = shelf.oldest(BATCH, BATCH_BYTES)
            if not batch:
                return shelf.is_empty
            self._under_way = shelf
            for record in batch:
                self._outbox.put(record)
            self._until = self._outbox.accepted
            while not self._settle():
                await asyncio.sleep(MOMENT)
        return False

    def _settle(self) -> bool:
        """Whether the batch under way, if there is one, is published, in the outbox's own spool, or counted as lost."""
        if self._under_way is not None:
            if self._outbox.done < self._until:
                return False
            self._under_way.settle(())
            self._under_way = None
        return True

    def _remove(self, path: Path) -> None:
        """Its lock stays, as locks do; it is let go last, so that nobody begins to use what is about to go."""
        self._shelves.pop(path).remove()
        _logger.info(
            "what waited in %s, the spool of an earlier relay process, is on its way; the file is removed", path
        )
