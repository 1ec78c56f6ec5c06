"""Single values from the environment: ``OFFPATH_WORKER__LISTEN=0.0.0.0:9090``.

Two underscores go one level down; names are written in any case, with ``_`` for ``-`` and ``.``. An item of a list is
called by its ``name``, or by its index: ``OFFPATH_MONITORS__INCOME_DRIFT__WINDOW__COUNT=500``,
``OFFPATH_SINKS__0__PATH=x``. Where the configuration holds text, the variable's text is taken as it is; elsewhere it is
read as YAML, so that whole sections can be given: ``OFFPATH_SINKS='[{type: prometheus}]'``. Relative paths are
relative to the configuration file, as they are in it.

Left alone are the variables of :data:`NOT_SETTINGS`, those that the configuration names, and what container platforms
make of a service's name: ``OFFPATH_PORT`` and the like. Any other without two underscores that names no section is
warned of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from monitor.configuration.document import Document, Path, Place, spelled
from monitor.configuration.mistakes import Mistake, nearest
from monitor.configuration.nodes import Loader
from monitor.configuration.schema import known_keys, known_types
from monitor.settings import Settings

PREFIX = "OFFPATH_"

NOT_SETTINGS = frozenset(
    {
        "OFFPATH_DATA",
        "OFFPATH_DATA_OFFLINE",
        "OFFPATH_DEBUG",
        "OFFPATH_INGEST_TOKEN",
        "OFFPATH_KAFKA_PASSWORD",
        "OFFPATH_REDACT_KEY",
    }
)
"""Variables that mean something else, and so does everything that begins with ``OFFPATH_TEST_``."""

_OF_PLATFORMS = re.compile(r"OFFPATH_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""What Kubernetes and Docker make of services named ``offpath`` and ``offpath-worker``."""


def override(document: Document, environ: Mapping[str, str]) -> None:
    """Put the environment's values into the document."""
    others = NOT_SETTINGS | set(_named(document.values))
    for variable in sorted(environ, key=lambda name: (not name.upper().endswith("__TYPE"), name)):  # it says what fits
        if not variable.startswith(PREFIX) or variable in others or variable.startswith("OFFPATH_TEST_"):
            continue
        steps = variable[len(PREFIX) :].lower().split("__")
        if len(steps) == 1 and steps[0] not in Settings.model_fields:
            _unknown(document, variable, steps[0])
            continue
        try:
            _set(document, variable, steps, environ[variable])
        except LookupError as error:
            document.mistakes.append(error.args[0])


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    """The variables that the configuration itself names."""
    capture, ingest, transport = values.get("capture"), values.get("ingest"), values.get("transport")
    security = transport.get("security") if isinstance(transport, dict) else None
    for section, key in ((capture, "redact_key_env"), (ingest, "token_env"), (security, "password_env")):
        name = section.get(key) if isinstance(section, dict) else None
        if isinstance(name, str):
            yield name


def _unknown(document: Document, variable: str, step: str) -> None:
    """A variable that is no setting: a mistake if it is plain what was meant, else a warning."""
    meant = _single_underscore(step)
    if meant:
        wrong = "is no setting: two underscores go one level down"
        document.mistakes.append(Mistake(variable, 0, 0, "", None, wrong, meant))
    elif not _OF_PLATFORMS.fullmatch(variable):
        known = [*(name.removeprefix(PREFIX) for name in sorted(NOT_SETTINGS)), *map(str.upper, Settings.model_fields)]
        near = nearest(step, known)
        wrong = "is no variable of offpath, and changes nothing"
        document.warnings.append(Mistake(variable, 0, 0, "", None, wrong, near and PREFIX + near))


def _single_underscore(step: str) -> str:
    """``worker_listen`` as the variable that was meant, if there is such a setting."""
    for section in Settings.model_fields:
        key = step.removeprefix(f"{section}_")
        if key != step and key in known_keys((section,), {}):
            return f"{PREFIX}{section}__{key}".upper()
    return ""


def _set(document: Document, variable: str, steps: list[str], text: str) -> None:
    """Raises :class:`LookupError` with a mistake."""
    at: Any = document.values
    path: Path = ()
    for step in steps[:-1]:
        key = _key(document, variable, path, at, step)
        path = (*path, key)
        if not isinstance(at, list) and at.get(key) is None:
            _new_section(document, variable, path, at, key)
        at = at[key]
        if not isinstance(at, (dict, list)):
            raise LookupError(Mistake(variable, 0, 0, spelled(path), None, "is a single value, with nothing below it"))
    key = _key(document, variable, path, at, steps[-1])
    if key == "type" and isinstance(at, dict) and at.get("type") != text:
        for default in [other for other in at if (*path, other) not in document.places]:
            del at[default]  # of the type that it was
    path = (*path, key)
    for stale in [place for place in document.places if place[: len(path)] == path]:
        del document.places[stale]
    document.places[path] = Place(variable, 0, 0)
    at[key] = _read(text, known_types(path, document.values))


def _new_section(document: Document, variable: str, path: Path, at: dict[str, Any], key: Any) -> None:
    types = known_types(path, document.values)
    if "array" in types:
        raise LookupError(Mistake(variable, 0, 0, spelled(path), None, "none is configured that could be changed"))
    if types and "object" not in types:
        raise LookupError(Mistake(variable, 0, 0, spelled(path), None, "is a single value, with nothing below it"))
    at[key] = {}
    document.places[path] = Place(variable, 0, 0)


def _read(text: str, types: set[str]) -> Any:
    if "string" in types:
        return None if not text and "null" in types else text
    try:
        return yaml.load(text, Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _key(document: Document, variable: str, path: Path, at: Any, step: str) -> str | int:
    """The key or index that the step means, written in the document's way."""
    if isinstance(at, list):
        for i, item in enumerate(at):
            if _plain(_name(item)) == _plain(step):
                return i
        if step.isdecimal() and int(step) < len(at):
            return int(step)
        known = [name for item in at if (name := _name(item))]
    else:
        known = [*at, *known_keys(path, document.values)]
        for key in known:
            if _plain(key) == _plain(step):
                return key
        if path:  # unknown keys of sections are found with those of the file
            return step
    expected = f"there is none of that name; there are {', '.join(dict.fromkeys(known)) or 'none'}"
    raise LookupError(Mistake(variable, 0, 0, spelled((*path, step)), None, expected, nearest(step, known)))


def _name(item: Any) -> str:
    """An item's name; sinks are called by their type where they have none."""
    return str(item.get("name") or item.get("type") or "") if isinstance(item, dict) else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
