"""Sinks and topics that get into each other's way, and files that security needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from monitor.configuration.document import Path
from monitor.configuration.mistakes import Found
from monitor.configuration.paths import near_path
from monitor.configuration.sections import items


def check_sinks(values: Mapping[str, Any]) -> Iterator[Found]:
    """Topics that are the transport's own, and sinks that do the same."""
    transport = values.get("transport")
    transport = transport if isinstance(transport, dict) else {}
    state = transport.get("state", "offpath-state") if transport.get("type") == "kafka" else None
    payloads, dead = transport.get("topic", "payloads"), transport.get("dead_letters", "dead-letters")
    if payloads == dead:
        yield Found(("transport", "dead_letters"), dead, "must be another topic than transport.topic")
    seen: dict[Any, int] = {}
    for i, sink in items(values.get("sinks")):
        kind = sink.get("type")
        if sink.get("topic") is not None and sink["topic"] in (payloads, dead, state):
            yield Found(("sinks", i, "topic"), sink["topic"], "is the transport's own; findings need another")
        what = kind if kind == "prometheus" else (str(kind), str(sink["path"])) if "path" in sink else None
        if what is not None and str(sink.get("path")) != "-" and seen.setdefault(what, i) != i:
            yield Found(("sinks", i, "type"), kind, f"does the same as sinks[{seen[what]}]")


_FILES: tuple[Path, ...] = (
    *(("transport", "security", key) for key in ("ca", "cert", "key", "password_file")),
    *(("capture", "tls", key) for key in ("ca", "cert", "key")),
    *(("ingest", "tls", key) for key in ("cert", "key", "client_ca")),
    ("ingest", "token_file"),
)


def check_files(values: Mapping[str, Any]) -> Iterator[Found]:
    """Files that security needs."""
    for path in _FILES:
        at: Any = values
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, str) and not os.path.isfile(at):  # noqa: PTH113 - Path is a place in the document here
            yield Found(path, at, "there is no such file", near_path(at))
