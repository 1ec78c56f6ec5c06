"""What no single value shows: names that must exist or be unique, columns that must be there, addresses that clash.

The checks read the plain values and pass over what is not of the right kind, so that one mistake hides no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitor.configuration.detectorcheck import check_detector
from monitor.configuration.document import Path
from monitor.configuration.mistakes import Found, nearest
from monitor.configuration.redactcheck import check_redaction


def cross_check(values: Mapping[str, Any]) -> Iterator[Found]:
    """Every mistake between the parts of a configuration."""
    models = dict(_items(values.get("models")))
    for section in ("models", "monitors", "sinks"):
        yield from _unique(section, dict(_items(values.get(section))))
    for i, model in models.items():
        for key in ("features", "outputs"):
            yield from _features(("models", i, key), model.get(key))
    for i, monitor in _items(values.get("monitors")):
        at: Path = ("monitors", i)
        model = next((m for m in models.values() if m.get("name") == monitor.get("model")), _UNKNOWN)
        yield from _references(values, monitor, at)
        yield from _columns(model, monitor, at)
        for place, value, expected, word in check_detector(monitor.get("detector"), chosen(model, monitor)):
            yield Found((*at, "detector", *place), value, expected, word)
    yield from _sinks(values)
    yield from _files(values)
    yield from _addresses(values)
    yield from check_redaction(values)


_UNKNOWN: Mapping[str, Any] = {}
"""The model of a monitor that names none of the configured ones."""


def _items(section: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for i, item in enumerate(section if isinstance(section, list) else ()):
        if isinstance(item, dict):
            yield i, item


def _name(item: Mapping[str, Any]) -> str | None:
    """An item's name; a sink's is its type where it has none."""
    name = item.get("name", item.get("type"))
    return name if isinstance(name, str) else None


def _unique(section: str, items: Mapping[int, Mapping[str, Any]]) -> Iterator[Found]:
    first: dict[str, int] = {}
    for i, item in items.items():
        name = _name(item)
        if name is not None and first.setdefault(name, i) != i:
            mend = "" if "name" in item else "; give it a name of its own"
            yield Found((section, i, "name"), name, f"is the name of {section}[{first[name]}] too{mend}")


def _features(at: Path, features: Any) -> Iterator[Found]:
    items = dict(_items(features))
    for i, first in _repeated(
        [items[i].get("name") if i in items else None for i in range(max(items, default=-1) + 1)]
    ):
        yield Found((*at, i, "name"), items[i]["name"], f"is the name of column {first} too")
    for i, feature in items.items():
        categories = feature.get("categories")
        if not isinstance(categories, list):
            continue
        if categories and feature.get("type", "numeric") == "numeric":
            yield Found((*at, i, "categories"), None, "a numeric column has none; say type: categorical")
        for j, first in _repeated(categories):
            yield Found((*at, i, "categories", j), categories[j], f"is category {first} too")


def _repeated(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """The indices of texts that were there before, and where they were first."""
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if isinstance(value, str) and first.setdefault(value, i) != i:
            yield i, first[value]


def _references(values: Mapping[str, Any], monitor: Mapping[str, Any], at: Path) -> Iterator[Found]:
    models = [name for _, item in _items(values.get("models")) if (name := _name(item))]
    sinks = [name for _, item in _items(values.get("sinks")) if (name := _name(item))]
    model = monitor.get("model")
    if isinstance(model, str) and model not in models:
        yield Found((*at, "model"), model, _none_of("model", models), nearest(model, models))
    wanted = monitor.get("sinks")
    for j, name in enumerate(wanted if isinstance(wanted, list) else ()):
        if isinstance(name, str) and name not in sinks:
            yield Found((*at, "sinks", j), name, _none_of("sink", sinks), nearest(name, sinks))


def _none_of(what: str, known: Sequence[str]) -> str:
    return f"there is no such {what}: {', '.join(known) or 'none is configured'}"


_LISTS = {"request": ("features",), "response": ("outputs",), "joined": ("features", "outputs")}


def _of(model: Mapping[str, Any], monitor: Mapping[str, Any]) -> list[str]:
    """The names of all columns on the monitor's side."""
    lists = _LISTS.get(str(monitor.get("side", "request")), ())
    return [str(f.get("name")) for key in lists for _, f in _items(model.get(key))]


