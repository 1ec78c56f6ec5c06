"""Memory for requests under way: bounded over all of them, whoever sends however many."""

from __future__ import annotations

REQUEST_BYTES = 16 * 1024
"""What a request is taken to hold beside its body."""


class Full(Exception):
    """No room for more now."""


class Room:
    """Bytes for requests under way.

    Examples
    --------
    >>> room = Room(100_000)
    >>> with room.request() as place:
    ...     place.grow(50_000)
    ...     room.held
    66384
    >>> room.held
    0
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def request(self) -> Place:
        """A place for one request. Raises :class:`Full`."""
        return Place(self)


class Place:
    """What one request holds; leaving the ``with`` block gives it back."""

    def __init__(self, room: Room) -> None:
        self._room, self._bytes = room, 0
        self.grow(REQUEST_BYTES)

    def grow(self, count: int) -> None:
        """So many bytes more. Raises :class:`Full`."""
        if self._room.held + count > self._room.limit:
            raise Full
        self._room.held += count
        self._bytes += count

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.held -= self._bytes
        self._bytes = 0
