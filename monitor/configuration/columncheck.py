"""The columns of models, and which of them reach a monitor's detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from detectors.base import Feature
from monitor.configuration.document import Path
from monitor.configuration.mistakes import Found, nearest
from monitor.configuration.sections import items, repeated

_LISTS = {"request": ("features",), "response": ("outputs",), "joined": ("features", "outputs")}


class Column(NamedTuple):
    """A column as it is configured, and where."""

    feature: Feature
    path: Path


def check_features(at: Path, features: Any) -> Iterator[Found]:
    """Mistakes of a list of columns: names and categories that are there twice, categories of numbers."""
    columns = dict(items(features))
    names = [columns[i].get("name") if i in columns else None for i in range(max(columns, default=-1) + 1)]
    for i, first in repeated(names):
        yield Found((*at, i, "name"), columns[i]["name"], f"is the name of column {first} too")
    for i, feature in columns.items():
        categories = feature.get("categories")
        if not isinstance(categories, list):
            continue
        if categories and feature.get("type", "numeric") == "numeric":
            yield Found((*at, i, "categories"), None, "a numeric column has none; say type: categorical")
        for j, first in repeated(categories):
            yield Found((*at, i, "categories", j), categories[j], f"is category {first} too")


def chosen(model: Mapping[str, Any], at: Path, monitor: Mapping[str, Any]) -> list[Column] | None:
    """The columns that reach the monitor's detector, in its order; empty if the model's are not configured.

    ``None`` if another mistake hides which they are.
    """
    known: list[Column] = []
    side = str(monitor.get("side", "request"))
    if not model or side not in _LISTS:
        return None
    for key in _LISTS[side]:
        columns = model.get(key)
        if columns is not None and not isinstance(columns, list):
            return None
        for i, item in enumerate(columns or ()):
            feature = _feature(item) if isinstance(item, dict) else None
            if feature is None:
                return None
            known.append(Column(feature, (*at, key, i)))
    wanted = monitor.get("columns")
    if not isinstance(wanted, list):
        return known
    if not wanted:
        return None
    named = {column.feature.name: column for column in known}
    if not all(isinstance(name, str) and name in named for name in wanted):
        return None
    picked = [named[name] for name in wanted]
    if monitor.get("side") == "joined":  # the request's columns first, as the worker puts them
        picked.sort(key=lambda column: "outputs" in column.path)
    return picked


def _feature(item: Mapping[str, Any]) -> Feature | None:
    name, kind, categories = item.get("name"), item.get("type", "numeric"), item.get("categories", [])
    if not isinstance(name, str) or not isinstance(categories, list):
        return None
    if kind not in ("numeric", "categorical") or not all(isinstance(label, str) for label in categories):
        return None
    return Feature(name, kind, tuple(categories))


def check_columns(model: Mapping[str, Any], monitor: Mapping[str, Any], at: Path) -> Iterator[Found]:
    """Mistakes of a monitor's ``columns``, ``side`` and ``tensor``, as far as its model is configured."""
    given, side = monitor.get("columns"), monitor.get("side", "request")
    keys = _LISTS.get(str(side), ())
    known = [str(feature.get("name")) for key in keys for _, feature in items(model.get(key))]
    columns = given if isinstance(given, list) else []
    if not model or not keys:
        return
    for j, name in enumerate(columns):
        if isinstance(name, str) and name not in known:
            there = ", ".join(known) or "none are configured"
            expected = f"is no column of model {model.get('name')}'s {' and '.join(keys)}: {there}"
            yield Found((*at, "columns", j), name, expected, nearest(name, known))
    for j, first in repeated(columns):
        yield Found((*at, "columns", j), columns[j], f"is given twice; columns[{first}] is the same")
    both = sorted({name for name in known if known.count(name) > 1}) if side == "joined" else []
    if both:
        yield Found((*at, "side"), side, f"features and outputs need different names, both have {', '.join(both)}")
    if side == "joined" and monitor.get("tensor") is not None:
        yield Found((*at, "tensor"), monitor["tensor"], "has no meaning with side: joined")
