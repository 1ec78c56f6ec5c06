"""What pydantic found wrong, in words for people who write YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from monitor.configuration.document import Document, Path, place_of, spelled
from monitor.configuration.mistakes import Mistake, nearest
from monitor.configuration.schema import known_keys, known_values, sections_with
from monitor.settings.section import Conflicts

_WORDS = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "tuple_type": "expected a list: [a, b], or one item after another behind '- '",
    "list_type": "expected a list: [a, b], or one item after another behind '- '",
    "dict_type": "expected keys and values",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_pattern_mismatch": "expected a name: letters, digits, '.', '_' and '-', at most 100 of them, "
    "the first and the last a letter or a digit",
}


def mistakes_of(error: ValidationError, document: Document, at: Path = ()) -> Iterator[tuple[Path, Mistake]]:
    """The mistakes and their paths; several about one value (the members of a union) are told as one.

    ``at`` is the place of what was validated, if that was not the whole document.
    """
    found: dict[Path, list[tuple[Any, str, str]]] = {}
    for item in error.errors(include_url=False):
        path, value = _located((*at, *item["loc"]), document.values)
        for part in _parts(item):
            where, *told = _told(part, path, value, document.values)
            found.setdefault(where, []).append((told[0], told[1], told[2]))
    for path, several in found.items():
        value, expected, word = several[0]
        others = [text.removeprefix("expected ") for _, text, _ in several[1:] if text != expected]
        text = " or ".join(dict.fromkeys([expected, *others]))
        hidden = isinstance(value, (dict, list, tuple, SecretStr)) or path[-1:] == ("token",)
        shown = None if hidden else _without_password(value)
        yield path, Mistake(*place_of(document.places, path), spelled(path), shown, text, word)


def _without_password(value: Any) -> Any:
    """A URL without its user; any other value as it is."""
    return re.sub(r"//[^/\s]*@", "//...@", value, count=1) if isinstance(value, str) else value


def _parts(item: ErrorDetails) -> Iterator[ErrorDetails]:
    """One for each thing that a section says of itself."""
    error = item.get("ctx", {}).get("error")
    if not isinstance(error, Conflicts):
        yield item
        return
    for text in error.texts:
        yield ErrorDetails(type="value_error", loc=item["loc"], msg=text, input=item["input"])


def _told(item: ErrorDetails, path: Path, value: Any, values: Any) -> tuple[Path, Any, str, str]:
    """The path, the value to show, what was expected, and the nearest word."""
    kind = item["type"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        near = nearest(key, known_keys(path[:-1], values))
        below = sections_with(key, path[:-1], values)
        if below:
            return path, None, f"unknown key here; it belongs under {' or '.join(below)}", ""
        known = "" if near else f"; known are {', '.join(known_keys(path[:-1], values))}"
        return path, None, f"unknown key{known}", near
    if kind == "missing":
        return (*path, item["loc"][-1]), None, "is required and missing", ""
    if kind == "union_tag_not_found":
        return path, None, f"needs a type: one of {', '.join(known_values((*path, 'type'), values))}", ""
    if kind == "union_tag_invalid":
        path, value = (*path, "type"), value.get("type") if isinstance(value, dict) else value
    if kind in ("literal_error", "union_tag_invalid"):
        choices = known_values(path, values)
        return path, value, f"expected one of {', '.join(choices)}", nearest(value, choices)
    expected = _expected(item, path, value, values)
    key, colon, rest = expected.partition(": ")
    if kind == "value_error" and colon and isinstance(value, dict) and key in known_keys(path, values):
        return (*path, key), value.get(key), rest, ""  # a section that says which of its keys is wrong
    return path, value, expected, ""


def _expected(item: ErrorDetails, path: Path, value: Any, values: Any) -> str:
    kind = item["type"]
    if kind in ("model_type", "model_attributes_type"):
        text = f"expected keys and values: {', '.join(known_keys(path, values))}"
    elif kind == "string_type":
        text = "expected text" if isinstance(value, (dict, list, type(None))) else "expected text: put it in quotes"
    else:
        text = _WORDS.get(kind, item["msg"].removeprefix("Value error, ")).format(
            **{
                name: f"{limit:,g}" if isinstance(limit, float) else f"{limit:,}" if isinstance(limit, int) else limit
                for name, limit in item.get("ctx", {}).items()
            }
        )
    return f"{text}; nothing is given" if value is None else text


def _located(location: Path, values: Any) -> tuple[Path, Any]:
    """The document's path of a pydantic location, which names union members too; and the value there."""
    path: Path = ()
    at = values
    for part in location:
        if isinstance(at, dict):
            inside = part in at
        else:
            inside = isinstance(at, (list, tuple)) and isinstance(part, int) and part < len(at)
        if inside:
            at = at[part]
            path = (*path, part)
    return path, at
