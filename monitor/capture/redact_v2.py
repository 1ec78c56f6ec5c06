"""Redaction of V2's tensors, in JSON and behind it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from monitor.capture.masking import Masker
from monitor.capture.redact_binary import UnreadableError, redacted
from monitor.capture.redact_columns import ColumnRules, Places

_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})


class V2Rules:
    """Tensor and column rules over the entries of ``inputs`` or ``outputs``; a column may be a tensor of its own."""

    def __init__(self, tensors: Mapping[str, str], columns: ColumnRules, masker: Masker) -> None:
        self._actions = {**columns.actions, **tensors}
        self._columns, self._masker = columns, masker

    def apply(self, entries: list[dict[str, Any]], binary: bytes) -> tuple[list[Any], bytes]:
        """The redacted entries, and their share of the binary bytes, all of which must be theirs.

        Raises
        ------
        UnreadableError : they are no V2 tensors, or do not say where a column is.
        """
        names = [_name(entry, i) for i, entry in enumerate(entries)]
        inside = self._inside(entries, names)
        kept: list[Any] = []
        parts: list[bytes] = []
        for i, entry in enumerate(entries):
            size = _size(entry) or 0
            if size > len(binary):
                raise UnreadableError("fewer binary bytes than announced")
            raw, binary = binary[:size], binary[size:]
            action = self._actions.get(names[i])
            if action == "drop":
                continue
            kept.append(entry)
            if _holds(entry) and (action is not None or inside.get(i)):
                raw = self._entry(entry, raw, action, inside.get(i, []))
            parts.append(raw)
        if binary:
            raise UnreadableError("more binary bytes than announced")
        return kept, b"".join(parts)

    def _inside(self, entries: list[dict[str, Any]], names: list[str]) -> dict[int, Places]:
        """Where columns are within tensors that hold several, by entry."""
        full = [i for i, entry in enumerate(entries) if _holds(entry)]
        places = self._columns.places({names[i] for i in full}) if full else []
        if not places:
            return {}
        return dict(zip(full, self._columns.spread([_width(entries[i]) for i in full], places), strict=True))

    def _entry(self, entry: dict[str, Any], raw: bytes, action: str | None, places: Places) -> bytes:
        datatype = str(entry.get("datatype", ""))
        if _size(entry) is None:
            if action is not None:
                entry["data"] = self._masker.replaced(action, entry["data"], datatype)
            else:
                self._columns.cells(entry["data"], _width(entry), places, datatype)
            return raw
        if action is not None:
            raw = redacted(raw, datatype, action, None, self._masker)
        else:
            shape = (prod(entry["shape"]), _width(entry))
            for place, what in places:
                raw = redacted(raw, datatype, what, (place, *shape), self._masker)
        entry["parameters"]["binary_data_size"] = len(raw)
        return raw


def _name(entry: Mapping[str, Any], i: int) -> str:
    if not entry.keys() <= _KEYS or ("data" in entry and _size(entry) is not None):
        raise UnreadableError("a tensor with its data in another place than the protocol's")
    return str(entry.get("name", i))


def _holds(entry: Mapping[str, Any]) -> bool:
    """Whether it is a tensor, and not the name of an output that is asked for."""
    return "data" in entry or _size(entry) is not None


def _size(entry: Mapping[str, Any]) -> int | None:
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise UnreadableError("a binary size that is no number of bytes")
    return size


def _width(entry: Mapping[str, Any]) -> int:
    """Columns of a tensor: all axes but the first, side by side."""
    shape = entry.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(n) is int and n >= 0 for n in shape):
        raise UnreadableError("a tensor without a shape")
    return prod(shape[1:])
