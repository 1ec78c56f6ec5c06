"""Is there such a detector, are its parameters right, and does its artefact or reference fit?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Any

from detectors import artifact
from detectors.base import to_json
from detectors.registry import DETECTOR_TYPES, check_params, load_class
from monitor.configuration.document import Path
from monitor.configuration.mistakes import nearest

Told = tuple[Path, Any, str, str]
"""Path below ``detector``, value, what was expected, nearest word."""


def check_detector(wanted: Any, columns: Sequence[str]) -> Iterator[Told]:
    """Mistakes of a ``detector`` section whose rows have these columns (none: they are not configured)."""
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        return
    kind = wanted["type"]
    if kind not in DETECTOR_TYPES:
        expected = f"is no detector_type: {', '.join(DETECTOR_TYPES)}"
        yield ("type",), kind, expected, nearest(kind, DETECTOR_TYPES)
        return
    for package in getattr(load_class(kind), "requires", ()):
        if find_spec(package) is None:
            yield ("type",), None, f'needs {package}: pip install "offpath[{package}]"', ""
    params = wanted.get("params", {})
    params = params if isinstance(params, dict) else {}
    for problem in check_params(kind, params):
        yield _parameter(kind, params, problem)
    reference, folder = wanted.get("reference"), wanted.get("artifact")
    if isinstance(reference, str):
        yield from _reference(reference)
    if isinstance(folder, str):
        yield from _artifact(kind, params, folder, columns)


def _parameter(kind: str, params: dict[str, Any], problem: str) -> Told:
    """The parameter that the sentence speaks of, if it speaks of one."""
    said = next((name for name in params if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", problem)), None)
    if said is None:
        return ("params",), None, problem, ""
    path: Path = ("params", said)
    if f"no parameter {said!r}" in problem:
        import inspect

        known = list(inspect.signature(load_class(kind)).parameters)
        return path, None, f"unknown parameter; {kind} has {', '.join(known)}", nearest(said, known)
    return path, None, problem, ""


def _reference(text: str) -> Iterator[Told]:
    path = FilePath(text)
    if not path.is_file():
        yield ("reference",), text, "there is no such file", ""
    elif not path.name.lower().endswith((".csv", ".csv.gz", ".parquet", ".pq", ".npz")):
        yield ("reference",), text, "is no .csv, .csv.gz, .parquet or .npz file", ""


def _artifact(kind: str, params: dict[str, Any], folder: str, columns: Sequence[str]) -> Iterator[Told]:
    if not (FilePath(folder) / artifact.MANIFEST).is_file():
        yield ("artifact",), folder, "there is no artefact in this directory; `offpath fit` writes one", ""
        return
    try:
        held = artifact.describe(FilePath(folder))
        fitted = [str(feature["name"]) for feature in held["features"]]
        had, other = held["params"], held["detector_type"]
    except (artifact.ArtifactError, KeyError, TypeError) as error:
        yield ("artifact",), None, str(error), ""
        return
    if other != kind:
        yield ("artifact",), folder, f"holds a {other}, but detector.type is {kind}", ""
        return
    if columns and list(columns) != fitted:
        expected = f"was fitted on the columns {', '.join(fitted)}, but the monitor selects {', '.join(columns)}"
        yield ("artifact",), folder, f"{expected}; fit it again", ""
    for name, value in params.items():
        if name in had and json.dumps(to_json(value)) != json.dumps(had[name]) and value != had[name]:
            yield ("params", name), value, f"the artefact was fitted with {had[name]!r}; fit it again", ""
