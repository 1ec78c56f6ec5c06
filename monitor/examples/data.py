"""Where the examples find their data: a folder at hand, the user's cache, or a download with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import os
import ssl
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

TIMEOUT = 10.0
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
    beside = [repository.parent / "shared" / "data", Path.cwd().parent / "shared" / "data"]
    kept = cache(environ)
    return [*given, *beside, *([] if kept is None else [kept])]


def cache(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's cache for downloads; ``None`` for a user without a home."""
    try:
        return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offpath" / "data"
    except RuntimeError:
        return None


def texts(
    sources: Sequence[Source], environ: Mapping[str, str] = os.environ, say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """The texts of the sources; ``say`` is told of each download, and of each damaged file that is passed over.

    Raises
    ------
    DataUnavailable : a file is not at hand, whole, and cannot be downloaded as its checksum says.
    """
    return [_find(source, environ, say) for source in sources]


def _find(source: Source, environ: Mapping[str, str], say: Callable[[str], None]) -> str:
    looked = list(dict.fromkeys(folders(environ)))
    wrong: list[str] = []
    for path in (folder / name for folder in looked for name in (source.name, source.name.removesuffix(".gz"))):
        if not path.is_file():
            continue
        try:
            return _checked(source, _read(path), str(path))
        except DataUnavailable as error:
            say(str(error))
            wrong.append(str(error))
    if environ.get("OFFPATH_DATA_OFFLINE"):
        raise DataUnavailable("; ".join([f"{source.name} is not in {', '.join(map(str, looked))}", *wrong]))
    say(f"downloading {source.url}")
    try:
        return _download(source, cache(environ))
    except DataUnavailable as error:
        raise DataUnavailable("; ".join([str(error), *wrong])) from None


def _read(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnavailable(f"{path} is damaged, remove it: {error}") from None


def _checked(source: Source, plain: bytes, place: str) -> str:
    found = hashlib.md5(plain, usedforsecurity=False).hexdigest()
    if found != source.md5:
        raise DataUnavailable(f"{place} is not the published file: its MD5 is {found}, not {source.md5}")
    return plain.decode()


def _download(source: Source, folder: Path | None) -> str:
    if not source.url.startswith(("https://", "http://127.0.0.1:")):
        raise DataUnavailable(f"{source.url} is no https address")
    try:
        plain = _get(source.url)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:  # also of a proxy's address
        raise DataUnavailable(f"{source.name} is not at hand, and {source.url} does not give it: {error}") from None
    text = _checked(source, plain, source.url)
    if folder is not None:
        _keep(gzip.compress(plain, mtime=0), folder / source.name)
    return text


def _get(url: str) -> bytes:
    context = ssl.create_default_context()  # the machine's certificates: a proxy's are among them
    parts, size = [], 0
    with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True, verify=context) as answer:
        if answer.status_code != 200:
            raise OSError(f"{answer.status_code} {answer.reason_phrase}")
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise OSError(f"more than {MAX_BYTES} bytes")
    return b"".join(parts)


def _keep(packed: bytes, target: Path) -> None:
    """Write it whole or not at all."""
    partial = target.with_suffix(f".{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(packed)
        partial.replace(target)
    except OSError:
        pass  # a cache that cannot be written costs the next run a download, nothing more
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
