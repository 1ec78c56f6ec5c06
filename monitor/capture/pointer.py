"""JSON pointers (RFC 6901) in which ``*`` stands for every member or element."""

from __future__ import annotations

from math import inf
from typing import Any

Tokens = tuple[str, ...]

ANY = "*"


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


def containers(value: Any, tokens: Tokens) -> list[Any]:
    """Every object and list in which the last step of a pointer is to be taken.

    >>> containers({"a": [{"b": 1}, {"c": 2}]}, ("a", "*", "b"))
    [{'b': 1}, {'c': 2}]
    """
    at = [value] if isinstance(value, (dict, list)) else []
    for token in tokens[:-1]:
        place = index(token)
        inner: list[Any] = []
        for container in at:
            if isinstance(container, dict):
                inner += container.values() if token == ANY else [container[token]] if token in container else ()
            elif token == ANY:
                inner += container
            elif place < len(container):
                inner.append(container[place])
        at = [found for found in inner if isinstance(found, (dict, list))]
    return at


def index(token: str) -> Any:
    """The element of a list that a step means; infinity if none.

    >>> index("2"), index("-1"), index("a")
    (2, inf, inf)
    """
    return int(token) if token.isascii() and token.isdigit() and len(token) < 10 else inf
