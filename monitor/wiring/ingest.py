"""The CloudEvents endpoint of the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.settings import Settings, parse_duration, parse_size
from monitor.wiring.transport import OpenTransport

if TYPE_CHECKING:
    from ssl import SSLContext

    from monitor.ingest import Endpoint


def build_endpoint(settings: Settings, transport: OpenTransport, environ: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint over the transport's payload topic.

    Raises
    ------
    ValueError : the file of tokens cannot be used.
    """
    from monitor.ingest import Endpoint, Tokens

    ingest = settings.ingest
    token = (os.environ if environ is None else environ).get(ingest.token_env, "")
    return Endpoint(
        transport.publisher(settings.transport.topic),
        max_body=parse_size(ingest.max_body),
        tokens=Tokens(token, Path(ingest.token_file) if ingest.token_file is not None else None),
        remember=ingest.remember,
        waiting=parse_size(ingest.waiting),
        timeout=parse_duration(ingest.timeout),
        ready=transport.ready,
        by_request=ingest.key == "request",
    )


def endpoint_tls(settings: Settings) -> SSLContext | None:
    """What the endpoint listens with; ``None`` without TLS.

    Raises
    ------
    ValueError : a certificate, key or CA cannot be used.
    """
    tls = settings.ingest.tls
    if tls.cert is None:
        return None
    from monitor.ingest.certificates import Certificates

    key, client_ca = (Path(name) if name is not None else None for name in (tls.key, tls.client_ca))
    return Certificates(Path(tls.cert), key, client_ca).context
