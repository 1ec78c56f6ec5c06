"""What other threads want done in the thread that polls: confluent-kafka answers no other one meanwhile."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from sinks.records import Unavailable

T = TypeVar("T")

SERVE_SECONDS = 0.01


class Errands:
    """Done one by one, whenever the polling thread waits.

    Parameters
    ----------
    closing : once it is set, none is taken any more.
    """

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._requests: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()

    def call(self, act: Callable[[], T]) -> Future[T]:
        """Have it done in the polling thread."""
        done: Future[T] = Future()
        if self._closing.is_set():
            done.set_exception(Unavailable("the group was left"))
        else:
            self._requests.put((act, done))
        return done

    def serve(self, seconds: float) -> None:
        """Do what other threads asked for; waits so long for the first."""
        with suppress(queue.Empty):
            act, done = self._requests.get(timeout=seconds) if seconds > 0 else self._requests.get_nowait()
            try:
                result = act()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(result)

    def wait(self, seconds: float, until: threading.Event) -> None:
        """Wait, at most so long, and do meanwhile what other threads ask for."""
        deadline = time.monotonic() + seconds
        while not until.is_set() and (left := deadline - time.monotonic()) > 0:
            self.serve(min(left, SERVE_SECONDS))

    def refuse(self) -> None:
        """The polling thread ends: nothing more is done."""
        while not self._requests.empty():
            self._requests.get()[1].set_exception(Unavailable("the group was left"))
