"""Where the examples find their data: a folder at hand, the user's cache, or a download with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 20.0
MAX_BYTES = 32 * 1024 * 1024


class DataUnavailable(RuntimeError):
    """The data is neither at hand nor to be had; the message says where it was looked for."""


class Source(NamedTuple):
    """A file: its name at hand, where else it is, and the MD5 that its publisher's copy is known by."""

    name: str
    url: str
    md5: str


ADULT = (
    Source(
        "adult/adult.data.gz",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
        "5d7c39d7b8804f071cdd1f2a7c460872",
    ),
    Source(
        "adult/adult.test.gz",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.test",
        "35238206dfdf7f1fe215bbb874adecdc",
    ),
)
"""UCI Adult (Becker and Kohavi, 1996; CC BY 4.0), its train and its test part."""


def folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where data is looked for, in order."""
    given = [Path(environ["OFFPATH_DATA"])] if environ.get("OFFPATH_DATA") else []
    repository = Path(__file__).resolve().parents[2]
    return [*given, repository.parent / "shared" / "data", Path.cwd().parent / "shared" / "data", cache(environ)]


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache for downloads."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offpath" / "data"


def texts(sources: Sequence[Source], environ: Mapping[str, str] = os.environ) -> list[str]:
    """The texts of the sources.

    Raises
    ------
    DataUnavailable : a file is not at hand and cannot be downloaded, or is not what its checksum says.
    """
    return [_plain(source, _find(source, environ)) for source in sources]


def _find(source: Source, environ: Mapping[str, str]) -> bytes:
    looked = folders(environ)
    for folder in looked:
        path = folder / source.name
        if path.is_file():
            return path.read_bytes()
    if environ.get("OFFPATH_DATA_OFFLINE"):
        raise DataUnavailable(f"{source.name} is not in {', '.join(map(str, looked))}")
    return _download(source, looked[-1] / source.name)


def _plain(source: Source, packed: bytes) -> str:
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            plain = file.read(MAX_BYTES)
    except (OSError, EOFError) as error:
        raise DataUnavailable(f"{source.name} is damaged: {error}") from None
    if hashlib.md5(plain, usedforsecurity=False).hexdigest() != source.md5:
        raise DataUnavailable(f"{source.name} is not the published file: its MD5 is not {source.md5}")
    return plain.decode()


def _download(source: Source, target: Path) -> bytes:
    if not source.url.startswith(("https://", "http://127.0.0.1:")):
        raise DataUnavailable(f"{source.url} is no https address")
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT) as answer:  # noqa: S310  the scheme was checked
            plain = answer.read(MAX_BYTES)
    except OSError as error:
        raise DataUnavailable(f"{source.name} is not at hand and cannot be downloaded: {error}") from None
    packed = gzip.compress(plain, mtime=0)
    _plain(source, packed)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        partial.write_bytes(packed)
        partial.replace(target)
    except OSError:
        pass  # a cache that cannot be written costs the next run a download, nothing more
    return packed
