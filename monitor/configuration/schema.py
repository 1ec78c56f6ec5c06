"""The JSON Schema of the settings, and what it says about one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from detectors.registry import DETECTOR_TYPES
from monitor.settings import Settings


@lru_cache(maxsize=1)
def json_schema() -> Mapping[str, Any]:
    """JSON Schema, draft 2020-12, of the configuration file."""
    schema = Settings.model_json_schema()
    detector = schema["$defs"]["DetectorSettings"]["properties"]["type"]
    del detector["minLength"]
    detector["enum"] = list(DETECTOR_TYPES)  # which settings do not know
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "offpath configuration"}
    return {**head, **{key: value for key, value in schema.items() if key != "title"}}


def known_keys(path: tuple[int | str, ...], values: Any) -> list[str]:
    """The keys that a section may have."""
    return list(dict.fromkeys(key for schema in _schemas(path, values) for key in schema.get("properties", {})))


def known_values(path: tuple[int | str, ...], values: Any) -> list[str]:
    """The words that a value may be."""
    words: list[str] = []
    for schema in _schemas(path, values):
        words += [str(word) for word in schema.get("enum", ())]
        if "const" in schema:
            words.append(str(schema["const"]))
    return list(dict.fromkeys(words))


def known_types(path: tuple[int | str, ...], values: Any) -> set[str]:
    """The JSON types that a value may have; empty where anything goes, and where nothing is known."""
    return {schema["type"] for schema in _schemas(path, values) if "type" in schema}


def sections_with(key: str, path: tuple[int | str, ...], values: Any) -> list[str]:
    """The sections below a place that have the key."""
    below = [name for name in known_keys(path, values) if "object" in known_types((*path, name), values)]
    return [name for name in below if key in known_keys((*path, name), values)]


def _schemas(path: tuple[int | str, ...], values: Any) -> list[Mapping[str, Any]]:
    """The schemas that may hold at a place: of a union, those whose ``type`` is the value's, or else all."""
    at = list(_plain(json_schema()))
    for part in path:
        inner: list[Mapping[str, Any]] = []
        for schema in at:
            below = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
            if below is not None:
                inner += _plain(below)
        values = _step(values, part)
        word = values.get("type") if isinstance(values, dict) else None
        same = [s for s in inner if _is_of(s.get("properties", {}).get("type", {}), word)]
        at = same or inner
    return at


def _is_of(kind: Mapping[str, Any], word: Any) -> bool:
    """A section whose type need not be told is meant where none is."""
    const = kind.get("const")
    return bool(const is not None and const == (kind.get("default") if word is None else word))


def _plain(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema without references and unions."""
    if "$ref" in schema:
        yield from _plain(json_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]])
    elif ("anyOf" in schema or "oneOf" in schema) and "properties" not in schema:
        for member in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from _plain(member)
    else:
        yield schema


def _step(values: Any, part: int | str) -> Any:
    try:
        return values[part]
    except (KeyError, IndexError, TypeError):
        return None
