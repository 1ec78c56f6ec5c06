"""What no single value shows: names that must exist or be unique, files that must be there, parameters that fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectors.registry import DETECTOR_TYPES, check_params
from monitor.configuration.document import Path as Place
from monitor.configuration.document import place_of, spelled
from monitor.configuration.mistakes import Mistake, nearest
from monitor.settings import MonitorSettings, Settings


def cross_check(settings: Settings, places: Mapping[Place, Any]) -> Iterator[Mistake]:
    """Every mistake between the parts of valid settings."""
    for path, value, expected, word in _all(settings):
        yield Mistake(*place_of(places, path), spelled(path), value, expected, word)


Found = tuple[Place, Any, str, str]


def _all(settings: Settings) -> Iterator[Found]:
    for section in ("models", "monitors", "sinks"):
        yield from _unique(section, [item.name for item in getattr(settings, section)])
    for i, monitor in enumerate(settings.monitors):
        at: Place = ("monitors", i)
        yield from _names(settings, monitor, at)
        yield from _columns(settings, monitor, at)
        yield from _detector(monitor, (*at, "detector"))


def _unique(section: str, names: Sequence[str]) -> Iterator[Found]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield (section, i, "name"), name, f"is the name of {section}[{names.index(name)}] too", ""


def _names(settings: Settings, monitor: MonitorSettings, at: Place) -> Iterator[Found]:
    models = [model.name for model in settings.models]
    if monitor.model not in models:
        yield (*at, "model"), monitor.model, _none_of("model", models), nearest(monitor.model, models)
    sinks = [sink.name for sink in settings.sinks]
    for j, name in enumerate(monitor.sinks or ()):
        if name not in sinks:
            yield (*at, "sinks", j), name, _none_of("sink", sinks), nearest(name, sinks)


def _none_of(what: str, known: Sequence[str]) -> str:
    return f"there is no such {what}: {', '.join(known) or 'none is configured'}"


def _columns(settings: Settings, monitor: MonitorSettings, at: Place) -> Iterator[Found]:
    model = next((model for model in settings.models if model.name == monitor.model), None)
    if model is None or monitor.columns is None:
        return
    request, response = [f.name for f in model.features], [f.name for f in model.outputs]
    known = {"request": request, "response": response, "joined": request + response}[monitor.side]
    lists = {"request": "features", "response": "outputs", "joined": "features and outputs"}[monitor.side]
    for j, name in enumerate(monitor.columns):
        if name not in known:
            expected = f"is no column of model {model.name}'s {lists}: {', '.join(known) or 'none are configured'}"
            yield (*at, "columns", j), name, expected, nearest(name, known)


def _detector(monitor: MonitorSettings, at: Place) -> Iterator[Found]:
    wanted = monitor.detector
    if wanted.type not in DETECTOR_TYPES:
        expected = f"is no detector_type: {', '.join(DETECTOR_TYPES)}"
        yield (*at, "type"), wanted.type, expected, nearest(wanted.type, DETECTOR_TYPES)
        return
    for problem in check_params(wanted.type, wanted.params):
        yield (*at, "params"), None, problem, ""
    if wanted.reference is not None and not Path(wanted.reference).is_file():
        yield (*at, "reference"), wanted.reference, "there is no such file", ""
    if wanted.artifact is not None:
        yield from _artifact(monitor, (*at, "artifact"))


def _artifact(monitor: MonitorSettings, at: Place) -> Iterator[Found]:
    folder = monitor.detector.artifact
    assert folder is not None
    manifest = Path(folder) / "artifact.json"
    if not manifest.is_file():
        yield at, folder, "there is no artefact in this directory; `offpath fit --out` writes one", ""
        return
    try:
        held = json.loads(manifest.read_bytes()).get("detector_type")
    except (OSError, ValueError, AttributeError):
        yield at, folder, "artifact.json cannot be read; fit the detector again", ""
        return
    if held != monitor.detector.type:
        yield at, folder, f"holds a {held}, but detector.type is {monitor.detector.type}", ""
