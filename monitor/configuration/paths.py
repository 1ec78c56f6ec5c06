"""Paths that are not there, and what is there instead."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from monitor.configuration.mistakes import nearest

_MOST = 10_000
"""Entries of a directory that are looked at."""


def near_path(text: str, base: Path | None = None) -> str:
    """The path that may have been meant, written relative to ``base`` where it is below it; ``""`` if there is none.

    The first part of the path that is not there is replaced by what is most like it in the directory.
    """
    path = Path(text)
    there = next((above for above in path.parents if above.is_dir()), None)
    if there is None:
        return ""
    missing, *rest = path.relative_to(there).parts
    try:
        near = nearest(missing, [entry.name for entry in islice(there.iterdir(), _MOST)])
    except OSError:
        return ""
    if not near or near == missing:
        return ""
    whole = there.joinpath(near, *rest)
    found = whole if whole.exists() else there / near
    return str(found.relative_to(base) if base is not None and found.is_relative_to(base) else found)
