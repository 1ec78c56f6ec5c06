"""TLS towards a receiver over HTTP: whom to trust, and who one is. Files that are replaced are read again."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

_REFUSALS = tuple(f"alert {word}" for word in ("unknown ca", "bad certificate")) + tuple(
    f"certificate {word}" for word in ("expired", "revoked", "unknown")
)

_logger = logging.getLogger("offpath.transport")


class TlsFiles(NamedTuple):
    """PEM files: the CA of the receiver's certificate (else the system's), our own certificate and its key.

    The key may stand in ``cert``. Empty: none.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """What connections are made with.

        Raises
        ------
        ValueError : a file cannot be used; the message names the setting.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:
            raise ValueError(f"capture.tls.ca: {self.ca} holds no certificate of a CA: {_words(error)}") from None
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key or None)
            except OSError as error:
                told = " and ".join(filter(None, (self.cert, self.key)))
                raise ValueError(
                    f"capture.tls.cert, capture.tls.key: {told} are no certificate and its key: {_words(error)}"
                ) from None
        return context


class Contexts:
    """The context of now. While files that have changed do not fit together, the last one stays.

    Parameters
    ----------
    files : looked at whenever a connection is made.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._latest: ssl.SSLContext | None = None
        self._read_at: list[tuple[int, int]] = []

    def current(self) -> ssl.SSLContext:
        """Raises :class:`ValueError` if there has never been one."""
        times = [_time(name) for name in self._files]
        if self._latest is None or times != self._read_at:
            try:
                self._latest = self._files.context()
            except ValueError as error:
                if self._latest is None:
                    raise
                _logger.error("the certificates have changed and cannot be used, the last ones stay: %s", error)
            self._read_at = times
        return self._latest


def explained(problem: str, cert: str) -> str:
    """A connection's problem, with what to do about it where TLS says so.

    >>> explained("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]", "")
    'it wants a client certificate: set capture.tls.cert ([SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED])'
    """
    told = problem.lower().replace("_", " ")
    if "certificate required" in told or (not cert and "handshake failure" in told):
        return f"it wants a client certificate: set capture.tls.cert ({problem})"
    if cert and any(alert in told for alert in _REFUSALS):
        return f"it does not take the certificate in capture.tls.cert, {cert} ({problem})"
    if (
        "without an answer" in told or "connection reset" in told
    ):  # many servers close like that where TLS has a word for it
        may = f"not take the one in capture.tls.cert, {cert}" if cert else "want a client certificate: capture.tls.cert"
        return f"{problem}; it may {may}"
    if "certificate verify failed" in told:
        return f"its certificate is not trusted: set capture.tls.ca to the file of its CA ({problem})"
    return problem


def _time(name: str) -> tuple[int, int]:
    try:
        told = Path(name).stat() if name else None
    except OSError:
        told = None
    return (told.st_mtime_ns, told.st_ino) if told is not None else (0, 0)


def _words(error: OSError) -> str:
    """Without the library's file and line."""
    return str(getattr(error, "reason", None) or error.strerror or error)
