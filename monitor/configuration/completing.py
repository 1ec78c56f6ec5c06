"""Defaults that the environment may change, and paths that are relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectors.registry import PATHS
from monitor.configuration.sections import items
from monitor.settings import Settings

_PATHS = (("transport", "path"), ("capture", "spool"))


def complete(values: dict[str, Any]) -> None:
    """Put in the defaults that the environment may change or that hold paths. A section without content is none."""
    for section in [key for key, value in values.items() if value is None and key in Settings.model_fields]:
        del values[section]
    defaults = Settings()
    for section, key in _PATHS:
        given = values.setdefault(section, {})
        if isinstance(given, dict) and (section, given.get("type")) != ("transport", "kafka"):
            given.setdefault(key, getattr(getattr(defaults, section), key))
    sinks = values.setdefault("sinks", [sink.model_dump() for sink in defaults.sinks])
    for _, sink in items(sinks):
        if sink.get("type") == "store":
            sink.setdefault("path", ".offpath/findings.db")


def resolve_paths(values: dict[str, Any], base: Path) -> None:
    """Make relative paths relative to the file, in place; ``~`` is the home of who starts the command."""

    def resolve(section: Any, key: str) -> None:
        text = section.get(key) if isinstance(section, dict) else None
        if isinstance(text, str) and text not in ("", "-"):
            section[key] = str(base / _at_home(Path(text)))

    for section, key in (
        *_PATHS,
        ("payloads", "directory"),
        ("capture", "redact_key_file"),
        ("capture", "token_file"),
        ("ingest", "token_file"),
    ):
        resolve(values.get(section), key)
    capture = values.get("capture")
    for key in ("ca", "cert", "key"):
        resolve(capture.get("tls") if isinstance(capture, dict) else None, key)
    ingest = values.get("ingest")
    for key in ("cert", "key", "client_ca"):
        resolve(ingest.get("tls") if isinstance(ingest, dict) else None, key)
    transport = values.get("transport")
    for key in ("ca", "cert", "key", "password_file"):
        resolve(transport.get("security") if isinstance(transport, dict) else None, key)
    for _, sink in items(values.get("sinks")):
        resolve(sink, "path")
    for _, monitor in items(values.get("monitors")):
        for part, key in _named_by(monitor.get("detector")):
            resolve(part, key)


def _named_by(detector: Any) -> list[tuple[Any, str]]:
    """What names paths in a ``detector`` section: where it stands, and its key."""
    kind, params = (detector.get("type"), detector.get("params")) if isinstance(detector, dict) else (None, None)
    return [(detector, "artifact"), (detector, "reference"), *((params, key) for key in PATHS.get(str(kind), ()))]


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user who is not known: then it is a name like any other
        return path
