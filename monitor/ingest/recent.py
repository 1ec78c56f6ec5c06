"""The same event once: of those stored lately, and of those that are being stored now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 16
"""Of a key: an identifier may be as long as a body, and what is remembered must not."""


class Recent:
    """Stores what is not among the last ``size`` keys that were stored.

    Examples
    --------
    >>> async def store(): print("stored")
    >>> recent = Recent(10)
    >>> [asyncio.run(recent.once(("source", "id", "type"), store)) for _ in range(2)]
    stored
    [True, False]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stored: dict[bytes, None] = {}
        self._under_way: dict[bytes, asyncio.Future[None]] = {}

    async def once(self, key: Sequence[str], store: Callable[[], Awaitable[None]]) -> bool:
        """Store it; False if it was stored already. Whatever ``store`` raises is raised, and nothing remembered.

        Who brings the same key meanwhile waits for the outcome, and stores it after a failure.
        """
        digest = _digest(key)
        while (other := self._under_way.get(digest)) is not None:
            await asyncio.wait([other])
        if digest in self._stored:
            return False
        done = self._under_way[digest] = asyncio.get_running_loop().create_future()
        try:
            await store()
            self._remember(digest)
        finally:
            del self._under_way[digest]
            done.set_result(None)
        return True

    def _remember(self, digest: bytes) -> None:
        self._stored[digest] = None
        if len(self._stored) > self._size:
            del self._stored[next(iter(self._stored))]


def _digest(key: Sequence[str]) -> bytes:
    """Of all parts and of where each ends."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in key:
        text = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(text))
        digest.update(text)
    return digest.digest()
