"""Where a column is in rows and tensors, and redaction of its cells."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from monitor.capture.masking import Masker
from monitor.capture.redact_binary import UnreadableError

Places = list[tuple[int, str]]
"""Where columns are among all, and what is done to them."""


class ColumnRules:
    """The column rules that hold for one side of a model.

    A column is found by its name where the body names its columns, else by its place among the configured ones. Where
    neither says which it is, the body is unreadable: nobody knows where in it the value stands.

    Parameters
    ----------
    actions : column to action.
    names : the model's configured columns of this side, in order; may be empty.
    """

    def __init__(self, actions: Mapping[str, str], names: tuple[str, ...], masker: Masker) -> None:
        self.actions, self.names, self._masker = actions, names, masker
        self._known = set(names) | set(actions)

    def places(self, given: Collection[str] = ()) -> Places:
        """Where the columns are that are not among the ``given`` names. Where all of these are columns, nowhere."""
        if given and self._known.issuperset(given):
            return []
        missing = [name for name in self.actions if name not in given]
        if missing and not self.names:
            raise UnreadableError("the body names no columns, and none are configured")
        return [(self.names.index(name), self.actions[name]) for name in missing if name in self.names]

    def spread(self, widths: list[int], places: Places) -> Iterator[Places]:
        """The places within each of the tensors that stand side by side."""
        if sum(widths) != len(self.names):
            raise UnreadableError("the tensors have another number of columns than are configured")
        start = 0
        for width in widths:
            yield [(place - start, action) for place, action in places if start <= place < start + width]
            start += width

    def rows(self, rows: Any, names: tuple[str, ...], places: Places) -> None:
        """Redact rows that are lists of one value a column; with a single column they may be the values."""
        if not places:
            return
        if not isinstance(rows, list):
            raise UnreadableError("the rows are no list")
        width = len(names)
        for row in rows:
            if not isinstance(row, list):
                if width != 1:
                    raise UnreadableError("a row is no list")
            elif len(row) != width:
                raise UnreadableError("a row has another number of columns than are configured")
        for place, action in places:
            replace = self._masker.cell(action)
            for i, row in enumerate(rows):
                if isinstance(row, list):
                    row[place] = replace(row[place])
                else:
                    rows[i] = replace(row)

    def cells(self, values: Any, width: int, places: Places, datatype: str = "") -> None:
        """Redact columns of a tensor of so many a row: nested rows, or flat row by row."""
        if not places:
            return
        if not isinstance(values, list) or width < 1:
            raise UnreadableError("a tensor's data is no list of rows")
        if any(isinstance(row, list) for row in values):
            for row in values:
                if not isinstance(row, list) or len(row) != width or any(isinstance(cell, list) for cell in row):
                    raise UnreadableError("a tensor's rows have not as many columns as its shape")
        elif len(values) % width:
            raise UnreadableError("a tensor's data does not fit its shape")
        for place, action in places:
            replace = self._masker.cell(action, datatype)
            if values and isinstance(values[0], list):
                for row in values:
                    row[place] = replace(row[place])
            else:
                values[place::width] = [replace(value) for value in values[place::width]]
