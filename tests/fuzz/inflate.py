"""Inflation of any bytes: a body within the limit, or a refusal with a reason.

An input is a byte that chooses the coding, and the body.
"""

from __future__ import annotations

from monitor.codecs.inflate import inflate
from monitor.events import InvalidEvent

MAX_INPUT = 4096
LIMIT = 100_000
CODINGS = ("gzip", "deflate", "br", "zstd", "zstd, gzip", "identity", "rot13")
REASONS = ("", "unknown_encoding", "invalid_encoding", "truncated", "inflate_limit")


def run(data: bytes) -> None:
    """One input. Raises whatever is wrong."""
    if not data:
        return
    reason, size = "", 0
    try:
        size = len(inflate(data[1:MAX_INPUT], CODINGS[data[0] % len(CODINGS)], LIMIT))
    except InvalidEvent as refused:
        reason = refused.reason
    assert size <= LIMIT
    assert reason in REASONS
