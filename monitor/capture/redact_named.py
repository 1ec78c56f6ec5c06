"""Redaction by tensor and by column name, in bodies of V1, V2 and Seldon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitor.capture.masking import Masker
from monitor.capture.redact_binary import UnreadableError
from monitor.capture.redact_columns import ColumnRules, Places
from monitor.capture.redact_v2 import V2Rules


class NamedRules:
    """The tensor and column rules that hold for one side of a model.

    Parameters
    ----------
    tensors : tensor to action.
    columns : the column rules.
    """

    def __init__(self, tensors: Mapping[str, str], columns: ColumnRules, masker: Masker) -> None:
        self._tensors, self._columns, self._masker = tensors, columns, masker
        self._actions = {**columns.actions, **tensors}
        self._v2 = V2Rules(tensors, columns, masker)

    def apply(self, message: Any, binary: bytes) -> bytes:
        """Redact a parsed body in place; the bytes behind it are answered.

        Raises
        ------
        UnreadableError : it is not of a known form, or does not say where a column is.
        """
        if not isinstance(message, dict):
            raise UnreadableError("the body is no JSON object")
        found, read = False, False
        for key in ("instances", "predictions", "inputs", "outputs"):
            if key in message:
                found, value = True, message[key]
                if key in ("inputs", "outputs") and isinstance(value, dict):
                    self._named_tensors(value)
                elif key in ("inputs", "outputs") and value and _all_objects(value):
                    if read and binary:
                        raise UnreadableError("binary bytes of both inputs and outputs")
                    message[key], binary, read = *self._v2.apply(value, binary), True
                else:
                    self._rows(message, key)
        found = self._seldon(message) or found
        if not found or (binary and not read):
            raise UnreadableError("the body is of no known form")
        return binary

    def _rows(self, message: dict[str, Any], key: str) -> None:
        if key in self._tensors:
            self._masker.apply(self._tensors[key], message, key)
            return
        rows = message[key]
        if isinstance(rows, list) and any(isinstance(row, dict) for row in rows):
            self._objects(rows)
        else:
            self._columns.rows(rows, self._columns.names, self._columns.places())

    def _objects(self, rows: list[Any]) -> None:
        for row in rows:
            if not isinstance(row, dict) or (self._columns.actions and set(row) == {"b64"}):
                raise UnreadableError("a row without named columns")
            for name in self._actions.keys() & row.keys():
                self._masker.apply(self._actions[name], row, name)

    def _named_tensors(self, tensors: dict[str, Any]) -> None:
        """V1's columns: tensors by name, and columns in them."""
        if places := self._columns.places(tensors):
            widths = [_row_width(rows) for rows in tensors.values()]
            for rows, width, of in zip(tensors.values(), widths, self._columns.spread(widths, places), strict=True):
                self._columns.cells(rows, width, of)
        for name in self._actions.keys() & tensors.keys():
            self._masker.apply(self._actions[name], tensors, name)

    def _seldon(self, message: dict[str, Any]) -> bool:
        """Whether it is a SeldonMessage."""
        found = False
        if isinstance(message.get("data"), dict):
            found = True
            self._data(message["data"])
        for key in ("strData", "binData", "jsonData"):
            if key in message:
                found = True
                if key in self._tensors:
                    self._masker.apply(self._tensors[key], message, key)
                elif self._columns.actions:
                    raise UnreadableError(f"{key} has no columns")
        return found

    def _data(self, data: dict[str, Any]) -> None:
        columns, given = self._columns, data.get("names")
        if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
            names = tuple(given)
            places = [(i, columns.actions[name]) for i, name in enumerate(names) if name in columns.actions]
        else:
            names, places = columns.names, columns.places()
        if not data.keys() <= {"names", "ndarray", "tensor", "tftensor"}:
            raise UnreadableError("data of no known form")
        for form in data.keys() - {"names"}:
            if form in self._tensors:
                self._whole(data, form, self._tensors[form])
            elif form == "ndarray":
                columns.rows(data[form], names, places)
            elif places:
                self._flat(data[form], form, names, places)

    def _whole(self, data: dict[str, Any], form: str, action: str) -> None:
        if action == "drop" or form == "ndarray":
            self._masker.apply(action, data, form)
        elif form == "tensor" and isinstance(data[form], dict):
            data[form] = {**data[form], "values": self._masker.replaced(action, data[form].get("values"))}
        else:
            raise UnreadableError("a tftensor can be dropped, not masked")

    def _flat(self, tensor: Any, form: str, names: tuple[str, ...], places: Places) -> None:
        shape = tensor.get("shape") if isinstance(tensor, dict) and form == "tensor" else None
        if not isinstance(shape, list) or shape[-1:] != [len(names)]:
            raise UnreadableError("a tensor that is no matrix of the named columns")
        self._columns.cells(tensor.get("values"), len(names), places)


def _all_objects(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _row_width(rows: Any) -> int:
    return len(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], list) else 1
