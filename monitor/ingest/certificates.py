"""TLS of the endpoint, with certificates that are replaced while it runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

_logger = logging.getLogger("offpath.ingest")


class Certificates:
    """The server's certificate, and the CA that clients' certificates must be of.

    Files are looked at on every handshake, and read again when they have changed, as cert-manager and Kubernetes
    replace them. While they do not fit together, the last ones stay.

    Parameters
    ----------
    cert, key : PEM files; the key may stand in ``cert``.
    client_ca : PEM file. If given, a client without a certificate of it gets no connection (mutual TLS, from 1.3 on,
        else from 1.2 on).

    Raises
    ------
    ValueError : one of them cannot be used; the message names the setting.
    """

    def __init__(self, cert: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._read_at = self._times()
        self._latest = self._load()
        self.context = self._load()
        self.context.sni_callback = self._handshake
        """What a server listens with."""

    def _handshake(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext) -> None:
        times = self._times()
        if times != self._read_at:
            self._read_at = times
            try:
                self._latest = self._load()
                _logger.info("the certificates have changed and are in use from now on")
            except ValueError as error:
                _logger.error("the certificates have changed and cannot be used, the last ones stay: %s", error)
        connection.context = self._latest

    def _times(self) -> list[tuple[int, int]]:
        times = []
        for path in (self._cert, self._key, self._client_ca):
            try:
                told = path.stat() if path is not None else None
            except OSError:
                told = None
            times.append((told.st_mtime_ns, told.st_ino) if told is not None else (0, 0))
        return times

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ValueError) as error:
            told = " and ".join(filter(None, (str(self._cert), str(self._key or ""))))
            raise ValueError(f"ingest.tls: {told} are no certificate and its key: {_words(error)}") from None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ValueError) as error:
                message = f"{self._client_ca} holds no certificate of a CA: {_words(error)}"
                raise ValueError(f"ingest.tls.client_ca: {message}") from None
            context.verify_mode = ssl.CERT_REQUIRED
            # No session is resumed: it would be of a client whose CA may have been taken out meanwhile.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
        return context


def _words(error: Exception) -> str:
    """Without the library's file and line."""
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
