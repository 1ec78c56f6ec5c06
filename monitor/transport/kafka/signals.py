"""What the polling thread hands to the event loop: bounded in bytes, and without what was taken away meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Collection

from monitor.events import Partition
from monitor.transport.base import Block, Quiet, Signal

RECORD_BYTES = 1000
"""What a delivery costs in memory beside its value."""


class Signals:
    """A queue from one thread to one event loop.

    Parameters
    ----------
    limit : bytes of blocks; :attr:`full` is true beyond it, until half of it is gone.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._queue: deque[Signal] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()
        self._full = False
        self._error: BaseException | None = None
        self._ended = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that reads from now on."""
        self._loop = loop

    def put(self, signal: Signal, *, first: bool = False) -> None:
        """From the thread."""
        with self._lock:
            if first:
                self._queue.appendleft(signal)
            else:
                self._queue.append(signal)
            self._bytes += _cost(signal)
            self._full = self._full or self._bytes > self._limit
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """From the thread: nothing more will come; ``error`` is raised once all before it was read."""
        with self._lock:
            self._ended, self._error = True, self._error or error
        self._wake()

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget the blocks of the partitions."""
        with self._lock:
            kept = [s for s in self._queue if not (isinstance(s, Block) and s.partition in partitions)]
            self._queue = deque(kept)
            self._bytes = sum(map(_cost, kept))
            self._full = self._full and self._bytes > self._limit // 2

    def clear(self) -> None:
        with self._lock:
            self._queue.clear()
            self._bytes, self._full = 0, False

    @property
    def empty(self) -> bool:
        return not self._queue

    @property
    def full(self) -> bool:
        return self._full

    async def get(self, *, blocks: bool = True, seconds: float | None = None) -> Signal | None:
        """The next signal; ``None`` at the end, and when none came in time. Without ``blocks``, the next that is none,
        nor follows from one.

        Raises what :meth:`end` was given.
        """
        while True:
            self._came.clear()
            with self._lock:
                signal = self._next(blocks=blocks)
                ended = self._ended and not self._queue
            if signal is not None:
                return signal
            if ended:
                if self._error is not None:
                    raise self._error
                return None
            try:
                await asyncio.wait_for(self._came.wait(), seconds)
            except asyncio.TimeoutError:
                return None

    @property
    def ended(self) -> bool:
        return self._ended and not self._queue

    def _next(self, *, blocks: bool) -> Signal | None:
        for i, signal in enumerate(self._queue):
            if blocks or not isinstance(signal, (Block, Quiet)):
                del self._queue[i]
                self._bytes -= _cost(signal)
                self._full = self._full and self._bytes > self._limit // 2
                return signal
        return None

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)


def _cost(signal: Signal) -> int:
    if not isinstance(signal, Block):
        return 0
    return sum(RECORD_BYTES + len(delivery.record.value or b"") for delivery in signal.deliveries)
