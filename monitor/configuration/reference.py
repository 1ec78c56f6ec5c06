"""Every key of the configuration as Markdown tables: the reference part of docs/configuration.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from monitor.configuration.schema import json_schema


def reference() -> str:
    """A table a section: key, type, default, meaning."""
    return "\n".join(_section("", json_schema())) + "\n"


def _section(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    properties: Mapping[str, Any] = schema["properties"]
    if path:
        yield from (f"### `{path}`", "")
        if text := schema.get("description"):
            yield from (" ".join(text.replace("``", "`").split()), "")
    if path:
        yield from ("| key | type | default | |", "|---|---|---|---|")
        required = schema.get("required", ())
        for key, value in properties.items():
            default = "required" if key in required else _default(value)
            text = " ".join(str(value.get("description", "")).split()).replace("|", "\\|")
            yield f"| `{key}` | {_type(value)} | {default} | {text} |"
        yield ""
    for key, value in properties.items():
        sections = list(_sections_of(value))
        for below, mark in sections:
            name = f"{path}.{key}{mark}" if path else f"{key}{mark}"
            kind = below["properties"].get("type", {}).get("const")
            yield from _section(f"{name} (type: {kind})" if kind and len(sections) > 1 else name, below)


def _sections_of(value: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The sections that a value is, or is a list of."""
    if "$ref" in value:
        target = json_schema()["$defs"][value["$ref"].rsplit("/", 1)[1]]
        if "properties" in target:
            yield target, ""
    for member in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _sections_of(member)
    if isinstance(value.get("items"), dict):
        for below, _ in _sections_of(value["items"]):
            yield below, "[]"


def _type(value: Mapping[str, Any]) -> str:
    if "anyOf" in value or "oneOf" in value:
        members = [_type(member) for member in (*value.get("anyOf", ()), *value.get("oneOf", ()))]
        if value.get("examples"):
            return " or ".join(f"`{example}`" for example in value["examples"][:2])
        return " or ".join(dict.fromkeys(member for member in members if member != "nothing"))
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        return "section"
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    return _WORDS.get(str(value.get("type")), "anything")


_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "keys and values",
    "null": "nothing",
}


def _default(value: Mapping[str, Any]) -> str:
    if isinstance(value.get("default"), (dict, list)) and (list(_sections_of(value)) or not value["default"]):
        return ""
    default = value.get("default")
    return "" if default is None or default == "" else f"`{json.dumps(default)}`"
