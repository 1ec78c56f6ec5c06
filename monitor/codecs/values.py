"""JSON and its values, as payloads hold them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from monitor.codecs.numbers import extract, restore
from monitor.events import InvalidEvent

MAX_DEPTH = 32
"""Nesting of arrays: beyond numpy's own limit no shape can be told."""


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
        value = restore(value, arrays)
    if not isinstance(value, dict):
        raise InvalidEvent("invalid_json", f"the body must be a JSON object, got {type(value).__name__}")
    return value


def is_list(value: Any) -> bool:
    """Whether it was a list in the JSON."""
    return isinstance(value, (list, np.ndarray))


def array(values: Any, where: str) -> npt.NDArray[Any]:
    """Nested lists of JSON values as an array of ``float64``, or of objects if there are strings or objects in it.

    ``null`` is NaN among numbers. Raises :class:`InvalidEvent` (``ragged``) if the lists have different lengths.
    """
    if isinstance(values, np.ndarray):
        return values
    try:
        found = np.asarray(values)
        if found.dtype.kind in "fiub":  # a string among numbers makes it text: nothing is converted silently
            return found.astype(np.float64, copy=False)
        mixed = np.array(values, dtype=object)
    except (ValueError, OverflowError):
        raise InvalidEvent("ragged", f"{where}: the rows have different lengths") from None
    if any(is_list(value) for value in mixed.ravel()[:1000]):
        raise InvalidEvent("ragged", f"{where}: the rows have different lengths")
    return mixed


def b64(value: Any, where: str) -> bytes:
    """The bytes of base64 text. Raises :class:`InvalidEvent` (``invalid_base64``)."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidEvent("invalid_base64", f"{where}: no valid base64") from None
