"""Compressed bodies, inflated up to a limit: a few kilobytes can hold gigabytes.

Source: RFC 9110, section 8.4.1 (gzip, deflate); RFC 7932 (br); RFC 8878 and RFC 9659 (zstd, windows of 8 MiB at most).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from monitor.events import InvalidEvent

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

MAX_BYTES = 16 * 1024 * 1024
"""What a body may be after inflation, unless said otherwise."""

_ZSTD_WINDOW = 8 * 1024 * 1024
_PIECE = 1024 * 1024

MAX_MEMBERS = 1000
"""Of a gzip body, or frames of a zstd body; an empty one takes 20 bytes, or 9, and as long as any other to begin."""

MAX_CODINGS = 4
"""Of a body, one around the other."""

_FED = 16 * 1024


def inflate(body: bytes, encoding: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The body as it was before ``Content-Encoding``; several codings, separated by commas, are undone in turn.

    Raises
    ------
    InvalidEvent : ``unknown_encoding``, ``invalid_encoding``, ``truncated`` or, above ``max_bytes``, ``inflate_limit``.

    >>> import gzip
    >>> inflate(gzip.compress(b"{}"), "gzip")
    b'{}'
    """
    codings = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        raise InvalidEvent("unknown_encoding", f"{len(codings)} content encodings, where {MAX_CODINGS} are the most")
    for coding in reversed(codings):
        inflater = _INFLATERS.get(coding)
        if inflater is None:
            known = ", ".join(name for name in _INFLATERS if not name.startswith("x-"))
            raise InvalidEvent("unknown_encoding", f"content encoding {coding[:40]!r} is none of {known}, identity")
        body = inflater(body, max_bytes)
        if len(body) > max_bytes:
            raise InvalidEvent("inflate_limit", f"the {coding} body is larger than {max_bytes} bytes when inflated")
    return body


def _invalid(coding: str, error: Exception) -> InvalidEvent:
    return InvalidEvent("invalid_encoding", f"the body is no valid {coding}: {error}")


def _truncated(coding: str) -> InvalidEvent:
    return InvalidEvent("invalid_encoding", f"the {coding} body ends too early")


def _gzip(body: bytes, max_bytes: int) -> bytes:
    return _zlib(body, max_bytes, "gzip", 31)


def _deflate(body: bytes, max_bytes: int) -> bytes:
    if body[:1] and (body[0] & 0x0F != 8 or int.from_bytes(body[:2], "big") % 31):
        return _zlib(body, max_bytes, "deflate", -15)  # many senders mean raw deflate, without the header of RFC 9110
    return _zlib(body, max_bytes, "deflate", 15)


def _zlib(body: bytes, max_bytes: int, coding: str, window_bits: int) -> bytes:
    """In pieces: what a member leaves is handed back as a copy, and a body may be members and nothing else."""
    view, plain, at = memoryview(body), bytearray(), 0
    for _ in range(MAX_MEMBERS):
        unpacker = zlib.decompressobj(window_bits)
        while not unpacker.eof and len(plain) <= max_bytes:
            piece = view[at : at + _FED]
            if not piece:
                raise _truncated(coding)
            at += len(piece)
            try:
                plain += unpacker.decompress(piece, max_bytes + 1 - len(plain))
            except zlib.error as error:
                raise _invalid(coding, error) from None
        at -= len(unpacker.unused_data)
        if not any(view[at : at + _FED]) and not body[at:].strip(b"\0"):  # some pad the last block with zeros
            at = len(body)
        if at == len(body) or len(plain) > max_bytes:
            return bytes(plain)
        if coding != "gzip":  # which alone is a series of members (RFC 1952, section 2.2)
            raise InvalidEvent("invalid_encoding", f"{len(body) - at} bytes come after the end of the {coding} body")
    raise InvalidEvent("invalid_encoding", f"the gzip body has more than {MAX_MEMBERS} members")


def _brotli(body: bytes, max_bytes: int) -> bytes:
    import brotli

    unpacker, plain = brotli.Decompressor(), bytearray()
    try:
        piece = unpacker.process(body, output_buffer_limit=_PIECE)
        while piece and len(plain) <= max_bytes:
            plain += piece
            piece = unpacker.process(b"", output_buffer_limit=_PIECE)
    except brotli.error as error:
        raise _invalid("br", error) from None
    if len(plain) <= max_bytes and not unpacker.is_finished():
        raise _truncated("br")
    return bytes(plain)


def _zstd(body: bytes, max_bytes: int) -> bytes:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        plain = unpacker.stream_reader(body, read_across_frames=True).read(max_bytes + 1)
        size = zstandard.get_frame_parameters(body).content_size if body else zstandard.CONTENTSIZE_UNKNOWN
        if len(plain) in (size, max_bytes + 1):
            return bytes(plain)
        _count_frames(unpacker, body)
    except zstandard.ZstdError as error:
        raise _invalid("zstd", error) from None
    if not body:
        raise _truncated("zstd")
    return bytes(plain)


def _count_frames(unpacker: ZstdDecompressor, body: bytes) -> None:
    """A reader does not tell where a frame that ends too early does. The output is known to be small by now."""
    at = frames = 0
    while at < len(body):
        frames += 1
        if frames > MAX_MEMBERS:
            raise InvalidEvent("invalid_encoding", f"the zstd body has more than {MAX_MEMBERS} frames")
        frame = unpacker.decompressobj()
        while not frame.eof:
            piece = body[at : at + _FED]
            if not piece:
                raise _truncated("zstd")
            at += len(piece)
            frame.decompress(piece)
        at -= len(frame.unused_data)


_INFLATERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "zstd": _zstd, "br": _brotli,
}  # fmt: skip
