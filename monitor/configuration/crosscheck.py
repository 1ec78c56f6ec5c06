"""What no single value shows: names that must exist or be unique, columns that must be there, detectors that must fit.

The checks read the plain values and pass over what is not of the right kind, so that one mistake hides no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from monitor.configuration.columncheck import check_columns, check_features, chosen
from monitor.configuration.detectorcheck import check_detector, check_online
from monitor.configuration.document import Path
from monitor.configuration.fittedcheck import check_fitted
from monitor.configuration.mergecheck import check_merging
from monitor.configuration.mistakes import Found, nearest
from monitor.configuration.redactcheck import check_redaction
from monitor.configuration.sections import items
from monitor.configuration.sinkcheck import check_files, check_sinks


def cross_check(values: Mapping[str, Any], base: FilePath, fitted: bool = True) -> Iterator[Found]:
    """Every mistake between the parts of a configuration.

    ``base`` is the directory of the file; without ``fitted`` artefacts and references are not looked at.
    """
    models = dict(items(values.get("models")))
    for section in ("models", "monitors", "sinks"):
        yield from _unique(section, dict(items(values.get(section))))
    for i, model in models.items():
        for key in ("features", "outputs"):
            yield from check_features(("models", i, key), model.get(key))
    for i, monitor in items(values.get("monitors")):
        at: Path = ("monitors", i)
        number, model = next(((n, m) for n, m in models.items() if m.get("name") == monitor.get("model")), (0, {}))
        yield from _references(values, monitor, at)
        yield from check_columns(model, monitor, at)
        columns = chosen(model, ("models", number), monitor)
        yield from check_merging(monitor, len(columns or ()), values.get("transport"), at)
        yield from check_detector(monitor.get("detector"), at)
        yield from check_online(monitor, at)
        if fitted:
            yield from check_fitted(monitor, columns, at, base)
    yield from check_sinks(values)
    yield from check_files(values)
    yield from check_redaction(values)


def _name(item: Mapping[str, Any]) -> str | None:
    """An item's name; a sink's is its type where it has none."""
    name = item.get("name", item.get("type"))
    return name if isinstance(name, str) else None


def _unique(section: str, among: Mapping[int, Mapping[str, Any]]) -> Iterator[Found]:
    first: dict[str, int] = {}
    for i, item in among.items():
        name = _name(item)
        if name is not None and first.setdefault(name, i) != i:
            mend = "" if "name" in item else "; give it a name of its own"
            yield Found((section, i, "name"), name, f"is the name of {section}[{first[name]}] too{mend}")


def _references(values: Mapping[str, Any], monitor: Mapping[str, Any], at: Path) -> Iterator[Found]:
    models = [name for _, item in items(values.get("models")) if (name := _name(item))]
    sinks = [name for _, item in items(values.get("sinks")) if (name := _name(item))]
    model = monitor.get("model")
    if isinstance(model, str) and model not in models:
        yield Found((*at, "model"), model, _none_of("model", models), nearest(model, models))
    wanted = monitor.get("sinks")
    for j, name in enumerate(wanted if isinstance(wanted, list) else ()):
        if isinstance(name, str) and name not in sinks:
            yield Found((*at, "sinks", j), name, _none_of("sink", sinks), nearest(name, sinks))


def _none_of(what: str, known: Sequence[str]) -> str:
    return f"there is no such {what}; there are {', '.join(known) or 'none'}"
