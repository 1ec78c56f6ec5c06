"""Bodies too large for a transport: stored once under their digest, in a directory that sidecar and worker share.

The event carries their place instead: ``dataref``, a reference relative to the directory.

Source: CloudEvents, Dataref (claim check pattern) extension.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from monitor.events import InvalidEvent
from monitor.transport.base import Unavailable

SWEEP_SHARE = 0.1
"""How much of the limit or of the age may pass between two looks at the whole directory."""

SYNCS = 8
"""Files that are made safe at once."""

STALE_SECONDS = 3600.0
"""Age at which a file that was never completed is one of a dead process."""

_REFERENCE = re.compile(r"(?P<folder>[0-9a-f]{2})/(?P<digest>(?P=folder)[0-9a-f]{62})")


class _File(NamedTuple):
    moved: float
    size: int
    path: Path


class PayloadStore:
    """Writes payloads; keeps the directory below a size and an age, whoever else writes to it.

    Parameters
    ----------
    directory : made if it is not there.
    limit : bytes; beyond it the payloads stored or asked for longest ago go.
    keep : seconds after which they go.
    clock : epoch seconds.

    Raises
    ------
    Unavailable : the directory cannot be made or read.
    """

    def __init__(self, directory: Path, limit: int, keep: float, clock: Callable[[], float] = time.time) -> None:
        self._directory, self._limit, self._keep, self._clock = directory, limit, keep, clock
        self._new: dict[Path, None] = {}
        self.removed = 0
        self.bytes = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the payloads' directory {directory} cannot be made: {error.strerror}") from error
        self._sweep(0)

    @property
    def has_new(self) -> bool:
        """Whether something was stored that a power failure could still take."""
        return bool(self._new)

    def sync(self) -> None:
        """Have everything that was put so far outlive a power failure; may run in a thread beside :meth:`put`.

        Several files at once: a disk that takes 14 ms for each of 50 takes 2 ms a file for all of them.

        Raises
        ------
        Unavailable : the disk cannot do that now; the next call tries again.
        """
        new, self._new = self._new, {}
        folders = {path.parent for path in new}
        try:
            with ThreadPoolExecutor(SYNCS) as threads:
                for paths in (new, folders, {folder.parent for folder in folders}):
                    deque(threads.map(_sync, paths), 0)
        except OSError as error:
            self._new = new | self._new
            raise Unavailable(f"payloads cannot be made safe in {self._directory}: {error.strerror}") from error

    def put(self, body: bytes) -> str:
        """Store a body, unless it is there. Returns its reference; before anybody relies on it comes :meth:`sync`.

        Raises
        ------
        Unavailable : it cannot be written, or is larger than the limit.
        """
        if len(body) > self._limit:
            raise Unavailable(f"a payload of {len(body)} bytes is larger than the limit of all, {self._limit}")
        digest = sha256(body).hexdigest()
        path = self._directory / digest[:2] / digest
        now = self._clock()
        try:
            if not self._renewed(path, len(body), now):
                self._write(path, body, now)
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable(f"a payload cannot be stored in {self._directory}: {error.strerror}") from error
        return f"{digest[:2]}/{digest}"

    @staticmethod
    def _renewed(path: Path, size: int, now: float) -> bool:
        """Whether it is there, whole; then it is as good as new."""
        try:
            os.utime(path, (now, now))
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def _write(self, path: Path, body: bytes, now: float) -> None:
        if (
            self.bytes + len(body) > self._limit
            or self._unswept > SWEEP_SHARE * self._limit
            or now - self._swept > SWEEP_SHARE * self._keep
        ):
            self._sweep(len(body))
        path.parent.mkdir(exist_ok=True)
        unfinished = path.parent / f".{secrets.token_hex(8)}"
        try:
            unfinished.write_bytes(body)
            os.utime(unfinished, (now, now))
            unfinished.replace(path)
            self._new[path] = None
        finally:
            unfinished.unlink(missing_ok=True)
        self.bytes += len(body)
        self._unswept += len(body)

    def _sweep(self, room: int) -> None:
        """Remove what is too old, and of the rest the oldest until there is room."""
        now = self._clock()
        self._swept, self._unswept = now, 0
        files = sorted(self._files())
        total = sum(file.size for file in files)
        aim = self._limit if total + room <= self._limit else int(self._limit * (1 - SWEEP_SHARE))
        for moved, size, path in files:
            started = path.name.startswith(".")
            if now - moved > (STALE_SECONDS if started else self._keep) or (total + room > aim and not started):
                path.unlink(missing_ok=True)
                total -= size
                self.removed += not started
        self.bytes = total

    def _files(self) -> list[_File]:
        found = []
        try:
            for folder in [entry for entry in os.scandir(self._directory) if re.fullmatch("[0-9a-f]{2}", entry.name)]:
                for entry in os.scandir(folder.path):
                    try:
                        told = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # another sidecar was quicker
                        continue
                    found.append(_File(told.st_mtime, told.st_size, Path(entry.path)))
        except OSError as error:
            raise Unavailable(f"the payloads' directory {self._directory} cannot be read: {error.strerror}") from error
        return found


def _sync(path: Path) -> None:
    """A file's bytes, or a directory's entries, are on disk. What has been removed meanwhile needs no safety."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_payload(directory: Path, reference: str, max_bytes: int) -> bytes:
    """The body that a ``dataref`` means.

    Nothing outside the directory is opened, and no link followed, whatever the reference says.

    Raises
    ------
    InvalidEvent : ``bad_dataref``, ``payload_missing``, ``too_large`` or, if the digest is another,
        ``payload_mismatch``.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise InvalidEvent("bad_dataref", f"dataref {reference[:100]!r} is no reference into the payloads' directory")
    try:
        body = _read(directory, found["folder"], found["digest"], max_bytes + 1)
    except OSError as error:
        why = "it is not there: removed for age or room (payloads.keep, payloads.limit), or another directory"
        why = why if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise InvalidEvent("payload_missing", f"the payload {reference} cannot be read in {directory}: {why}") from None
    if len(body) > max_bytes:
        raise InvalidEvent("too_large", f"the payload {reference} is larger than {max_bytes} bytes")
    if sha256(body).hexdigest() != found["digest"]:
        raise InvalidEvent("payload_mismatch", f"the payload {reference} is not what its name says: damaged")
    return body


def _read(directory: Path, folder: str, name: str, size: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(directory / folder, flags | os.O_DIRECTORY)
    try:
        with os.fdopen(os.open(name, flags | os.O_NONBLOCK, dir_fd=parent), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileNotFoundError(name)
            return file.read(size)
    finally:
        os.close(parent)
