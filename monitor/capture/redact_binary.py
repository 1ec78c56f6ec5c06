"""Redaction of V2's binary tensors: the bytes behind the JSON.

Source: Triton's binary tensor data extension of the Open Inference Protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from struct import Struct, pack, unpack

from monitor.capture.masking import BITS, Masker

_CODES = {
    "BOOL": "<?", "UINT8": "<B", "UINT16": "<H", "UINT32": "<I", "UINT64": "<Q", "INT8": "<b", "INT16": "<h",
    "INT32": "<i", "INT64": "<q", "FP16": "<e", "FP32": "<f", "FP64": "<d", "BF16": "<H",
}  # fmt: skip


Column = tuple[int, int, int]
"""The first element of a column, how many elements there are in all, and every how many one is the column's."""


class UnreadableError(ValueError):
    """The rules cannot be applied to this body, so it must not leave."""


def redacted(raw: bytes, datatype: str, action: str, column: Column | None, masker: Masker) -> bytes:
    """A tensor's bytes with the elements of a column, or all of them, replaced.

    What is masked or dropped becomes NaN, 0 where the datatype has none, ``***`` or the empty text in BYTES.

    Raises
    ------
    UnreadableError : they are no tensor of this datatype and size.
    """
    if datatype == "BYTES":
        return _texts(raw, action, column, masker)
    code = _CODES.get(datatype)
    if code is None:
        raise UnreadableError("a binary tensor of an unknown datatype")
    struct = Struct(code)
    size, changed = struct.size, bytearray(raw)
    replace = _replacing(struct, datatype, action, masker)
    for place in _places(len(raw) / size, column):
        changed[place * size : (place + 1) * size] = replace(raw[place * size : (place + 1) * size])
    return bytes(changed)


def _places(count: float, column: Column | None) -> range:
    """The elements of a column, of so many as there are."""
    first, wanted, width = column or (0, int(count), 1)
    if count != wanted or width < 1:
        raise UnreadableError("a binary tensor of another size than its shape")
    return range(first, wanted, width)


def _replacing(struct: Struct, datatype: str, action: str, masker: Masker) -> Callable[[bytes], bytes]:
    if action != "hash" or datatype == "BOOL":
        blank = _blank(struct, datatype)
        return lambda _: blank
    bits = BITS[datatype]
    if datatype == "BF16":
        return lambda raw: pack("<f", float(masker.number(unpack("<f", b"\0\0" + raw)[0], bits)))[2:]
    return lambda raw: struct.pack(masker.number(struct.unpack(raw)[0], bits))


def _blank(struct: Struct, datatype: str) -> bytes:
    if datatype == "BF16":
        return b"\xc0\x7f"
    return struct.pack(math.nan if datatype.startswith("FP") else 0)


def _texts(raw: bytes, action: str, column: Column | None, masker: Masker) -> bytes:
    texts: list[bytes] = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        if at + 4 + size > len(raw):
            raise UnreadableError("a BYTES tensor that ends too early")
        texts.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    for place in _places(len(texts), column):
        text = texts[place].decode("utf-8", "surrogateescape")
        texts[place] = b"" if action == "drop" else masker.text(action, text).encode()
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
