"""Header blocks of HTTP/2 (HPACK, RFC 7541): what events need of them, decoded once where they repeat."""

from __future__ import annotations

from collections.abc import Mapping

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from monitor.capture.exchange import WANTED, UnparsableError

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

Fields = Mapping[str, str]


class _Table(HeaderTable):
    """Counts what is added: until something is, the same bytes mean the same fields."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class HeaderBlocks:
    """One direction's header blocks, in the order in which they come.

    ``wanted``: the ordinary fields that are kept, in lower case.

    >>> blocks = HeaderBlocks()
    >>> blocks.decode(bytes([0x83, 0x84]))
    {':method': 'POST', ':path': '/'}
    """

    __slots__ = ("_decoder", "_known", "_size", "_table", "_wanted")

    def __init__(self, wanted: frozenset[bytes] = WANTED) -> None:
        self._wanted = wanted | OWN
        self._decoder = Decoder(LARGEST_LIST)
        self._decoder.header_table = self._table = _Table()
        self._decoder.max_allowed_table_size = LARGEST_TABLE
        self._known: dict[bytes, Fields] = {}
        self._size = self._table.maxsize

    def decode(self, block: bytes) -> Fields:
        """The wanted fields; of a repeated one the last. Not to be changed: they are remembered.

        Raises
        ------
        UnparsableError : it is no HPACK, or too large. The table is of no use afterwards.
        """
        found = self._known.get(block)
        if found is not None:
            return found
        before = self._table.added
        try:
            fields = self._decoder.decode(block, raw=True)
        except (HPACKError, UnicodeError) as error:
            raise UnparsableError("malformed", lasting=True) from error
        found = {
            name.decode("latin-1"): value[:LONGEST_TEXT].decode("latin-1")
            for name, value in fields
            if name in self._wanted
        }
        if self._table.added != before or self._table.maxsize != self._size:
            self._known.clear()
            self._size = self._table.maxsize
        elif len(block) <= LONGEST_REMEMBERED:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[block] = found
        return found
