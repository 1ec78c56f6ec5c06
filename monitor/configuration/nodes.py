"""The nodes of a YAML text as plain values: what it says twice, what merges say, what is too much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from monitor.configuration.document import Document, Path, Place, spelled, unusable
from monitor.configuration.mistakes import Mistake

MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Aliases can make much of little text: ``b: [*a, *a]``, ``c: [*b, *b]``, and so on."""

_MERGE = "tag:yaml.org,2002:merge"


class Loader(yaml.SafeLoader):
    """PyYAML's, to which ``1e-3`` is a number, as in YAML 1.2."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


class Nodes(NamedTuple):
    """Reads the nodes of one text into its document."""

    origin: str
    document: Document

    def value(self, node: yaml.Node, path: Path, above: frozenset[int]) -> Any:
        """``above`` holds the nodes that hold this one."""
        place = Place(self.origin, node.start_mark.line + 1, node.start_mark.column + 1)
        self.document.places[path] = place
        if len(self.document.places) > MAX_VALUES:
            raise unusable(self.origin, f"holds more than {MAX_VALUES:,} values", place.line)
        if id(node) in above or len(path) > MAX_DEPTH:  # an alias to something that holds it, or very deep
            return self._wrong(path, None, "is nested too deeply, or holds itself")
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            return self._wrong(path, node.tag, "has a tag; only plain values are taken")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, above | {id(node)})
        if isinstance(node, yaml.SequenceNode):
            inner = above | {id(node)}
            return [self.value(item, (*path, i), inner) for i, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except (yaml.YAMLError, ValueError) as error:
            return self._wrong(path, node.value, f"cannot be read: {error}".splitlines()[0])

    def mapping(self, node: yaml.MappingNode, path: Path, above: frozenset[int]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key_node, value_node, merged in _entries(node, above):
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*path, key)
            place = Place(self.origin, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in own and not merged:
                wrong = f"is given twice; the first is in line {own[key]}"
                self.document.mistakes.append(Mistake(*place, spelled(here), None, wrong))
            if key in values:  # what the mapping says itself goes before what it merges
                continue
            if node.flow_style and re.fullmatch("[0-9]{3}", key) and _is_nothing(value_node):  # {count: 1,000}
                self.document.mistakes.append(Mistake(*place, spelled(path), key, "numbers are written without commas"))
                continue
            values[key] = self.value(value_node, here, above)
            self.document.places[here] = place
            if not merged:
                own[key] = place.line
        return values

    def _wrong(self, path: Path, value: Any, expected: str) -> None:
        self.document.mistakes.append(Mistake(*self.document.places[path], spelled(path), value, expected))


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == ""


def _scalar(node: yaml.Node) -> Any:
    loader = Loader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


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
