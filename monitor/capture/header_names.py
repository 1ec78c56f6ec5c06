"""Which headers of HTTP/1 are kept, and as what."""

from __future__ import annotations

from functools import lru_cache

LENGTH, CODING = "content-length", "transfer-encoding"
"""Kept whatever is wanted: they say how a body ends."""

IGNORED = ""


class HeaderNames(dict[bytes, str]):
    """Header names as they were sent, to what they are kept as; empty if they are not.

    >>> names = HeaderNames(frozenset({b"x-id"}))
    >>> names[b"X-Id"], names[b"Host"], names[b"Content-Length"]
    ('x-id', '', 'content-length')
    """

    def __init__(self, wanted: frozenset[bytes]) -> None:
        super().__init__()
        self._kept = {name: name.decode() for name in wanted}
        self._kept |= {LENGTH.encode(): LENGTH, CODING.encode(): CODING}

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, wanted: frozenset[bytes]) -> HeaderNames:
        """Those of a recorder: all its connections share them."""
        return cls(wanted)

    def __missing__(self, name: bytes) -> str:
        kept = self._kept.get(name.lower(), IGNORED)
        if len(self) < 1024 and len(name) < 64:  # names are the clients' to choose
            self[name] = kept
        return kept
