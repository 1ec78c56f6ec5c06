"""JSON and its values, as payloads hold them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from monitor.codecs.numbers import extract, restore
from monitor.events import InvalidEvent

MAX_DEPTH = 32
"""Nesting of arrays: beyond numpy's own limit no shape can be told."""

MAX_FILLED = 2_000_000
"""Values of a tensor in which the last one given stands for the rest: a few bytes must not come to gigabytes."""


def parse(body: bytes) -> Any:
    """The body's JSON. Bare ``NaN`` and ``Infinity`` are taken, as TF Serving and KServe send them.

    Raises
    ------
    InvalidEvent : ``empty_body`` or ``invalid_json``.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise InvalidEvent("empty_body", "the body is empty") from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidEvent("invalid_json", f"the body is no JSON: {error}") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """The body's JSON object. Raises :class:`InvalidEvent` (``invalid_json``) if it is another value.

    Large arrays of numbers in it are arrays of ``float64``: see :mod:`monitor.codecs.numbers`.
    """
    rest, arrays = extract(body)
    value = parse(rest)
    if arrays:
        try:
            value = restore(value, arrays)
        except RecursionError:
            raise InvalidEvent("invalid_json", "the body's JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise InvalidEvent("invalid_json", f"the body must be a JSON object, got {type(value).__name__}")
    return value


def is_list(value: Any) -> bool:
    """Whether it was a list in the JSON."""
    return isinstance(value, (list, np.ndarray))


def array(values: Any, where: str) -> npt.NDArray[Any]:
    """Nested lists of JSON values as an array of ``float64``, or of objects if other values than numbers are in it.

    Booleans stay what they are: as a label, ``true`` is no code 1.
    ``null`` is NaN among numbers. Raises :class:`InvalidEvent` (``ragged``) if the lists have different lengths.
    """
    if isinstance(values, np.ndarray):
        return values
    kinds = _kinds(values, where)  # numpy is not asked: among strings it takes the longest as the width of all
    try:
        if kinds <= _NUMBERS:
            return np.array(values, dtype=np.float64)
        mixed = np.array(values, dtype=object)
    except OverflowError:
        raise InvalidEvent("not_numeric", f"{where}: a whole number beyond what float64 holds") from None
    except ValueError:
        raise InvalidEvent("ragged", f"{where}: the rows have different lengths") from None
    if not mixed.ndim or not is_list(mixed.flat[0] if mixed.size else None):
        return mixed
    raise InvalidEvent("ragged", f"{where}: the rows have different lengths")


_NUMBERS = frozenset({int, float, type(None)})


def _kinds(values: Any, where: str) -> set[type]:
    """The types of the values inside nested lists. Raises :class:`InvalidEvent` where lists and values are mixed."""
    level: Sequence[Any] = values if type(values) is list else [values]
    for _ in range(MAX_DEPTH):
        if len(level) == 1 and type(level[0]) is list:
            level = level[0]
            continue
        kinds = set(map(type, level))
        if list not in kinds:
            return kinds
        if len(kinds) > 1:
            raise InvalidEvent("ragged", f"{where}: lists and single values side by side")
        level = list(chain.from_iterable(level))
    raise InvalidEvent("bad_shape", f"{where}: lists are nested more than {MAX_DEPTH} deep")


def booleans(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers that stand for booleans, as such."""
    return values.astype(np.bool_).astype(object)


def b64(value: Any, where: str) -> bytes:
    """The bytes of base64 text. Raises :class:`InvalidEvent` (``invalid_base64``)."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidEvent("invalid_base64", f"{where}: no valid base64") from None
