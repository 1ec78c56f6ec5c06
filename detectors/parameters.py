"""Types of detectors' parameters, as their constructors declare them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def wrong_types(cls: type[Any], params: Mapping[str, Any]) -> list[str]:
    """One sentence for each parameter that is not of the type which the constructor of ``cls`` declares.

    >>> class Made:
    ...     def __init__(self, ert: float | None = None, k: int = 1) -> None: ...
    >>> wrong_types(Made, {"ert": "many", "k": True})
    ["ert must be a finite number, got 'many'", 'k must be a whole number, got true']
    """
    declared = get_type_hints(inspect.getattr_static(cls, "__init__"))
    return [
        f"{name} must be {_in_words(declared[name])}, got {_shown(value)}"
        for name, value in params.items()
        if name in declared and not _is_of(declared[name], value)
    ]


def _is_of(declared: Any, value: Any) -> bool:
    """Types that are none of the plain ones are left to the constructor."""
    origin = get_origin(declared)
    if origin in (Union, UnionType):
        return any(_is_of(member, value) for member in get_args(declared))
    if origin is Literal:
        return value in get_args(declared)
    if declared is float:
        return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(float(value))
    if declared is int:
        return not isinstance(value, bool) and isinstance(value, Integral)
    return isinstance(value, declared) if declared in (bool, str, NoneType) else True


def _in_words(declared: Any) -> str:
    if get_origin(declared) in (Union, UnionType):
        return " or ".join(_in_words(member) for member in get_args(declared) if member is not NoneType)
    if get_origin(declared) is Literal:
        return f"one of {', '.join(map(str, get_args(declared)))}"
    return _WORDS.get(declared, str(declared))


_WORDS = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
