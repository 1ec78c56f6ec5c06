"""From a file and the environment to settings, or to every mistake in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.configuration.crosscheck import cross_check
from monitor.configuration.document import Document, place_of, read, spelled
from monitor.configuration.environment import override
from monitor.configuration.mistakes import ConfigurationError, Mistake, nearest
from monitor.configuration.schema import known_keys, known_values
from monitor.settings import Settings


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file, overridden by the environment; relative paths are relative to the file.

    Raises
    ------
    ConfigurationError : with every mistake that was found.
    """
    settings, mistakes = _read(path, os.environ if environ is None else environ)
    if settings is None or mistakes:
        raise ConfigurationError(mistakes)
    return settings


def load_unfitted(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """:func:`load`, but artefacts need not be there yet: for the command that writes them."""
    settings, mistakes = _read(path, os.environ if environ is None else environ)
    mistakes = [mistake for mistake in mistakes if not mistake.path.endswith((".artifact", ".reference"))]
    if settings is None or mistakes:
        raise ConfigurationError(mistakes)
    return settings


def check(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Mistake, ...]:
    """Every mistake of a file and the environment; empty if there is none."""
    try:
        return tuple(_read(path, os.environ if environ is None else environ)[1])
    except ConfigurationError as error:
        return error.mistakes


def _read(path: Path, environ: Mapping[str, str]) -> tuple[Settings | None, list[Mistake]]:
    document = read(path)
    override(document, environ, Settings.model_fields)
    mistakes = list(document.mistakes)
    _resolve(document.values, path.resolve().parent)
    try:
        settings = Settings.model_validate(document.values)
    except ValidationError as error:
        mistakes += _mistakes(error, document)
        settings = None
    if settings is not None:
        mistakes += cross_check(settings, document.places)
    return settings, sorted(mistakes, key=lambda mistake: (mistake.origin, mistake.line, mistake.column))


def _mistakes(error: ValidationError, document: Document) -> Iterator[Mistake]:
    for item in error.errors(include_url=False):
        path, value = _located(item["loc"], document.values)
        place = place_of(document.places, path)
        kind, word = item["type"], ""
        expected = item["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            keys = known_keys(path[:-1], document.values)
            expected, word, value = "unknown key", nearest(path[-1], keys), None
        elif kind == "missing":
            expected, value = "is required and missing", None
        elif kind in ("literal_error", "union_tag_invalid"):
            if kind == "union_tag_invalid":
                path, value = (*path, "type"), value.get("type") if isinstance(value, dict) else value
                place = place_of(document.places, path)
            choices = known_values(path, document.values)
            expected, word = f"expected one of {', '.join(choices)}", nearest(value, choices)
        elif kind == "union_tag_not_found":
            expected, value = f"needs a type: one of {', '.join(known_values((*path, 'type'), document.values))}", None
        elif isinstance(value, (dict, list)):
            value = None
        yield Mistake(*place, spelled(path), value, expected, word)


def _located(loc: tuple[Any, ...], values: Any) -> tuple[tuple[int | str, ...], Any]:
    """The document's path of a pydantic location, which names union members too; and the value there."""
    path: tuple[int | str, ...] = ()
    at = values
    for i, part in enumerate(loc):
        if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int) and part < len(at)):
            at = at[part]
            path = (*path, part)
        elif i == len(loc) - 1 and isinstance(at, dict) and isinstance(part, str) and not part.startswith("function-"):
            return (*path, part), None
    return path, at


_PATHS = (("transport", "path"), ("capture", "spool"))


def _resolve(values: dict[str, Any], base: Path) -> None:
    """Make relative paths relative to the file, in place."""

    def resolve(section: Any, key: str) -> None:
        if isinstance(section, dict) and isinstance(section.get(key), str) and section[key] != "-":
            section[key] = str(base / section[key])

    defaults = Settings()
    for section, key in _PATHS:
        given = values.setdefault(section, {})
        if isinstance(given, dict):
            given.setdefault(key, getattr(getattr(defaults, section), key))
            resolve(given, key)
    if "sinks" not in values:
        values["sinks"] = [sink.model_dump() for sink in defaults.sinks]
    for sink in values["sinks"] if isinstance(values["sinks"], list) else ():
        if isinstance(sink, dict) and sink.get("type") == "store":
            sink.setdefault("path", ".offpath/findings.db")
        resolve(sink, "path")
    for monitor in values.get("monitors") or ():
        if isinstance(monitor, dict):
            resolve(monitor.get("detector"), "artifact")
            resolve(monitor.get("detector"), "reference")
