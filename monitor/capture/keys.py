"""The key of hashed values: from a file or the environment, never from the configuration, and never logged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from monitor.capture.masking import SHORTEST_KEY

LONGEST_KEY = 4096


def read_key(file: str, variable: str, environ: Mapping[str, str] = os.environ) -> bytes:
    """The key in ``file``, if one is named, else in the environment's ``variable``, without white space around it.

    Raises
    ------
    ValueError : there is none, or it is too short; the message names the place and not the key.
    """
    if file:
        where = f"the file {file} (capture.redact_key_file)"
        try:
            with Path(file).open("rb") as opened:
                key = opened.read(LONGEST_KEY + 1).strip()
        except OSError as error:
            raise ValueError(f"the key of hashed values cannot be read from {where}: {error.strerror}") from None
    else:
        where = f"the environment variable {variable} (capture.redact_key_env)"
        key = environ.get(variable, "").encode("utf-8", "surrogateescape").strip()
        if not key:
            raise ValueError(f"action: hash needs a key: put it into {where}, or into a file (capture.redact_key_file)")
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"the key in {where} has {len(key)} bytes; give {SHORTEST_KEY} to {LONGEST_KEY}")
    return key
