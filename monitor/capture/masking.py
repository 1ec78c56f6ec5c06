"""What redaction puts in the place of a value.

``mask``: text becomes ``***``, a number or a truth value ``null``, which detectors take for missing. ``hash``: text
becomes 32 hexadecimal digits of HMAC-SHA256, a number a whole number made of the same, so that equal values stay equal
and nobody without the key can try out candidates. Lists and objects keep their shape; ``null`` stays ``null``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MASK = "***"
DIGITS = 32
SHORTEST_KEY = 16
"""Bytes of a key."""

SHORT = 64
"""Characters of a text whose hash is remembered."""

BITS = {
    "FP16": 11, "BF16": 8, "FP32": 24, "FP64": 53, "INT8": 7, "INT16": 15, "INT32": 31, "INT64": 53,
    "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 53,
}  # fmt: skip
"""Of a hashed number, so that its tensor's datatype holds it exactly; 53 where there is none."""


class Masker:
    """Replaces values.

    Parameters
    ----------
    key : of the hash; may be empty if nothing is to be hashed.

    >>> masker = Masker(b"0123456789abcdef")
    >>> masker.replaced("mask", {"a": ["x", 1, None]})
    {'a': ['***', None, None]}
    >>> masker.replaced("hash", ["x", 5]) == masker.replaced("hash", ["x", 5.0])
    True
    """

    def __init__(self, key: bytes) -> None:
        self._hmac = hmac.new(key, digestmod="sha256")
        self._short = lru_cache(maxsize=4096)(self._hashed)  # columns repeat their values

    def cell(self, action: str, datatype: str = "") -> Callable[[Any], Any]:
        """What makes of a value in a list, where it keeps its place, what the action asks for."""
        if action == "drop":
            return lambda _: None
        if action == "mask":
            return self._masked
        bits = BITS.get(datatype, 53)
        return lambda value: self._hash(value, bits)

    def replaced(self, action: str, value: Any, datatype: str = "") -> Any:
        """The value with every leaf masked or hashed; ``datatype`` is that of its tensor, if it has one."""
        return self.cell(action, datatype)(value)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return MASK
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        if isinstance(value, dict):
            return {name: self._masked(item) for name, item in value.items()}
        return None

    def _hash(self, value: Any, bits: int) -> Any:
        if isinstance(value, str):
            return self.text("hash", value)
        if isinstance(value, list):
            return [self._hash(item, bits) for item in value]
        if isinstance(value, dict):
            return {name: self._hash(item, bits) for name, item in value.items()}
        if value is None or isinstance(value, bool):  # of two values a hash would hide nothing
            return None
        return self.number(value, bits)

    def text(self, action: str, value: str) -> str:
        """A text masked or hashed."""
        if action == "mask":
            return MASK
        return self._short(value) if len(value) <= SHORT else self._hashed(value)

    def _hashed(self, value: str) -> str:
        return self._digest(value)[: DIGITS // 2].hex()

    def number(self, value: float, bits: int) -> int:
        """A number hashed: by its value, whether it is written 5 or 5.0."""
        written = str(int(value)) if value == value and abs(value) < 2**63 and value == int(value) else repr(value)
        return int.from_bytes(self._digest(written)[:8], "big") >> (64 - bits)

    def apply(self, action: str, container: Any, key: Any, datatype: str = "") -> None:
        """Redact a member of an object or an element of a list.

        What is dropped from a list becomes ``null``: the others are known by their place.
        """
        if action != "drop":
            container[key] = self.replaced(action, container[key], datatype)
        elif isinstance(container, dict):
            del container[key]
        else:
            container[key] = None

    def _digest(self, text: str) -> bytes:
        try:
            encoded = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as JSON's escapes can write it
            encoded = text.encode("utf-8", "surrogatepass")
        keyed = self._hmac.copy()  # the key is worked in once
        keyed.update(encoded)
        return keyed.digest()
