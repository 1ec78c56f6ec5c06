"""Large arrays of numbers in a JSON body, taken out without a Python object for every number.

``np.asarray(orjson.loads(body)["instances"])`` spends four fifths of its time on making, inspecting and dropping
Python numbers. Here the text of such an array is found by its key, its shape is told from its brackets and commas,
and its numbers go from simdjson into one buffer. Whatever does not fit (text, ``null``, ragged rows, deeper nesting)
stays as it is, and takes the ordinary way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import simdjson

SMALLEST = 512
"""Bytes of a body from which it pays."""

_KEY = re.compile(rb'"(?:instances|predictions|data|ndarray|values)"\s*:\s*(?=\[)')
_TABLE = re.compile(rb'\s*\{\s*"(instances|predictions)"\s*:\s*(?=\[)')
_LOOKS = 4
"""How many times its length is looked at of a body in search of arrays: keys can be nested to make it many more."""

_NUMERIC = b"0123456789+-.eE \t\r\n"
_MARK = "\ue000offpath array "
"""Stands for an array in the text that is left; a payload that holds it is parsed the ordinary way."""

_MARKED = _MARK.encode()


def extract(body: bytes) -> tuple[bytes, list[npt.NDArray[np.float64]]]:
    """The body with its large numeric arrays replaced by marks, and the arrays, ``(n,)`` or ``(n, d)``.

    >>> text, arrays = extract(b'{"instances": [' + b", ".join([b"[1, 2.5]"] * 100) + b"]}")
    >>> arrays[0].shape, restore({"x": _MARK + "0"}, arrays)["x"] is arrays[0]
    ((100, 2), True)
    """
    arrays: list[npt.NDArray[np.float64]] = []
    if len(body) < SMALLEST or b"\\" in body:  # an escaped quote could hide where a key begins
        return body, arrays
    pieces: list[bytes] = []
    done = 0
    found = _KEY.search(body)
    left = _LOOKS * len(body)
    while found:
        start = end = found.end()
        numbers = None
        for end in _ends(body, start, first=not done and left == _LOOKS * len(body)):
            left -= end - start
            if end - start >= SMALLEST // 2 and (numbers := _numbers(body[start:end])) is not None:
                break
        if numbers is not None:
            pieces += (body[done:start], b'"%b%d"' % (_MARKED, len(arrays)))
            arrays.append(numbers)
            done = end
        if end <= start or left <= 0:  # no array ends any more, or too much of it was text: the rest as usual
            break
        found = _KEY.search(body, start if numbers is None else end)
    rest = b"".join((*pieces, body[done:]))
    return (rest, arrays) if rest.count(_MARKED) == len(arrays) else (body, [])


def table(body: bytes) -> tuple[str, npt.NDArray[np.float64]] | None:
    """The key and the numbers of a V1 body that holds nothing else: what nearly every body is; else ``None``.

    >>> name, numbers = table(b'{"instances": [' + b", ".join([b"[1, 2.5]"] * 100) + b"]}")
    >>> name, numbers.shape
    ('instances', (100, 2))
    """
    if len(body) < SMALLEST or body[-1:] != b"}" or not (found := _TABLE.match(body)):
        return None
    numbers = _numbers(body[found.end() : -1])
    return None if numbers is None else (found[1].decode(), numbers)


def restore(value: Any, arrays: list[npt.NDArray[np.float64]]) -> Any:
    """The parsed rest of a body with the arrays in their places; lists and dicts are changed in place."""
    if isinstance(value, str):
        return arrays[int(value[len(_MARK) :])] if value.startswith(_MARK) else value
    if isinstance(value, dict):
        for key, inner in value.items():
            value[key] = restore(inner, arrays)
    elif isinstance(value, list):
        value[:] = [restore(inner, arrays) for inner in value]
    return value


def _ends(body: bytes, start: int, *, first: bool) -> Iterator[int]:
    """Behind the array that begins at ``start``, if it holds numbers or rows of numbers; 0 if it ends nowhere.

    The ``first`` array of a body is as a rule its only one, with nothing but braces behind it: its end is looked for
    from the body's end.
    """
    flat = body.find(b"]", start) + 1
    if body.find(b"[", start + 1, flat) < 0:
        yield flat
        return
    last = body.rfind(b"]]", start) + 2 if first else 0
    if last > 1:
        yield last
    end = body.find(b"]]", start) + 2
    if end != last:
        yield end if end > 1 else 0


def _numbers(text: bytes) -> npt.NDArray[np.float64] | None:
    skeleton = text.translate(None, _NUMERIC)
    shape: tuple[int, ...]
    if skeleton[1:2] == b"[":
        width = skeleton.find(b"]") - 1
        shape = ((len(skeleton) - 1) // (width + 2), width)
        if width < 1 or skeleton != _rows(*shape):
            return None
    else:
        shape = (len(skeleton) - 1,)
        if skeleton != _row(*shape):
            return None
    try:
        flat = np.frombuffer(simdjson.Parser().parse(text).as_buffer(of_type="d"))  # type: ignore[union-attr]
    except (ValueError, RuntimeError):  # no JSON after all, or integers beyond 64 bits
        return None
    return flat.reshape(shape) if flat.size == prod(shape) else None


@lru_cache(maxsize=256)
def _row(width: int) -> bytes:
    return b"[" + b"," * (width - 1) + b"]"


@lru_cache(maxsize=256)
def _rows(n: int, width: int) -> bytes:
    return b"[" + b",".join([_row(width)] * n) + b"]"
