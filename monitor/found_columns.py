"""The columns of payloads that nobody has named."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.base import Array, Feature
from monitor.codecs.base import Tensors
from monitor.columns import Columns
from monitor.events import InvalidEvent


class FoundColumns:
    """Columns that nobody has named: as the first payload that has names for them does.

    Payloads without names, before it or after it, have the same columns by position.

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
        columns = self._columns or Columns([Feature(name) for name in _named(tensors, self._tensor)], self._tensor)
        rows = columns.rows(tensors)
        if not len(rows):
            return rows
        if self._width and rows.shape[1] != self._width:
            raise InvalidEvent("wrong_columns", f"the payload has {rows.shape[1]} columns, others have {self._width}")
        self._width = rows.shape[1]
        if columns.features:
            self._columns = columns
        return rows


def _named(tensors: Tensors, tensor: str | None) -> Sequence[str]:
    """The names that a payload gives its columns."""
    if tensor is not None or len(tensors) == 1:
        one = tensors.get(tensor) if tensor is not None else next(iter(tensors.values()))
        return () if one is None else one.columns
    return list(tensors) if all(len(one.data) == one.data.size for one in tensors.values() if one.data.ndim) else ()
