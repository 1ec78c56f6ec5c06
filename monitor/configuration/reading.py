"""A configuration file to a document, or to what is wrong with its text."""

from __future__ import annotations

from pathlib import Path

import yaml

from monitor.configuration.document import Document, Place, unusable
from monitor.configuration.mistakes import ConfigurationError, Mistake
from monitor.configuration.nodes import Loader, Nodes

MAX_BYTES = 1024 * 1024


def read(path: Path) -> Document:
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
        raise unusable(origin, f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise unusable(origin, f"is larger than {MAX_BYTES:,} bytes")
    try:
        return parse(content.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise unusable(origin, f"is no UTF-8 text: {error.reason}", line) from None


def parse(text: str, origin: str) -> Document:
    """The document of a text. Raises :class:`ConfigurationError` if it is no YAML mapping."""
    document = Document({}, {(): Place(origin, 1, 1)}, [], [])
    try:
        node = yaml.compose(text, Loader=Loader)
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise unusable(origin, "expected keys such as models: and monitors:", 1)
        document.values.update(Nodes(origin, document).mapping(node, (), frozenset()))
    except yaml.YAMLError as error:
        raise ConfigurationError([_syntax(error, origin, text)]) from None
    except RecursionError:
        raise unusable(origin, "is nested too deeply", 1) from None
    return document


def _syntax(error: yaml.YAMLError, origin: str, text: str) -> Mistake:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        said = f"a character that is not allowed: {error.reason}"
    else:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = _plainly(getattr(error, "problem", None) or str(error).splitlines()[0])
        opened, around = getattr(error, "context_mark", None), getattr(error, "context", None)
        if opened is not None and opened.line + 1 != line and "flow" in str(around):
            said = f"{said} (the bracket of line {opened.line + 1} is open)"
    return Mistake(origin, line, column, "", None, f"is no valid YAML: {said}")


def _plainly(problem: str) -> str:
    """The parser's words, and what to do about them."""
    return next(
        (f"{problem.removeprefix('but ')}: {advice}" for words, advice in _ADVICE.items() if words in problem), problem
    )


_ADVICE = {
    "character '\\t'": "indent with spaces, YAML takes no tabs",
    "that cannot start any token": "put the text in quotes",
    "mapping values are not allowed here": "check the indentation, and put text that holds ': ' in quotes",
    "could not find expected ':'": "a key needs a ':' behind it, here or in the line above",
    "expected <block end>": "the indentation fits nothing above it",
    "expected ',' or ']'": "close the list with ], or part its items with commas",
    "expected ',' or '}'": "close the braces, or part the keys with commas",
    "found undefined alias": "put text that begins with * in quotes",
    "unexpected end of stream": "a quote is open",
    "found another document": "one file holds one document, without a second ---",
}
