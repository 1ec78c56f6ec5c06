"""``offpath ingest``: take CloudEvents over HTTP into the log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.usage import host_port

if TYPE_CHECKING:
    import ssl

    import uvicorn

    from monitor.ingest import Endpoint

HELP = "take CloudEvents over HTTP (KServe, Seldon, Knative) into the log"
EXAMPLE = """example:
  offpath ingest --config offpath.yaml
  curl -i http://127.0.0.1:9091/ -H 'ce-specversion: 1.0' -H 'ce-id: 1' -H 'ce-source: me' \\
    -H 'ce-type: org.kubeflow.serving.inference.request' -H 'ce-inferenceservicename: income' \\
    -H 'content-type: application/json' -d '{"instances": [[39, 40, "Male"]]}'

OFFPATH_INGEST_TOKEN: if set, senders must show it as 'Authorization: Bearer TOKEN'.
What it answers, TLS and limits: docs/ingest.md."""

GRACE_SECONDS = 10
BACKLOG = 2048

KEEP_ALIVE_SECONDS = 120
"""Longer than senders in Go keep an idle connection (90): who closes it should be the one who would use it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("offpath.yaml"), help="configuration (default: %(default)s)"
    )
    parser.add_argument("--listen", type=host_port, help="host:port (default: ingest.listen)")
    parser.add_argument(
        "--admin", type=host_port, help="host:port of /healthz, /readyz and /metrics (default: ingest.admin)"
    )


def run(args: argparse.Namespace) -> int:
    import asyncio
    import logging

    from monitor import configuration, wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = configuration.load_unfitted(args.config)
    tls = wiring.endpoint_tls(settings)
    transport = wiring.open_transport(settings)
    try:
        endpoint = wiring.build_endpoint(settings, transport)
        admin = args.admin or settings.ingest.admin
        return _serve(endpoint, args.listen or settings.ingest.listen, admin, tls)
    finally:
        asyncio.run(transport.close())


def _serve(endpoint: Endpoint, listen: str, admin: str | None, tls: ssl.SSLContext | None) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    import logging
    import signal

    from monitor.web.server import PageServer, bind, url_of

    server = _server(endpoint, tls)

    def stop(*_: object) -> None:
        server.should_exit = True

    # For a signal before uvicorn listens to them, and for the one that it raises again after it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with bind(listen, "ingest.listen", BACKLOG) as listener:
        page = PageServer(endpoint.admin_app(), admin, "ingest.admin") if admin is not None else None
        address = url_of(listener, "http" if tls is None else "https")
        more = f", administration at {page.address}" if page is not None else ""
        logging.getLogger("offpath.ingest").info("taking CloudEvents on %s%s", address, more)
        server.run(sockets=[listener])
        if page is not None:
            page.stop()
    return 0


def _server(endpoint: Endpoint, tls: ssl.SSLContext | None) -> uvicorn.Server:
    import uvicorn

    from monitor.ingest.heads import BoundedHeads

    config = uvicorn.Config(
        endpoint.app(),
        http=BoundedHeads,
        log_config=None,
        log_level="warning",  # its lines of start and stop tell nothing that ours do not
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()
    config.ssl = tls
    return uvicorn.Server(config)
