"""Bearer tokens: whoever shows one of them may send events."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from pathlib import Path

_logger = logging.getLogger("offpath.ingest")


class Tokens:
    """The tokens of a file, one a line, and perhaps one more. The file is read again when it changes.

    Two lines let senders change from one token to the next: a sender that Knative has told 401 does not try again.

    Raises
    ------
    ValueError : the file cannot be read, or holds no token.
    """

    def __init__(self, token: str = "", file: Path | None = None) -> None:
        self._own = [token.encode()] if token else []
        self._file, self._read_at = file, (-1, -1)
        self._tokens: Sequence[bytes] = self._own
        if file is not None:
            try:
                self._refresh()
            except OSError as error:
                raise ValueError(f"ingest.token_file: {file}: {error.strerror or error}") from None

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def admits(self, authorization: bytes) -> bool:
        """Whether the value of an ``Authorization`` header shows one of the tokens."""
        try:
            self._refresh()
        except (OSError, ValueError) as error:  # while it is being replaced, say: the last tokens go on
            _logger.warning("the token file %s cannot be used, its last tokens stay: %s", self._file, error)
        scheme, _, shown = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        return any(hmac.compare_digest(shown.strip(), token) for token in self._tokens)

    def _refresh(self) -> None:
        if self._file is None:
            return
        told = self._file.stat()
        if (told.st_mtime_ns, told.st_ino) == self._read_at:
            return
        lines = [line.strip() for line in self._file.read_bytes().splitlines()]
        if not any(lines):
            raise ValueError(f"ingest.token_file: {self._file} holds no token")
        self._tokens = [*self._own, *filter(None, lines)]
        self._read_at = told.st_mtime_ns, told.st_ino
