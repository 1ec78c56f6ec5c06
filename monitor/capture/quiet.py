"""Log messages that would come too often."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

SECONDS = 30.0


class Quiet:
    """Says the first message of a kind at once, then at most one in so many seconds, with how many there were.

    >>> quiet = Quiet(logging.getLogger("example"))
    >>> quiet.say(logging.INFO, "greeting", "hello")
    """

    def __init__(
        self, logger: logging.Logger, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._seconds, self._clock = logger, seconds, clock
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, level: int, kind: str, message: str) -> None:
        now = self._clock()
        if now - self._said.get(kind, -self._seconds) < self._seconds:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._said[kind] = now
        more = self._unsaid.pop(kind, 0)
        self._logger.log(level, "%s%s", message, f" ({more} more of this kind since the last one)" if more else "")

    def again(self, kind: str) -> bool:
        """The matter is settled: the next message of the kind comes at once. Whether there had been one."""
        self._unsaid.pop(kind, None)
        return self._said.pop(kind, None) is not None
