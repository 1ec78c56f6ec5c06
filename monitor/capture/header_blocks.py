"""Header blocks of HTTP/2 (HPACK, RFC 7541): what events need of them, decoded once where they repeat.

The table and Huffman's code are the library's. Its decoder is not used: it makes an object of every field, decodes all
of them, and copies what is left of the block for each, which costs four times as much, and in a long block of short
fields the square of its length.
"""

from __future__ import annotations

from typing import NamedTuple

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from monitor.capture.exchange import WANTED, UnparsableError
from monitor.capture.grpc_methods import is_grpc
from monitor.events import is_count

OWN = frozenset(
    {b":method", b":path", b":status", b"content-length", b"grpc-encoding", b"grpc-status", b"grpc-message"}
)
"""Fields that following a connection needs, whatever the recorder wants."""

LONGEST_TEXT = 1024
"""Bytes of a value that are kept."""

LARGEST_LIST = 64 * 1024
"""Bytes that a block may decode to: a few bytes can refer to a large table entry again and again."""

LARGEST_TABLE = 64 * 1024
"""Bytes of the dynamic table that an encoder may ask for. The other side's SETTINGS may allow it less; how much less
is not for a listener to check, and the encoder says in the block whenever it changes the size."""

REMEMBERED = 32
LONGEST_REMEMBERED = 1024
"""Blocks that are remembered, and the bytes of one: at most 32 KiB a direction."""

_FIELD_OVERHEAD = 32  # RFC 7541, section 4.1


class Head(NamedTuple):
    """What a block says. ``headers`` are the wanted ordinary fields, of a repeated one the last; they are shared.

    ``status`` is 0 where there is none, as in requests and trailers. ``path`` is without query.
    """

    method: str
    path: str
    status: int
    headers: dict[str, str]
    is_grpc: bool


class HeaderBlocks:
    """One direction's header blocks, in the order in which they come.

    ``wanted``: the ordinary fields that are kept, in lower case.

    >>> blocks = HeaderBlocks()
    >>> blocks.decode(bytes([0x83, 0x84]))
    Head(method='POST', path='/', status=0, headers={}, is_grpc=False)
    """

    __slots__ = ("_changed", "_known", "_names", "_table")

    def __init__(self, wanted: frozenset[bytes] = WANTED) -> None:
        self._names = {name: name.decode("latin-1") for name in wanted | OWN}
        self._table = HeaderTable()
        self._known: dict[bytes, Head] = {}
        self._changed = False

    def decode(self, block: bytes) -> Head:
        """What the next block says.

        Raises
        ------
        UnparsableError : it is no HPACK, or too large. The table is of no use afterwards.
        """
        found = self._known.get(block)
        if found is not None:
            return found
        self._changed = False
        try:
            found = _head(self._fields(block))
        except (HPACKError, IndexError) as error:
            raise UnparsableError("malformed", lasting=True) from error
        if self._changed:  # the same bytes may mean something else from now on
            self._known.clear()
        elif len(block) <= LONGEST_REMEMBERED:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[block] = found
        return found

    def _fields(self, block: bytes) -> dict[str, str]:
        """One representation after the other (section 6)."""
        names, entry = self._names, self._table.get_by_index
        found: dict[str, str] = {}
        at, end, size = 0, len(block), 0
        while at < end:
            byte = block[at]
            if byte > 0x80 and byte != 0xFF:  # nearly all fields of a repeated call
                name, value = entry(byte & 0x7F)
                at += 1
            elif byte & 0x80:
                index, at = _integer(block, at, 0x7F)
                name, value = entry(index)
            elif byte & 0x60 == 0x20:
                if size:
                    raise HPACKError("a table size behind a field")
                at = self._resize(block, at)
                continue
            else:
                name, value, at = self._literal(block, at)
            size += len(name) + len(value) + _FIELD_OVERHEAD
            if size > LARGEST_LIST:
                raise HPACKError("too large")
            if name in names:
                found[names[name]] = value[:LONGEST_TEXT].decode("latin-1")
        return found

    def _literal(self, block: bytes, at: int) -> tuple[bytes, bytes, int]:
        """A literal field. Of one that is neither wanted nor indexed, the value is left as it is written."""
        indexed = bool(block[at] & 0x40)
        index, at = _integer(block, at, 0x3F if indexed else 0x0F)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, coded, at = _string(block, at)
            if coded:
                name = decode_huffman(name)
        value, coded, at = _string(block, at)
        if coded and (indexed or name in self._names):
            value = decode_huffman(value)
        if indexed:
            self._table.add(name, value)
            self._changed = True
        return name, value, at

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _integer(block, at, 0x1F)
        if size > LARGEST_TABLE:
            raise HPACKError("too large a table")
        self._table.maxsize = size
        self._changed = True
        return at


def _head(fields: dict[str, str]) -> Head:
    take = fields.pop
    method, path, status = take(":method", ""), take(":path", ""), take(":status", "")
    number = int(status) if is_count(status) and len(status) == 3 else 0
    return Head(method, path.partition("?")[0], number, fields, is_grpc(fields.get("content-type", "")))


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """An integer whose first byte holds ``prefix`` at most (section 5.1), and where it ends."""
    number = block[at] & prefix
    at += 1
    if number < prefix:
        return number, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise HPACKError("too large a number")


def _string(block: bytes, at: int) -> tuple[bytes, bool, int]:
    """A string literal (section 5.2), whether Huffman's code is in it, and where it ends."""
    coded = block[at] >= 0x80
    length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise HPACKError("the block ends inside a string")
    return block[at:end], coded, end
