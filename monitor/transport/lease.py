"""One live consumer a group on one machine: a lock file that the operating system lets go with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sinks.records import Unavailable


class Lease:
    """Holds ``path`` locked until :meth:`release`, or the end of the process, however it ends.

    Raises
    ------
    Unavailable : another process, or another lease of this one, holds it; or the file cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(f"{what}: the lock file {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise Unavailable(f"{what} is held by process {holder or '(unknown)'}") from None
        os.ftruncate(self._file, 0)
        os.write(self._file, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let go; again is harmless. The file stays: to delete it would race with the next holder."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
