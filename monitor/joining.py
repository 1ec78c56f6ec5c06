"""Pure functions of the last events of a partition: which are duplicates, which request belongs to which response.

Both look back a fixed number of offsets, so that reading that many again after a restart rebuilds them exactly.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Seen:
    """Keys of the last ``lookback`` offsets.

    >>> seen = Seen(100)
    >>> seen.add("a", 0), seen.add("a", 5), seen.add("a", 500)
    (False, True, False)
    """

    def __init__(self, lookback: int) -> None:
        self.lookback = lookback
        self._offsets: dict[Hashable, int] = {}
        self._order: deque[tuple[Hashable, int]] = deque()

    def add(self, key: Hashable, offset: int) -> bool:
        """Note the key; true if it was there in the last ``lookback`` offsets."""
        offsets, order = self._offsets, self._order
        horizon = offset - self.lookback
        again = offsets.get(key, horizon - 1) >= horizon
        offsets[key] = offset
        order.append((key, offset))
        while order[0][1] < horizon:
            old, noted = order.popleft()
            if offsets.get(old) == noted:  # not noted again since
                del offsets[old]
        return again


class Pair(NamedTuple):
    """A request and its response. Not generic: Python 3.10 has no generic named tuples."""

    request: Any
    response: Any


class Joiner(Generic[T]):
    """Pairs requests and responses by request id, within ``lookback`` offsets, in any order.

    >>> joiner = Joiner[str](100)
    >>> joiner.add("r1", "request", 0, "q"), joiner.add("r1", "response", 1, "a")
    (None, Pair(request='q', response='a'))
    """

    def __init__(self, lookback: int) -> None:
        self.lookback = lookback
        self.unpaired = 0
        self._waiting: OrderedDict[str, tuple[int, str, T]] = OrderedDict()  # its first is found at once

    def add(self, request_id: str, side: str, offset: int, value: T) -> Pair | None:
        """Take one side; answer the pair if the other was waiting."""
        self._drop(offset - self.lookback)
        other = self._waiting.get(request_id)
        if other is None or other[1] == side:
            self._waiting.pop(request_id, None)  # a newer one of the same side takes its place, at the end
            self._waiting[request_id] = (offset, side, value)
            return None
        del self._waiting[request_id]
        return Pair(value, other[2]) if side == "request" else Pair(other[2], value)

    def _drop(self, horizon: int) -> None:
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0] >= horizon:
                return
            del self._waiting[oldest]
            self.unpaired += 1
