"""JSON pointers (RFC 6901) in which ``*`` stands for every member or element."""

from __future__ import annotations

from typing import Any

Tokens = tuple[str, ...]


def parse_pointer(text: str) -> Tokens:
    """The steps of a pointer.

    >>> parse_pointer("/instances/*/a~1b")
    ('instances', '*', 'a/b')

    Raises
    ------
    ValueError : it does not begin with ``/``, or has a ``~`` that is neither ``~0`` nor ``~1``.
    """
    if not text.startswith("/"):
        raise ValueError("a JSON pointer begins with /, for example /instances/*/name")
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise ValueError("in a JSON pointer ~ is written ~0, and / within a name ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def find(value: Any, tokens: Tokens) -> list[tuple[Any, Any]]:
    """Every container and key that a pointer leads to, before any of them is changed.

    >>> find({"a": [{"b": 1}, {"c": 2}]}, ("a", "*", "b"))
    [({'b': 1}, 'b')]
    """
    at = [value]
    for token in tokens[:-1]:
        at = [container[key] for container in at for key in _keys(container, token)]
    return [(container, key) for container in at for key in _keys(container, tokens[-1])]


def _keys(container: Any, token: str) -> list[Any]:
    if isinstance(container, dict):
        return list(container) if token == "*" else [token] if token in container else []  # noqa: S105 - no password
    if isinstance(container, list):
        if token == "*":  # noqa: S105 - no password
            return list(range(len(container)))
        inside = token.isascii() and token.isdigit() and len(token) < 10 and int(token) < len(container)
        return [int(token)] if inside else []
    return []
