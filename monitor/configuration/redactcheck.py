"""Redaction rules against the models: a misspelt column would leave in the clear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from monitor.configuration.mistakes import Found, nearest


def check_redaction(values: Mapping[str, Any]) -> Iterator[Found]:
    """Column rules whose column none of their models has, as far as columns are configured."""
    capture, models = values.get("capture"), values.get("models")
    rules = capture.get("redact") if isinstance(capture, dict) else None
    for i, rule in enumerate(rules if isinstance(rules, list) else ()):
        column = rule.get("column") if isinstance(rule, dict) else None
        if not isinstance(column, str):
            continue
        known = [
            name
            for model in (models if isinstance(models, list) else ())
            if isinstance(model, dict) and fnmatchcase(_name(model), str(rule.get("model", "*")))
            for name in _columns(model)
        ]
        if known and column not in known:
            expected = f"is no column of a model that the rule is for: {', '.join(dict.fromkeys(known))}"
            yield Found(("capture", "redact", i, "column"), column, expected, nearest(column, known))


def _name(model: Mapping[str, Any]) -> str:
    """The name in events. One that is a pattern itself is taken as it is written."""
    match = model.get("match")
    return str((match.get("model") if isinstance(match, dict) else None) or model.get("name"))


def _columns(model: Mapping[str, Any]) -> Iterator[str]:
    for key in ("features", "outputs"):
        given = model.get(key)
        for column in given if isinstance(given, list) else ():
            if isinstance(column, dict):
                yield str(column.get("name"))
