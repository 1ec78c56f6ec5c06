"""Compressed bodies, inflated up to a limit: a few kilobytes can hold gigabytes."""

from __future__ import annotations

import zlib

from monitor.events import InvalidEvent

MAX_BYTES = 16 * 1024 * 1024
"""What a body may be after inflation, unless said otherwise."""

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def inflate(body: bytes, encoding: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The body as it was before ``Content-Encoding``; several codings, separated by commas, are undone in turn.

    Raises
    ------
    InvalidEvent : ``unknown_encoding``, ``invalid_encoding``, ``truncated`` or, above ``max_bytes``, ``inflate_limit``.

    >>> import gzip
    >>> inflate(gzip.compress(b"{}"), "gzip")
    b'{}'
    """
    for coding in reversed([part.strip().lower() for part in encoding.split(",")]):
        if coding not in ("", "identity"):
            body = _inflate(body, coding, max_bytes)
    return body


def _inflate(body: bytes, coding: str, max_bytes: int) -> bytes:
    bits = _WINDOW_BITS.get(coding)
    if bits is None:
        raise InvalidEvent("unknown_encoding", f"content encoding {coding!r} is none of gzip, deflate, identity")
    if coding == "deflate" and body[:1] and (body[0] & 0x0F != 8 or int.from_bytes(body[:2], "big") % 31):
        bits = -15  # many senders mean raw deflate, without the zlib header of RFC 9110
    unpacker = zlib.decompressobj(bits)
    try:
        plain = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidEvent("invalid_encoding", f"the body is no valid {coding}: {error}") from None
    if len(plain) > max_bytes:
        raise InvalidEvent("inflate_limit", f"the {coding} body is larger than {max_bytes} bytes when inflated")
    if not unpacker.eof:
        raise InvalidEvent("truncated", f"the {coding} body ends too early")
    return plain
