"""Captured traffic of other systems: what they really sent, to be sent again.

It is looked for in the folder ``OFFPATH_TEST_WIRE``, then in ``../shared/wire`` beside the repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

WHY = "no captured traffic: set OFFPATH_TEST_WIRE to the folder that holds {name}"


class Post(NamedTuple):
    """One event as a logger or a broker sent it. ``headers`` are in lower case."""

    raw: bytes
    headers: dict[str, str]
    body: bytes


def need(name: str) -> Path:
    """The file of captures; without it the test is skipped."""
    for folder in (os.environ.get("OFFPATH_TEST_WIRE"), Path(__file__).parents[2] / "shared" / "wire"):
        if folder and (Path(folder) / name).is_file():
            return Path(folder) / name
    pytest.skip(WHY.format(name=name))


def posts(name: str) -> list[Post]:
    """Every CloudEvent that was posted in a file of captures, in its order."""
    return list(_posts(need(name).read_bytes()))


def _posts(text: bytes) -> Iterator[Post]:
    for found in re.finditer(rb"^POST \S+ HTTP/1\.1\n(?:[!-9;-~]+: .*\n)+\n", text, re.MULTILINE):
        lines = found[0].decode().splitlines()[1:-1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "ce-type" not in headers:  # the call of the model, of which the file tells too
            continue
        length = int(headers["content-length"])
        body = text[found.end() : found.end() + length]
        if b"\\x" in body:  # written with escapes where it was no text
            rest = text[found.end() :].partition(b"\n")[0]
            body = rest.decode("ascii").encode("latin-1").decode("unicode_escape").encode("latin-1")
        assert len(body) == length
        yield Post(found[0].replace(b"\n", b"\r\n") + body, headers, body)