def chosen(model: Mapping[str, Any], monitor: Mapping[str, Any]) -> list[str]:
    """The names of the columns that reach the monitor's detector, as far as they are configured."""
    known, columns = _of(model, monitor), monitor.get("columns")
    if not isinstance(columns, list):
        return known
    if not all(name in known for name in columns):
        return []
    if monitor.get("side") == "joined":  # the request's columns first, as the worker puts them
        inputs = [f.get("name") for _, f in _items(model.get("features"))]
        return [name for name in columns if name in inputs] + [name for name in columns if name not in inputs]
    return [str(name) for name in columns]


def _columns(model: Mapping[str, Any], monitor: Mapping[str, Any], at: Path) -> Iterator[Found]:
    known, given, side = _of(model, monitor), monitor.get("columns"), monitor.get("side", "request")
    columns = given if isinstance(given, list) else []
    lists = " and ".join(_LISTS.get(str(side), ()))
    if not model or not lists:
        return
    for j, name in enumerate(columns):
        if isinstance(name, str) and name not in known:
            expected = (
                f"is no column of model {model.get('name')}'s {lists}: {', '.join(known) or 'none are configured'}"
            )
            yield Found((*at, "columns", j), name, expected, nearest(name, known))
    for j, first in _repeated(columns):
        yield Found((*at, "columns", j), columns[j], f"is given twice; columns[{first}] is the same")
    if given == []:
        yield Found((*at, "columns"), None, "is empty: name a column, or leave it out for all")
    both = sorted({name for name in known if known.count(name) > 1}) if side == "joined" else []
    if both:
        yield Found((*at, "side"), side, f"features and outputs need different names, both have {', '.join(both)}")
    if side == "joined" and monitor.get("tensor") is not None:
        yield Found((*at, "tensor"), monitor["tensor"], "has no meaning with side: joined")


_FILES: tuple[Path, ...] = (
    *(("transport", "security", key) for key in ("ca", "cert", "key", "password_file")),
    *(("ingest", "tls", key) for key in ("cert", "key", "client_ca")),
    ("ingest", "token_file"),
)


def _files(values: Mapping[str, Any]) -> Iterator[Found]:
    """Files that security needs."""
    for path in _FILES:
        at: Any = values
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, str) and not os.path.isfile(at):  # noqa: PTH113 - Path is a place in the document here
            yield Found(path, at, "there is no such file")


def _sinks(values: Mapping[str, Any]) -> Iterator[Found]:
    transport = values.get("transport")
    transport = transport if isinstance(transport, dict) else {}
    state = transport.get("state", "offpath-state") if transport.get("type") == "kafka" else None
    payloads, dead = transport.get("topic", "payloads"), transport.get("dead_letters", "dead-letters")
    if payloads == dead:
        yield Found(("transport", "dead_letters"), dead, "must be another topic than transport.topic")
    seen: dict[Any, int] = {}
    for i, sink in _items(values.get("sinks")):
        kind = sink.get("type")
        if sink.get("topic") is not None and sink["topic"] in (payloads, dead, state):
            yield Found(("sinks", i, "topic"), sink["topic"], "is the transport's own; findings need another")
        what = kind if kind == "prometheus" else (str(kind), str(sink["path"])) if "path" in sink else None
        if what is not None and str(sink.get("path")) != "-" and seen.setdefault(what, i) != i:
            yield Found(("sinks", i, "type"), kind, f"does the same as sinks[{seen[what]}]")


_ADDRESSES = (
    ("capture", "listen"),
    ("capture", "upstream"),
    ("capture", "admin"),
    ("worker", "listen"),
    ("ingest", "listen"),
    ("ingest", "admin"),
)


def _addresses(values: Mapping[str, Any]) -> Iterator[Found]:
    for section, key in _ADDRESSES:
        given = values.get(section)
        text = given.get(key) if isinstance(given, dict) else None
        if isinstance(text, str) and not _is_address(text):
            yield Found((section, key), text, "expected host:port, for example 127.0.0.1:9090")
    sinks = [(("sinks", i, "url"), sink.get("url")) for i, sink in _items(values.get("sinks"))]
    capture = values.get("capture")
    for path, url in [*sinks, (("capture", "url"), capture.get("url") if isinstance(capture, dict) else None)]:
        if isinstance(url, str) and not re.match(r"https?://[^/\s]+", url):
            yield Found(path, url, "expected an address that begins with http:// or https://")


def _is_address(text: str) -> bool:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:]*):(\d{1,5})", text.strip())
    return found is not None and int(found[2]) < 65536
