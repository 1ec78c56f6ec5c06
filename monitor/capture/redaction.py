"""What must not leave: headers and parts of bodies, dropped, masked or hashed before an event is made.

A body that rules apply to and that cannot be read is not sent at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson

from monitor.capture.masking import Masker
from monitor.capture.pointer import ANY, Tokens, containers, index, parse_pointer
from monitor.capture.redact_binary import UnreadableError
from monitor.capture.redact_columns import ColumnRules
from monitor.capture.redact_named import NamedRules
from monitor.capture.rules import ModelColumns, RedactRule

LENGTH = "inference-header-content-length"


class BodyRules:
    """The rules that hold for the bodies of one side of a model.

    >>> rules = BodyRules([(("instances", "*", "name"), "drop")], None, Masker(b""))
    >>> rules.apply({}, b'{"instances": [{"name": "Ada", "age": 36}]}')
    b'{"instances":[{"age":36}]}'
    """

    def __init__(self, pointers: Sequence[tuple[Tokens, str]], named: NamedRules | None, masker: Masker) -> None:
        self._pointers, self._named, self._masker = pointers, named, masker

    def apply(self, headers: dict[str, str], body: bytes) -> bytes:
        """The redacted body, always written anew: what a parser passes over, a key given twice, is not passed on.

        ``headers`` are the event's; the length of the JSON in front of binary tensors is put right.

        Raises
        ------
        UnreadableError : the body is no JSON, or does not say where the value is.
        """
        try:
            message, binary = _read(headers, body)
            if self._named is not None:
                binary = self._named.apply(message, binary)
            for tokens, action in self._pointers:
                self._point(message, tokens, action)
            written = _written(message)
        except RecursionError as error:
            raise UnreadableError("the body is nested too deeply") from error
        if LENGTH in headers:
            headers[LENGTH] = str(len(written))
        return written + binary

    def _point(self, message: Any, tokens: Tokens, action: str) -> None:
        replace, last = self._masker.cell(action), tokens[-1]
        place = index(last)
        for container in containers(message, tokens):
            if isinstance(container, dict):
                for key in list(container) if last == ANY else [last] if last in container else ():
                    self._masker.apply(action, container, key)
            elif last == ANY:
                container[:] = map(replace, container)
            elif place < len(container):
                container[place] = replace(container[place])


def _read(headers: Mapping[str, str], body: bytes) -> tuple[Any, bytes]:
    length = headers.get(LENGTH, "")
    if length:
        if not (length.isascii() and length.isdigit()) or int(length) > len(body):
            raise UnreadableError(f"{LENGTH} is no length within the body")
        return _parse(body[: int(length)]), body[int(length) :]
    if b'"binary_data_size"' in body:
        try:
            _, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))  # one character a byte
        except ValueError as error:
            raise UnreadableError("the body does not begin with JSON") from error
        return _parse(body[:end]), body[end:]
    return _parse(body), b""


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # takes NaN and Infinity, as TF Serving and KServe send them
    except ValueError as error:
        raise UnreadableError("the body is no JSON") from error


def _written(message: Any) -> bytes:
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:  # a whole number beyond 64 bits, half a surrogate pair, or very deep
        return json.dumps(message, separators=(",", ":")).encode()


class Redactor:
    """Chooses the rules for a side of a model.

    Parameters
    ----------
    rules : in any order; of several for the same place the first holds.
    columns : the configured columns of models.
    key : of hashes.
    """

    def __init__(self, rules: Sequence[RedactRule], columns: Sequence[ModelColumns], key: bytes) -> None:
        self._rules, self._columns = rules, columns
        self._masker = Masker(key)

    def bodies(self, model: str, side: str) -> BodyRules | None:
        """What is done to bodies; ``None``: nothing, they need not be read."""
        configured = next((known for known in self._columns if fnmatchcase(model, known.model)), ModelColumns(model))
        found: dict[str, dict[str, str]] = {"pointer": {}, "tensor": {}, "column": {}}
        for rule in self._fitting(model, side):
            if rule.kind in found and (rule.kind != "column" or _has(configured, rule.name, side)):
                found[rule.kind].setdefault(rule.name, rule.action)
        pointers = [(parse_pointer(text), action) for text, action in found["pointer"].items()]
        named = None
        if found["tensor"] or found["column"]:
            columns = ColumnRules(found["column"], configured.of(side), self._masker)
            named = NamedRules(found["tensor"], columns, self._masker)
        return BodyRules(pointers, named, self._masker) if pointers or named else None

    def headers(self, model: str, side: str) -> tuple[tuple[str, str], ...]:
        """Names, in lower case, and actions."""
        actions: dict[str, str] = {}
        for rule in self._fitting(model, side):
            if rule.kind == "header":
                actions.setdefault(rule.name.lower(), rule.action)
        return tuple(actions.items())

    def redact_headers(self, rules: Sequence[tuple[str, str]], headers: dict[str, str]) -> None:
        """Redact a message's headers in place."""
        for name, action in rules:
            if name in headers:
                self._masker.apply(action, headers, name)

    def _fitting(self, model: str, side: str) -> list[RedactRule]:
        """Where the model is unknown, it may be any: the rules of all."""
        side = "request" if side == "feedback" else side
        return [
            rule for rule in self._rules if rule.side in ("", side) and (not model or fnmatchcase(model, rule.model))
        ]


def _has(configured: ModelColumns, name: str, side: str) -> bool:
    """Whether a column can be on this side: anywhere, if the model's configuration does not know it."""
    known = name in configured.features or name in configured.outputs
    return not known or name in configured.of(side)
