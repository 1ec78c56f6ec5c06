"""Does the artefact or the reference of a monitor fit its columns, its parameters and its window?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from detectors import artifact, registry
from detectors.agreement import differences
from detectors.base import DetectorError, Feature, Meta, default_features, to_json
from monitor import tables
from monitor.configuration.columncheck import Column
from monitor.configuration.detectorcheck import parameters
from monitor.configuration.document import Path
from monitor.configuration.labelcheck import none_known
from monitor.configuration.mistakes import Found
from monitor.configuration.paths import near_path


def check_fitted(
    monitor: Mapping[str, Any], columns: Sequence[Column] | None, at: Path, base: FilePath
) -> Iterator[Found]:
    """Mistakes of a monitor's artefact or reference, as far as the rest of its ``detector`` section is right.

    No columns: they are not configured. ``None``: another mistake hides which they are.
    """
    wanted = monitor.get("detector")
    if not isinstance(wanted, dict) or str(wanted.get("type")) not in registry.DETECTOR_TYPES:
        return
    folder, reference = wanted.get("artifact"), wanted.get("reference")
    if isinstance(folder, str) and reference is None:
        yield from _artifact(monitor, wanted, FilePath(folder), columns, at, base)
    elif isinstance(reference, str) and folder is None:
        made = _made(wanted)
        yield from _reference(FilePath(reference), columns, made, monitor, at, base)
        if made is not None:
            yield from _window(monitor, made.meta, at)


def _made(wanted: Mapping[str, Any]) -> Any:
    """The detector, without the parameters that are wrong; ``None`` if it cannot be."""
    usable, _ = registry.sift_params(wanted["type"], parameters(wanted))
    try:
        return registry.create(wanted["type"], **usable)
    except (DetectorError, ImportError):
        return None


def _artifact(
    monitor: Mapping[str, Any],
    wanted: Mapping[str, Any],
    folder: FilePath,
    columns: Sequence[Column] | None,
    at: Path,
    base: FilePath,
) -> Iterator[Found]:
    here: Path = (*at, "detector", "artifact")
    if not (folder / artifact.MANIFEST).is_file():
        yield Found(here, str(folder), *_no_artifact(folder, base))
        return
    kind = wanted["type"]
    try:
        held = artifact.verify(folder)
        fitted = artifact.features_of(held)
        if held["detector_type"] != kind:
            yield Found(
                here, str(folder), f"holds a detector of type {held['detector_type']}, but detector.type is {kind}"
            )
            return
        meta = registry.create(kind, **held["params"]).meta
    except (DetectorError, KeyError, TypeError) as error:
        yield Found(here, None, str(error))
        return
    told = registry.runs_code(kind, parameters(wanted))  # then it is said of them
    if not told and artifact.holds_code(held) and wanted.get("allow_code") is not True:
        yield Found((*at, "detector", "artifact"), str(folder), f"holds {artifact.CODE}")
    if columns:
        yield from _columns(folder, fitted, columns, at)
    elif columns is not None:
        yield from _sides(monitor, fitted, at)
    yield from _parameters(registry.sift_params(kind, parameters(wanted))[0], held["params"], at)
    yield from _window(monitor, meta, at)


def _no_artifact(folder: FilePath, base: FilePath) -> tuple[str, str]:
    if any((folder / name).is_file() for name in ("config.toml", "meta.dill")):
        expected = (
            "is what alibi-detect has saved: say type: AlibiDetect, reference: clean rows, and params: {saved: it}"
        )
        return expected, ""
    expected = "there is no artefact in this directory; `offpath fit` writes one"
    below = sorted(found.parent.name for found in folder.glob(f"*/{artifact.MANIFEST}"))
    if below:
        return f"{expected}. Below it are {', '.join(below[:10])}", ""
    return expected, near_path(str(folder), base)


def _columns(folder: FilePath, fitted: Sequence[Feature], columns: Sequence[Column], at: Path) -> Iterator[Found]:
    for column, what, was, now in differences(fitted, [column.feature for column in columns]):
        if column is None:
            expected = f"was fitted on the columns {was}, but the monitor selects {now}; fit it again"
            yield Found((*at, "detector", "artifact"), str(folder), expected)
        else:
            key = "type" if what == "kind" else what
            expected = f"the artefact {folder.name} was fitted with {was}; change them back, or fit it again"
            yield Found((*columns[column].path, key), now, expected)


def _sides(monitor: Mapping[str, Any], fitted: Sequence[Feature], at: Path) -> Iterator[Found]:
    """Without configured columns the detector's are looked for in the payloads, but whose they are, nothing says."""
    if monitor.get("side") == "joined" and tuple(fitted) != default_features(len(fitted)):
        names = ", ".join(feature.name for feature in fitted)[:200]
        expected = f"needs features and outputs of the model: which of {names} are the request's, which the response's"
        yield Found((*at, "side"), "joined", expected)


def _parameters(given: Mapping[str, Any], had: Mapping[str, Any], at: Path) -> Iterator[Found]:
    for name, value in given.items():
        if name not in had or to_json(value) == had[name]:
            continue
        others = {"p_val": "ert", "ert": "p_val"}
        other = others.get(name, "") if had[name] is None else ""
        was = f"{other}: {had[other]}" if had.get(other) is not None else f"{name}: {had[name]}"
        expected = "without it" if had[name] is None and not other else f"with {was}"
        yield Found((*at, "detector", "params", name), value, f"the artefact was fitted {expected}; fit it again")


def _reference(
    path: FilePath,
    columns: Sequence[Column] | None,
    made: Any,
    monitor: Mapping[str, Any],
    at: Path,
    base: FilePath,
) -> Iterator[Found]:
    here: Path = (*at, "detector", "reference")
    if not path.is_file():
        yield Found(here, str(path), "there is no such file", near_path(str(path), base))
        return
    if columns is None:
        return
    try:
        table = tables.read(path, [column.feature for column in columns])
    except tables.TableError as error:
        yield Found(here, None, str(error))
        return
    if not columns:
        yield from _sides(monitor, table.features, at)
    wrong = "" if made is None else _fit(made, table)
    if wrong:
        yield Found(here, str(path), wrong)
    places = {column.feature: column.path for column in columns}
    for found in table.strangers:
        if found.everybody:
            labels = ", ".join(found.feature.categories) or "none"
            yield Found((*places[found.feature], "categories"), labels, *none_known(found, path.name))


def _fit(made: Any, table: tables.Table) -> str:
    """Why the detector cannot be fitted; ``""`` if it can, or if that takes a package as large as torch."""
    n, least = len(table.rows), made.meta.min_rows
    if registry.requires(made.meta.detector_type, made.meta.params):
        return "" if n >= least else f"holds {n:,} rows, at least {least:,} are needed"
    try:
        made.fit(table.rows, table.features)
    except DetectorError as error:
        return str(error)
    return ""


def _window(monitor: Mapping[str, Any], meta: Meta, at: Path) -> Iterator[Found]:
    """Windows in which the detector would never speak."""
    window = monitor.get("window", {"count": 1000})
    for key in ("count", "sliding", "max_rows", "sample"):
        rows = window.get(key) if isinstance(window, dict) else None
        if isinstance(rows, int) and not isinstance(rows, bool) and 0 < rows < meta.min_rows:
            expected = f"expected at least {meta.min_rows:,}, the rows below which the detector says nothing (min_rows)"
            yield Found((*at, "window", key), rows, expected)
