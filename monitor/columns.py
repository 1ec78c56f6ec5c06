"""Tensors to the rows that a monitor's detector judges: which columns, in which order, labels as codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Feature
from monitor.codecs.base import Tensor, Tensors
from monitor.events import InvalidEvent
from monitor.labels import Labels


class Columns:
    """Picks columns out of payloads.

    Columns are matched by name where the payload knows one of their names; names that nobody configured are then passed
    over. Else they are matched by position, but for the keys of JSON objects, which have none. Without features every
    payload is flattened to ``(n, d)`` and all of it is taken.

    Parameters
    ----------
    features : the model's columns on this side, in order; may be empty.
    tensor : take only this tensor of the payload.
    columns : take only these features, in this order.

    Raises
    ------
    ValueError : ``columns`` names a feature that there is not.

    >>> from monitor.codecs.v1 import V1Codec
    >>> features = (Feature("age"), Feature("sex", "categorical", ("F", "M")))
    >>> Columns(features).rows(V1Codec().decode(b'{"instances": [[39, "M"], [null, "?"]]}', {})).tolist()
    [[39.0, 1.0], [nan, -1.0]]
    """

    def __init__(
        self, features: Sequence[Feature], tensor: str | None = None, columns: Sequence[str] | None = None
    ) -> None:
        self._all = tuple(features)
        self._tensor = tensor
        names = [feature.name for feature in features]
        if columns is None:
            self.features, self._pick = self._all, None
        else:
            unknown = [name for name in columns if name not in names]
            if unknown:
                raise ValueError(f"no such column: {', '.join(unknown)}; there are {', '.join(names)}")
            order = [names.index(name) for name in columns]
            self.features = tuple(self._all[i] for i in order)
            self._pick = None if order == list(range(len(names))) else np.array(order, dtype=np.intp)
        self._names = {name: i for i, name in enumerate(names)}
        self._labels = [Labels(feature) for feature in self._all]
        self._numbers_are_labels = any(labels.are_numbers for labels in self._labels)

    def rows(self, tensors: Tensors) -> Array:
        """``(n, d)`` of ``float64``; ``(0, d)`` for an empty batch.

        Raises
        ------
        InvalidEvent : ``unknown_tensor``, ``wrong_columns``, ``not_numeric`` or ``bad_shape``.
        """
        if self._tensor is None and len(tensors) == 1:
            (only,) = tensors.values()
            if not only.columns and only.data.ndim == 2 and only.data.dtype == np.float64:  # the common case
                return self._chosen(self._coded(self._width(only.data)))
        return self._chosen(self._width(self._matrix(tensors)))

    def _matrix(self, tensors: Tensors) -> Array:
        if self._tensor is not None:
            if self._tensor not in tensors:
                there = ", ".join(tensors)[:200] or "none"
                raise InvalidEvent("unknown_tensor", f"no tensor {self._tensor!r} in the payload; there are {there}")
            tensors = {self._tensor: tensors[self._tensor]}
        if not tensors:
            return np.empty((0, len(self._all)))
        if any(name in self._names for name in tensors):
            return self._by_name({name: tensor.data for name, tensor in tensors.items()})
        if len(tensors) == 1:
            (tensor,) = tensors.values()
            if tensor.columns and any(name in self._names for name in tensor.columns):
                return self._by_name({name: tensor.data[:, i] for i, name in enumerate(tensor.columns)})
        if len(tensors) > 1 and self._all and all(tensor.keyed for tensor in tensors.values()):
            told, wanted = ", ".join(tensors)[:200], ", ".join(self._names)[:200]
            raise InvalidEvent("wrong_columns", f"the payload names {told}, none of which is one of {wanted}")
        blocks = [_flat(tensor) for tensor in tensors.values()]
        if len({len(block) for block in blocks}) > 1:
            raise InvalidEvent("bad_shape", "the tensors of the payload have different numbers of rows")
        return self._numbers(np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0])

    def _by_name(self, given: Mapping[str, npt.NDArray[Any]]) -> Array:
        missing = [name for name in self._names if name not in given]
        if missing:
            raise InvalidEvent(
                "wrong_columns", f"the payload names {', '.join(given)[:200]}, and lacks {', '.join(missing)[:200]}"
            )
        columns = [given[name].reshape(len(given[name]), -1) for name in self._names]
        if any(column.shape[1] != 1 for column in columns) or len({len(column) for column in columns}) > 1:
            raise InvalidEvent(
                "bad_shape", "the named columns of the payload must have one value a row, and as many rows"
            )
        return self._numbers(np.concatenate(columns, axis=1))

    def _numbers(self, x: npt.NDArray[Any]) -> Array:
        """Labels to codes, ``None`` to NaN, column by column where the payload is not numeric."""
        x = self._width(x)
        if x.dtype != object:
            return self._coded(x.astype(np.float64, copy=False))
        rows = np.empty(x.shape)
        for i in range(x.shape[1]):
            labels = self._labels[i] if self._all else Labels(Feature(f"column {i}"))
            try:
                rows[:, i] = labels.of(x[:, i].tolist())
            except InvalidEvent as error:
                hint = "" if self._all else "; labels need the model's features, with their categories"
                raise InvalidEvent(error.reason, f"{error}{hint}") from None
        return rows

    def _coded(self, x: Array) -> Array:
        if not self._numbers_are_labels:
            return x
        x = x.copy()
        for i, labels in enumerate(self._labels):
            if labels.are_numbers:
                x[:, i] = labels.of_numbers(x[:, i])
        return x

    def _width(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._all and x.shape[1] != len(self._all):
            if not len(x):
                return np.empty((0, len(self._all)))
            names = ", ".join(self._names)[:200]
            raise InvalidEvent("wrong_columns", f"the payload has {x.shape[1]} columns, not {len(self._all)}: {names}")
        return x

    def _chosen(self, x: Array) -> Array:
        return x if self._pick is None else x[:, self._pick]


def _flat(tensor: Tensor) -> npt.NDArray[Any]:
    data = tensor.data
    if data.ndim == 0:
        raise InvalidEvent("bad_shape", f"tensor {tensor.name!r} is a single value, rows are needed")
    if data.size == 0:
        return data.reshape(0, data.shape[-1] if data.ndim > 1 else 0)
    return data.reshape(len(data), -1)
