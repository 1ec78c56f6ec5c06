"""The values of one column of a payload as numbers: labels become codes, ``None`` becomes NaN."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from detectors.base import UNSEEN, Array, Feature
from monitor.events import InvalidEvent

_BOOLEANS = {True: ("true", "True", "TRUE"), False: ("false", "False", "FALSE")}
"""How a boolean may be written as a label."""


class Labels:
    """What the values of a column mean.

    The code of a label is its place among the categories; a label that is none of them is ``UNSEEN``. Where any
    category is a number, numbers in a payload are labels, else they are codes already.

    >>> Labels(Feature("sex", "categorical", ("F", "M"))).of(["M", "?", None])
    [1.0, -1.0, nan]
    >>> Labels(Feature("doors", "categorical", ("2", "4", "more"))).of([4, "more", 3])
    [1.0, 2.0, -1.0]
    """

    def __init__(self, feature: Feature) -> None:
        self._name = feature.name
        self._codes = {label: float(code) for code, label in enumerate(feature.categories)}
        self._categorical = feature.kind == "categorical"
        numbers = ((_float(label), code) for label, code in self._codes.items()) if self._categorical else ()
        self._by_number = {number: code for number, code in numbers if number is not None}

    @property
    def are_numbers(self) -> bool:
        """Whether numbers are labels, and not codes or values."""
        return bool(self._by_number)

    def of(self, values: list[Any]) -> list[float]:
        """The column's values, ``(n,)``, as numbers. Raises :class:`InvalidEvent` (``not_numeric``)."""
        if self._categorical and set(map(type, values)) == {str}:  # the common case
            codes = self._codes
            return [codes.get(value, UNSEEN) for value in values]
        return [self._number(value) for value in values]

    def of_numbers(self, x: Array) -> Array:
        """Numbers ``(n,)`` that are labels, as codes; NaN stays."""
        codes = self._by_number
        return np.array([codes.get(value, UNSEEN) if value == value else value for value in x.tolist()])

    def _number(self, value: Any) -> float:
        if value is None:
            return np.nan
        if isinstance(value, bool) and self._categorical and not self.are_numbers:
            value = next((label for label in _BOOLEANS[value] if label in self._codes), value)
            if isinstance(value, bool):
                return UNSEEN
        if isinstance(value, bytes) and self._categorical:
            value = value.decode(errors="replace")
        if isinstance(value, str) and self._categorical:
            return self._codes.get(value, UNSEEN)
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidEvent("not_numeric", f"{self._name}: {value!r:.60} where a number belongs") from None
        return self._by_number.get(number, UNSEEN) if self._by_number and number == number else number


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _float(label: str) -> float | None:
    """The number that a label is, as people write it: ``nan`` and ``1_000`` are words."""
    return float(label) if _NUMBER.fullmatch(label) else None
