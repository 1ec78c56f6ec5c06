"""V1, as TF Serving and KServe speak it: rows (``instances``) or columns (``inputs``).

Source: TensorFlow Serving RESTful API; KServe data plane V1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from monitor.codecs.base import Tensor, Tensors
from monitor.codecs.numbers import table
from monitor.codecs.values import array, b64, is_list, parse_object
from monitor.events import InvalidEvent

_ROWS = ("instances", "predictions")
_COLUMNS = ("inputs", "outputs")


class V1Codec:
    """Rows are one tensor named ``instances`` or ``predictions``; rows that are objects, and columns, one a key.

    >>> V1Codec().decode(b'{"instances": [[1, 2], [3, 4]]}', {})["instances"].data.shape
    (2, 2)
    """

    name = "v1"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors:  # noqa: ARG002
        if found := table(body):
            key, numbers = found
            return {key: Tensor(key, numbers)}
        return tensors(parse_object(body))

    def encode(self, tensors: Tensors) -> bytes:
        """``instances`` or ``predictions`` as rows, anything else as columns (``inputs``)."""
        for key in _ROWS:
            if key in tensors and len(tensors) == 1:
                return dumps({key: tensors[key].data.tolist()})
        return dumps({"inputs": {name: tensor.data.tolist() for name, tensor in tensors.items()}})


def dumps(value: Any) -> bytes:
    """JSON; not finite numbers become ``null``."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def tensors(message: dict[str, Any]) -> Tensors:
    """The tensors of a parsed V1 message. Raises :class:`InvalidEvent`."""
    for key in _ROWS:
        rows = message.get(key)
        if rows is not None:
            return table_of(key, rows)
    for key in _COLUMNS:
        columns = message.get(key)
        if isinstance(columns, dict):
            return {name: Tensor(name, _array(values, f"{key}.{name}"), (), True) for name, values in columns.items()}
        if columns is not None:
            return {key: Tensor(key, _array(columns, key))}
    raise InvalidEvent("unknown_protocol", f"a V1 body has one of {', '.join(_ROWS + _COLUMNS)}: {_keys(message)}")


def table_of(key: str, rows: Any) -> Tensors:
    """Rows as one tensor named ``key``; rows that are objects as one a key. Raises :class:`InvalidEvent`."""
    if not is_list(rows):
        raise InvalidEvent("bad_shape", f"{key} must be a list, got {type(rows).__name__}")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and set(rows[0]) != {"b64"}:
        return _objects(key, rows)
    return {key: Tensor(key, _array(rows, key))}


def _objects(key: str, rows: list[Any]) -> Tensors:
    names = list(rows[0])
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise InvalidEvent("ragged", f"{key}[{i}] has not the keys of {key}[0]: {', '.join(names)[:200]}")
    return {name: Tensor(name, _array([row[name] for row in rows], f"{key}.{name}"), (), True) for name in names}


def _array(values: Any, where: str) -> np.typing.NDArray[Any]:
    found = array(values, where)
    if found.dtype == object:
        flat = found.ravel()
        for i, value in enumerate(flat):
            if isinstance(value, dict):
                if set(value) != {"b64"}:
                    raise InvalidEvent("not_numeric", f"{where}: an object where a value belongs")
                flat[i] = b64(value["b64"], where)
        found = flat.reshape(found.shape)
    return found.reshape(1) if found.ndim == 0 else found


def _keys(message: Mapping[str, Any]) -> str:
    return f"the body has {', '.join(sorted(message))[:200] or 'nothing'}"
