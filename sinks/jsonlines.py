"""Findings as JSON lines: to a file, or to standard output."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import orjson

from sinks.base import Finding
from sinks.records import Unavailable

TAIL_BYTES = 16 * 1024 * 1024
"""How much of an existing file is read back, to know findings that are in it."""

REMEMBERED = 50_000


class JsonLinesSink:
    """Appends one line a finding; ``-`` is standard output, and so may be a device or a pipe, such as ``/dev/stdout``.

    What is in a file's tail is not written again. A file that was moved or removed meanwhile, as by logrotate, is begun
    anew.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer: list[Finding] = []
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._flows = path == "-" or (Path(path).exists() and not Path(path).is_file())
        """There is nothing to read back, nor to cut."""
        self._file: BinaryIO = sys.stdout.buffer if path == "-" else self._stream() if self._flows else self._open()

    def _stream(self) -> BinaryIO:
        try:
            number = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe without a reader would be waited for
            os.set_blocking(number, True)
            return os.fdopen(number, "wb", buffering=0)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error

    def _open(self) -> BinaryIO:
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            file = Path(self._path).open("ab+", buffering=0)  # noqa: SIM115  stays open until close()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        if tail and not tail.endswith(b"\n"):  # the process died in the middle of a line: that finding comes again
            cut = tail.rfind(b"\n") + 1
            file.truncate(size - len(tail) + cut)
            tail = tail[:cut]
        for line in tail.splitlines():
            try:
                self._remember(str(orjson.loads(line)["id"]))
            except (ValueError, KeyError, TypeError):
                continue
        return file

    def _remember(self, identity: str) -> None:
        self._seen[identity] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def write(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.id not in self._seen:
                self._remember(finding.id)
                self._buffer.append(finding)

    async def flush(self) -> None:
        if not self._buffer:
            return
        text = b"".join(finding.to_json() + b"\n" for finding in self._buffer)
        try:
            self._write(text)
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        self._buffer.clear()

    def _write(self, text: bytes) -> None:
        if self._flows:
            self._write_all(text)
            self._file.flush()
            return
        if self._moved():
            moved, self._file = self._file, self._open()
            moved.close()
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._write_all(text)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)  # no half lines: all of it is tried again
            raise

    def _write_all(self, text: bytes) -> None:
        """A file without a buffer may take a part at a time."""
        view = memoryview(text)
        while view:
            view = view[self._file.write(view) :]

    def _moved(self) -> bool:
        """Whether another file, or none, is there now: it was rotated, or removed."""
        try:
            return not os.path.samestat(Path(self._path).stat(), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return True

    async def close(self) -> None:
        if self._path != "-":
            self._file.close()
