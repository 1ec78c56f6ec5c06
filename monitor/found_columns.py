"""The columns of payloads that nobody has named."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.base import Array, Feature
from monitor.codecs.base import Tensors
from monitor.columns import Columns
from monitor.events import InvalidEvent


class FoundColumns:
    """Columns that nobody has named: as the first payload does.

    Where it names none, later ones may name none either, and where it does, later ones must: objects' keys have no
    order, so that which of them is the first column of a payload without names, nothing says.

    >>> from monitor.codecs.v1 import V1Codec
    >>> found = FoundColumns()
    >>> [found.rows(V1Codec().decode(body, {})).tolist() for body in (
    ...     b'{"instances": [{"age": 39, "hours": 40}]}', b'{"instances": [{"hours": 20, "age": 50}]}')]
    [[[39.0, 40.0]], [[50.0, 20.0]]]
    >>> [feature.name for feature in found.features]
    ['age', 'hours']
    """

    def __init__(self, tensor: str | None = None) -> None:
        self._tensor = tensor
        self._columns: Columns | None = None
        self._width = 0

    @property
    def features(self) -> tuple[Feature, ...]:
        """Empty where the payload has no names."""
        return () if self._columns is None else self._columns.features

    def rows(self, tensors: Tensors) -> Array:
        """As :meth:`Columns.rows`."""
        names = _named(tensors, self._tensor)
        columns = self._columns or Columns([Feature(name) for name in names], self._tensor)
        rows = columns.rows(tensors)
        if not len(rows):
            return rows
        if self._width and rows.shape[1] != self._width:
            raise InvalidEvent("wrong_columns", f"the payload has {rows.shape[1]} columns, others have {self._width}")
        if self._width > 1 and bool(names) != bool(columns.features):
            told, others = (f"names {', '.join(names)[:200]}", "none") if names else ("names no columns", "theirs")
            hint = "list the model's features, in the order of those without names"
            raise InvalidEvent("wrong_columns", f"the payload {told}, earlier ones name {others}: {hint}")
        self._width, self._columns = rows.shape[1], columns
        return rows


def _named(tensors: Tensors, tensor: str | None) -> Sequence[str]:
    """The names that a payload gives its columns."""
    if tensor is not None or len(tensors) == 1:
        one = tensors.get(tensor) if tensor is not None else next(iter(tensors.values()))
        return () if one is None else one.columns
    return list(tensors) if all(len(one.data) == one.data.size for one in tensors.values() if one.data.ndim) else ()
