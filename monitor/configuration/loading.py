"""From a file and the environment to settings, or to every mistake in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.configuration.crosscheck import cross_check
from monitor.configuration.document import Document, place_of, read, spelled
from monitor.configuration.environment import override
from monitor.configuration.mistakes import ConfigurationError, Mistake
from monitor.configuration.validation import mistakes_of
from monitor.settings import Settings


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file, overridden by the environment; relative paths are relative to the file.

    ``environ`` defaults to the process's own; see :mod:`monitor.configuration.environment` for the variables.

    Raises
    ------
    ConfigurationError : with every mistake that was found.
    """
    return _settings(*_read(path, environ))


def load_unfitted(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """:func:`load`, but artefacts need not be there yet, nor fit: for the command that writes them."""
    settings, mistakes = _read(path, environ)
    return _settings(settings, [m for m in mistakes if not m.path.endswith((".artifact", ".reference"))])


def check(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Mistake, ...]:
    """Every mistake of a file and the environment; empty if there is none."""
    try:
        return tuple(_read(path, environ)[1])
    except ConfigurationError as error:
        return error.mistakes


def _settings(settings: Settings | None, mistakes: list[Mistake]) -> Settings:
    if settings is None or mistakes:
        raise ConfigurationError(mistakes)
    return settings


def _read(path: Path, environ: Mapping[str, str] | None) -> tuple[Settings | None, list[Mistake]]:
    document = read(path)
    _complete(document.values)
    override(document, os.environ if environ is None else environ)
    _resolve(document.values, path.resolve().parent)
    settings, found = _validate(document)
    mistakes = [*document.mistakes, *found.values()]
    for place, value, expected, word in cross_check(document.values):
        if place not in found:
            mistakes.append(Mistake(*place_of(document.places, place), spelled(place), value, expected, word))
    return settings, sorted(mistakes, key=lambda mistake: (mistake.line == 0, mistake.line, mistake.column))


def _validate(document: Document) -> tuple[Settings | None, dict[tuple[str | int, ...], Mistake]]:
    try:
        return Settings.model_validate(document.values), {}
    except ValidationError as error:
        return None, dict(mistakes_of(error, document))


def _complete(values: dict[str, Any]) -> None:
    """Put in the defaults that the environment may change or that hold paths. A section without content is none."""
    for section in [key for key, value in values.items() if value is None and key in Settings.model_fields]:
        del values[section]
    defaults = Settings()
    for section, key in _PATHS:
        given = values.setdefault(section, {})
        if isinstance(given, dict) and (section, given.get("type")) != ("transport", "kafka"):
            given.setdefault(key, getattr(getattr(defaults, section), key))
    sinks = values.setdefault("sinks", [sink.model_dump() for sink in defaults.sinks])
    for sink in sinks if isinstance(sinks, list) else ():
        if isinstance(sink, dict) and sink.get("type") == "store":
            sink.setdefault("path", ".offpath/findings.db")


_PATHS = (("transport", "path"), ("capture", "spool"))


def _resolve(values: dict[str, Any], base: Path) -> None:
    """Make relative paths relative to the file, in place."""

    def resolve(section: Any, key: str) -> None:
        text = section.get(key) if isinstance(section, dict) else None
        if isinstance(text, str) and text not in ("", "-"):
            section[key] = str(base / text)

    for section, key in (*_PATHS, ("payloads", "directory"), ("capture", "redact_key_file"), ("ingest", "token_file")):
        resolve(values.get(section), key)
    ingest = values.get("ingest")
    for key in ("cert", "key", "client_ca"):
        resolve(ingest.get("tls") if isinstance(ingest, dict) else None, key)
    transport = values.get("transport")
    for key in ("ca", "cert", "key", "password_file"):
        resolve(transport.get("security") if isinstance(transport, dict) else None, key)
    for sink in _items(values.get("sinks")):
        resolve(sink, "path")
    for monitor in _items(values.get("monitors")):
        for key in ("artifact", "reference"):
            resolve(monitor.get("detector"), key)


def _items(section: Any) -> list[dict[str, Any]]:
    return [item for item in section if isinstance(item, dict)] if isinstance(section, list) else []
