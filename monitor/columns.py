"""Tensors to the rows that a monitor's detector judges: which columns, in which order, labels as codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import UNSEEN, Array, Feature
from monitor.codecs.base import Tensor, Tensors
from monitor.events import InvalidEvent


class Columns:
    """Picks columns out of payloads.

    Columns are matched by name where the payload names them, else by position. Without configured features every
    payload is flattened to ``(n, d)`` and all of it is judged.

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
        self._codes = [_codes(feature) for feature in self._all]
        self._valued = [(i, values) for i, f in enumerate(self._all) if (values := _values(f)) is not None]

    def rows(self, tensors: Tensors) -> Array:
        """``(n, d)`` of ``float64``; ``(0, d)`` for an empty batch.

        Raises
        ------
        InvalidEvent : ``unknown_tensor``, ``wrong_columns``, ``not_numeric`` or ``bad_shape``.
        """
        if self._tensor is None and len(tensors) == 1:
            (only,) = tensors.values()
            if not only.columns and only.data.ndim == 2 and only.data.dtype == np.float64:  # the common case
                return self._chosen(self._width(only.data))
        return self._chosen(self._width(self._matrix(tensors)))

    def _matrix(self, tensors: Tensors) -> Array:
        if self._tensor is not None:
            if self._tensor not in tensors:
                there = ", ".join(tensors)[:200] or "none"
                raise InvalidEvent("unknown_tensor", f"no tensor {self._tensor!r} in the payload; there are {there}")
            tensors = {self._tensor: tensors[self._tensor]}
        if not tensors:
            return np.empty((0, len(self._all)))
        if self._all and all(name in self._names for name in tensors):
            return self._by_name({name: tensor.data for name, tensor in tensors.items()})
        if len(tensors) == 1:
            (tensor,) = tensors.values()
            if tensor.columns and any(name in self._names for name in tensor.columns):
                return self._by_name({name: tensor.data[:, i] for i, name in enumerate(tensor.columns)})
        blocks = [_flat(tensor) for tensor in tensors.values()]
        if len({len(block) for block in blocks}) > 1:
            raise InvalidEvent("bad_shape", "the tensors of the payload have different numbers of rows")
        return self._numbers(np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0])

    def _by_name(self, given: Mapping[str, npt.NDArray[Any]]) -> Array:
        missing = [name for name in self._names if name not in given]
        if missing:
            raise InvalidEvent("wrong_columns", f"the payload lacks {', '.join(missing)[:200]}")
        columns = [given[name].reshape(len(given[name]), -1) for name in self._names]
        if any(column.shape[1] != 1 for column in columns) or len({len(column) for column in columns}) > 1:
            raise InvalidEvent(
                "bad_shape", "the named columns of the payload must have one value a row, and as many rows"
            )
        return self._numbers(np.concatenate(columns, axis=1))

    def _numbers(self, x: npt.NDArray[Any]) -> Array:
        """Labels to codes, ``None`` to NaN, column by column where the payload is not numeric."""
        if x.dtype != object:
            return x.astype(np.float64, copy=False)
        self._width(x)
        rows = np.empty(x.shape)
        for i in range(x.shape[1]):
            codes = self._codes[i] if self._all else None
            name = self._all[i].name if self._all else f"column {i}"
            rows[:, i] = [_number(value, codes, name) for value in x[:, i]]
        return rows

    def _width(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._all and x.shape[1] != len(self._all):
            if not len(x):
                return np.empty((0, len(self._all)))
            raise InvalidEvent(
                "wrong_columns", f"the payload has {x.shape[1]} columns, the model is configured with {len(self._all)}"
            )
        return x

    def _chosen(self, x: Array) -> Array:
        if self._valued:
            x = x.copy()
            for i, values in self._valued:
                x[:, i] = [_code(value, values) for value in x[:, i].tolist()]
        return x if self._pick is None else x[:, self._pick]


def _flat(tensor: Tensor) -> npt.NDArray[Any]:
    data = tensor.data
    if data.ndim == 0:
        raise InvalidEvent("bad_shape", f"tensor {tensor.name!r} is a single value, rows are needed")
    if data.size == 0:
        return data.reshape(0, data.shape[-1] if data.ndim > 1 else 0)
    return data.reshape(len(data), -1)


def _codes(feature: Feature) -> Mapping[str, float] | None:
    """Label to code, or to the number that it is where all labels are numbers."""
    if feature.kind != "categorical":
        return None
    values = _values(feature)
    return dict(zip(feature.categories, range(len(feature.categories)) if values is None else values, strict=True))


def _values(feature: Feature) -> Sequence[float] | None:
    """The categories as numbers, if all are: then a number in the payload is a label, not a code."""
    if feature.kind != "categorical" or not feature.categories:
        return None
    try:
        return [float(label) for label in feature.categories]
    except ValueError:
        return None


def _code(value: float, values: Sequence[float]) -> float:
    if value != value:
        return value
    return float(values.index(value)) if value in values else UNSEEN


def _number(value: Any, codes: Mapping[str, float] | None, name: str) -> float:
    if value is None:
        return np.nan
    if isinstance(value, str):
        if codes is None:
            raise InvalidEvent("not_numeric", f"{name}: {value[:40]!r} where a number belongs")
        return codes.get(value, UNSEEN)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEvent("not_numeric", f"{name}: {str(value)[:40]!r} where a number belongs") from None
