"""Redaction of any body: the rules are applied, or it is unreadable; and what was masked once is masked for good.

An input is a byte that chooses the rules, a byte for the header that says where the JSON ends, and the body.
"""

from __future__ import annotations

from monitor.capture.redact_binary import UnreadableError
from monitor.capture.redaction import LENGTH, BodyRules, Redactor
from monitor.capture.rules import ModelColumns, RedactRule

MAX_INPUT = 4096
COLUMNS = (ModelColumns("m", ("a", "b", "c")),)


def column(name: str) -> RedactRule:
    return RedactRule("column", name, "mask")


def tensor(name: str) -> RedactRule:
    return RedactRule("tensor", name, "mask")


RULES = (
    (RedactRule("pointer", "/instances/*/0", "mask"), RedactRule("pointer", "/*/b", "mask")),
    (column("b"),),
    (column("a"), column("c"), column("z")),
    (tensor("x"), tensor("instances"), tensor("ndarray"), tensor("strData")),
    (column("b"), tensor("x"), RedactRule("pointer", "/parameters/*", "mask")),
)


def rules(choice: int) -> BodyRules:
    found = Redactor(RULES[choice % len(RULES)], COLUMNS, b"0123456789abcdef").bodies("m", "request")
    assert found is not None
    return found


def run(data: bytes) -> None:
    """One input. Raises whatever is wrong."""
    if len(data) < 3:
        return
    chosen, at, body = rules(data[0]), data[1], data[2:MAX_INPUT]
    headers = {LENGTH: str(at)} if at else {}
    try:
        once = chosen.apply(headers, body)
    except UnreadableError:
        return
    assert not headers or int(headers[LENGTH]) <= len(once)
    assert chosen.apply(headers, once) == once
