"""What a codec answers: named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt


class Tensor(NamedTuple):
    """One named array. ``data`` is ``(n, ...)``, numeric or of ``object`` dtype (strings, ``None``, mixed).

    ``columns`` names the last axis of a two-dimensional tensor, where the payload does. ``keyed``: it is what objects
    hold under one key, and their keys have no order.
    """

    name: str
    data: npt.NDArray[Any]
    columns: tuple[str, ...] = ()
    keyed: bool = False


Tensors = Mapping[str, Tensor]


class Codec(Protocol):
    """Bytes to tensors and back. ``decode`` raises :class:`monitor.events.InvalidEvent` on anything it cannot use."""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Tensors: ...

    def encode(self, tensors: Tensors) -> bytes: ...
