"""Single values from the environment: ``OFFPATH_WORKER__LISTEN=0.0.0.0:9090``.

Two underscores go one level down; names are written in any case, with ``_`` for ``-``. An item of a list is called
by its ``name``, or by its index: ``OFFPATH_MONITORS__INCOME_DRIFT__WINDOW__COUNT=500``, ``OFFPATH_SINKS__0__PATH=x``.
Values are read as YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from monitor.configuration.document import Document, Path, Place
from monitor.configuration.mistakes import Mistake, nearest

PREFIX = "OFFPATH_"

NOT_SETTINGS = frozenset({"OFFPATH_DATA", "OFFPATH_DEBUG", "OFFPATH_INGEST_TOKEN"})
"""Variables that mean something else, and so does everything that begins with ``OFFPATH_TEST_``."""


def override(document: Document, environ: Mapping[str, str], sections: Mapping[str, Any]) -> None:
    """Put the environment's values into the document; ``sections`` are the keys that its top may have."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or variable.startswith("OFFPATH_TEST_"):
            continue
        steps = variable[len(PREFIX) :].lower().split("__")
        if len(steps) == 1 and steps[0] not in sections:
            continue  # another program's, or one that a container platform made of a service's name
        path = _set(document, variable, steps, environ[variable], sections)
        if path is not None:
            document.places[path] = Place(variable, 0, 0)


def _set(document: Document, variable: str, steps: list[str], text: str, sections: Mapping[str, Any]) -> Path | None:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    at: Any = document.values
    path: Path = ()
    for i, step in enumerate(steps):
        key = _key(at, step)
        if key is None or (i == 0 and key not in sections):
            known = _names(at) if isinstance(at, list) else list(sections)
            document.mistakes.append(
                Mistake(
                    variable, 0, 0, step, None, f"there is none of that name: {', '.join(known)}", nearest(step, known)
                )
            )
            return None
        path = (*path, key)
        if i == len(steps) - 1:
            at[key] = value
        elif isinstance(at, list) or isinstance(at.get(key), (dict, list)):
            at = at[key]
        else:
            at[key] = {}
            at = at[key]
    return path


def _names(items: list[Any]) -> list[str]:
    return [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]


def _key(at: Any, step: str) -> str | int | None:
    """The key or index that the step means, written in the document's way."""
    if isinstance(at, dict):
        return next((key for key in at if _plain(key) == _plain(step)), step)
    if isinstance(at, list):
        for i, item in enumerate(at):
            if isinstance(item, dict) and _plain(item.get("name", "")) == _plain(step):
                return i
        if step.isdigit() and int(step) < len(at):
            return int(step)
    return None


def _plain(name: Any) -> str:
    return str(name).lower().replace("-", "_").replace(".", "_")
