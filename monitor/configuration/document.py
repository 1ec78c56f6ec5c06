"""A YAML document as plain values, with the place of every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from monitor.configuration.mistakes import ConfigurationError, Mistake

Path = tuple["str | int", ...]
"""Keys and indices from the top to a value."""

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Aliases can make much of little text: ``b: [*a, *a]``, ``c: [*b, *b]``, and so on."""

_MERGE = "tag:yaml.org,2002:merge"


class Place(NamedTuple):
    """Where a value stands; ``origin`` is a file or an environment variable."""

    origin: str
    line: int
    column: int


class Document(NamedTuple):
    """Values, their places, and what was wrong with the text itself."""

    values: dict[str, Any]
    places: dict[Path, Place]
    mistakes: list[Mistake]


def read(path: FilePath) -> Document:
    """The document of a file.

    Raises
    ------
    ConfigurationError : there is no such file, it is too large, no text, or no YAML.
    """
    origin = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unusable(origin, f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise _unusable(origin, f"is larger than {MAX_BYTES} bytes")
    try:
        return parse(content.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unusable(origin, f"is no UTF-8 text: {error.reason}", line) from None


def parse(text: str, origin: str) -> Document:
    """The document of a text. Raises :class:`ConfigurationError` if it is no YAML mapping."""
    document = Document({}, {(): Place(origin, 1, 1)}, [])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise _unusable(origin, "expected keys such as models: and monitors:", 1)
        document.values.update(_mapping(node, (), origin, document, frozenset()))
    except yaml.YAMLError as error:
        raise ConfigurationError([_syntax(error, origin, text)]) from None
    except RecursionError:
        raise _unusable(origin, "is nested too deeply", 1) from None
    return document


def _unusable(origin: str, why: str, line: int = 0) -> ConfigurationError:
    return ConfigurationError([Mistake(origin, line, min(line, 1), "", None, why)])


def _syntax(error: yaml.YAMLError, origin: str, text: str) -> Mistake:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        return Mistake(
            origin, line, column, "", None, f"is no valid YAML: a character that is not allowed: {error.reason}"
        )
    mark = getattr(error, "problem_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Mistake(origin, line, column, "", None, f"is no valid YAML: {problem}")


def _value(node: yaml.Node, path: Path, origin: str, document: Document, above: frozenset[int]) -> Any:
    document.places[path] = Place(origin, node.start_mark.line + 1, node.start_mark.column + 1)
    if len(document.places) > MAX_VALUES:
        raise _unusable(origin, f"holds more than {MAX_VALUES} values", node.start_mark.line + 1)
    if id(node) in above or len(path) > MAX_DEPTH:  # an alias to something that holds it, or very deep
        document.mistakes.append(_mistake(document, path, None, "is nested too deeply, or holds itself"))
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, origin, document, above | {id(node)})
    if isinstance(node, yaml.SequenceNode):
        inner = above | {id(node)}
        return [_value(item, (*path, i), origin, document, inner) for i, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except (yaml.YAMLError, ValueError) as error:
        document.mistakes.append(_mistake(document, path, node.value, f"cannot be read: {error}".splitlines()[0]))
        return None


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _mapping(
    node: yaml.MappingNode, path: Path, origin: str, document: Document, above: frozenset[int]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    own: dict[str, int] = {}
    for key_node, value_node, merged in _entries(node, above):
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        here = (*path, key)
        place = Place(origin, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key in own and not merged:
            wrong = f"is given twice; the first is in line {own[key]}"
            document.mistakes.append(Mistake(*place, spelled(here), None, wrong))
        if key in values:  # what the mapping says itself goes before what it merges
            continue
        values[key] = _value(value_node, here, origin, document, above)
        document.places[here] = place
        if not merged:
            own[key] = place.line
    return values


def _entries(node: yaml.MappingNode, above: frozenset[int]) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
    """Keys and values, then those of the mappings that ``<<`` merges in; the third says that they were merged."""
    merges = [value for key, value in node.value if key.tag == _MERGE]
    for key, value in node.value:
        if key.tag != _MERGE:
            yield key, value, False
    for value in merges:
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(source, yaml.MappingNode) or id(source) in above:
                raise yaml.composer.ComposerError(
                    None, None, "<< takes a mapping, or a list of mappings", source.start_mark
                )
            for key, inner, _ in _entries(source, above | {id(source)}):
                yield key, inner, True


def _mistake(document: Document, path: Path, value: Any, expected: str) -> Mistake:
    return Mistake(*document.places[path], spelled(path), value, expected)


def spelled(path: Path) -> str:
    """``("monitors", 0, "window")`` as ``monitors[0].window``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def place_of(places: Mapping[Path, Place], path: Path) -> Place:
    """The place of a value, or of the innermost value around it that is there."""
    while path not in places:
        path = path[:-1]
    return places[path]
