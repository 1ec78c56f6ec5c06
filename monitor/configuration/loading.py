"""From a file and the environment to settings, or to every mistake in them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from monitor.configuration.completing import complete, resolve_paths
from monitor.configuration.crosscheck import cross_check
from monitor.configuration.document import Document, Place, place_of, spelled
from monitor.configuration.document import Path as DocumentPath
from monitor.configuration.environment import override
from monitor.configuration.mistakes import ConfigurationError, Mistake
from monitor.configuration.reading import read
from monitor.configuration.validation import mistakes_of
from monitor.settings import Section, Settings


class Report(NamedTuple):
    """What was found: the settings if there is no mistake, every mistake, and what may be one."""

    settings: Settings | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...] = ()


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file, overridden by the environment; relative paths are relative to the file.

    ``environ`` defaults to the process's own; see :mod:`monitor.configuration.environment` for the variables. Warnings
    are logged.

    Raises
    ------
    ConfigurationError : with every mistake that was found.
    """
    return _settings(examine(path, environ))


def load_unfitted(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """:func:`load`, but artefacts and references need not be there, nor fit: for commands that do not judge.

    Without a path the environment alone is read, and paths are relative to the working directory.
    """
    return _settings(examine(path, environ, fitted=False))


def check(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Mistake, ...]:
    """Every mistake of a file and the environment; empty if there is none."""
    return examine(path, environ).mistakes


def examine(path: Path | None, environ: Mapping[str, str] | None = None, fitted: bool = True) -> Report:
    """Everything that there is to say of a file and the environment. Without ``fitted`` detectors' data is not read."""
    try:
        document = Document({}, {(): Place("the environment", 0, 0)}, [], []) if path is None else read(path)
    except ConfigurationError as error:
        return Report(None, error.mistakes)
    empty = path is not None and not document.values
    complete(document.values)
    override(document, os.environ if environ is None else environ)
    complete(document.values)  # again: another type has other defaults
    if empty and document.places.keys() == {()}:
        wrong = "is empty; expected keys such as models: and monitors:"
        document.mistakes.append(Mistake(str(path), 1, 1, "", None, wrong))
    base = Path.cwd() if path is None else path.resolve().parent
    resolve_paths(document.values, base)
    settings, found = _validate(document)
    mistakes = [*document.mistakes, *found.values()]
    for place, value, expected, word in cross_check(document.values, base, fitted):
        if place not in found:
            mistakes.append(
                Mistake(*place_of(document.places, place), spelled(place), _written(value, base), expected, word)
            )
    mistakes = [_with_variables(mistake, document) for mistake in mistakes]
    once = {(mistake.origin, mistake.path, mistake.expected): mistake for mistake in mistakes}.values()
    told = sorted(once, key=lambda mistake: (mistake.line == 0, mistake.line, mistake.column))
    return Report(None if told else settings, tuple(told), tuple(document.warnings))


S = TypeVar("S", bound=Section)


def with_flags(section: S, name: str, flags: Mapping[str, Any]) -> S:
    """A section of the settings in which a command's flags go before what it holds.

    Raises
    ------
    ConfigurationError : with every mistake in the flags.
    """
    values = {name: {**section.model_dump(), **flags}}
    places: dict[DocumentPath, Place] = {(name, key): Place(f"--{key.replace('_', '-')}", 0, 0) for key in flags}
    try:
        return type(section).model_validate(values[name])
    except ValidationError as error:
        document = Document(values, {(): Place("the flags", 0, 0), **places}, [], [])
        raise ConfigurationError([mistake for _, mistake in mistakes_of(error, document, (name,))]) from None


def _with_variables(mistake: Mistake, document: Document) -> Mistake:
    """A mistake of a section in which variables have replaced values names them: the file may be right."""
    if not mistake.line or not mistake.path:
        return mistake
    below = (f"{mistake.path}.", f"{mistake.path}[")
    names = sorted(
        {place.origin for path, place in document.places.items() if spelled(path).startswith(below) and not place.line}
    )
    return mistake._replace(expected=f"{mistake.expected}, with {', '.join(names)}") if names else mistake


def _written(value: Any, base: Path) -> Any:
    """A path as the file has it."""
    return value.removeprefix(f"{base}/") if isinstance(value, str) else value


def _settings(report: Report) -> Settings:
    for warning in report.warnings:
        logging.getLogger("offpath.configuration").warning("%s", warning)
    if report.settings is None:
        raise ConfigurationError(report.mistakes)
    return report.settings


def _validate(document: Document) -> tuple[Settings | None, dict[tuple[str | int, ...], Mistake]]:
    try:
        return Settings.model_validate(document.values), {}
    except ValidationError as error:
        return None, dict(mistakes_of(error, document))
