"""Is there such a detector, are its parameters right, and does the window hold enough rows for it?"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Any

from detectors.extras import how_to_have
from detectors.registry import (
    DETECTOR_TYPES,
    PATHS,
    Problem,
    is_online,
    load_class,
    requires,
    runs_code,
    sift_params,
)
from monitor.configuration.document import Path
from monitor.configuration.mistakes import Found, nearest
from monitor.configuration.paths import near_path


def check_detector(wanted: Any, at: Path) -> Iterator[Found]:
    """Mistakes in the ``detector`` section of the monitor at ``at`` that show without its artefact."""
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        return
    here, kind = (*at, "detector"), wanted["type"]
    if kind not in DETECTOR_TYPES:
        expected = f"expected one of {', '.join(DETECTOR_TYPES)}"
        yield Found((*here, "type"), kind, expected, nearest(kind, DETECTOR_TYPES))
        return
    for package in requires(kind, parameters(wanted)):
        if find_spec(package) is None:
            yield Found((*here, "type"), None, how_to_have(package))
    if wanted.get("allow_code") is not True and runs_code(kind, parameters(wanted)):
        expected = "names a program that is run: if you trust its origin, say allow_code: true beside it"
        yield Found((*here, "params"), None, expected)
    for name in PATHS.get(kind, ()) if wanted.get("reference") is not None else ():
        yield from _path(parameters(wanted).get(name), name, here)
    for problem in sift_params(kind, parameters(wanted))[1]:
        yield _parameter(kind, parameters(wanted), problem, here)


def check_online(monitor: Mapping[str, Any], at: Path) -> Iterator[Found]:
    """Mistakes of a monitor whose detector judges row by row: it has no windows, and no alarm that waits."""
    detector, window, alarm = (monitor.get(key) for key in ("detector", "window", "alarm"))
    kind = detector.get("type") if isinstance(detector, dict) else None
    if not isinstance(kind, str) or not is_online(kind):
        return
    for key in ("time", "sliding"):
        if isinstance(window, dict) and window.get(key) is not None:
            expected = f"is of no use to {kind}, which judges every row; say count: a finding every so many rows"
            yield Found((*at, "window", key), window[key], expected)
    if isinstance(alarm, dict) and alarm.get("consecutive", 1) != 1:
        expected = f"is of no use to {kind}, whose alarms come once in ert rows as they are; leave it out"
        yield Found((*at, "alarm", "consecutive"), alarm["consecutive"], expected)


def _path(value: Any, name: str, at: Path) -> Iterator[Found]:
    """Mistakes of a parameter that names what the detector is made of."""
    if value is None or value == "":
        yield Found((*at, "params"), None, f"{name}: is needed with reference: the directory that the detector is in")
    elif isinstance(value, str) and not FilePath(value).exists():
        yield Found((*at, "params", name), value, "there is no such file or directory", near_path(value))


def parameters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a ``detector`` section; none if they are no keys and values."""
    params = wanted.get("params", {})
    return params if isinstance(params, dict) else {}


def _parameter(kind: str, params: dict[str, Any], problem: Problem, at: Path) -> Found:
    named, text = problem.parameter, problem.text.removeprefix(f"{kind}: ")
    if not named:
        return Found((*at, "params"), None, text)
    path: Path = (*at, "params", named)
    known = list(inspect.signature(load_class(kind)).parameters)
    if named not in known:
        return Found(path, None, f"unknown parameter; {kind} has {', '.join(known)}", nearest(named, known))
    choices = re.search(r"must be one of ([\w, -]+), got", text)
    return Found(path, None, text, nearest(str(params[named]), choices[1].split(", ")) if choices else "")
