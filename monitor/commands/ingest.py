"""``offpath ingest``: take CloudEvents over HTTP into the log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from monitor.settings import Settings
    from monitor.wiring import OpenTransport

HELP = "take CloudEvents over HTTP (KServe, Seldon, Knative) into the log"
EXAMPLE = """example:
  offpath ingest --config offpath.yaml
  curl -i http://127.0.0.1:9091/ -H 'ce-specversion: 1.0' -H 'ce-id: 1' -H 'ce-source: me' \\
    -H 'ce-type: org.kubeflow.serving.inference.request' -H 'ce-inferenceservicename: income' \\
    -H 'content-type: application/json' -d '{"instances": [[1, 2]]}'

OFFPATH_INGEST_TOKEN: if set, senders must show it as 'Authorization: Bearer TOKEN'."""

TOKEN = "OFFPATH_INGEST_TOKEN"  # noqa: S105 - the variable's name, not a token
GRACE_SECONDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("offpath.yaml"), help="configuration (default: %(default)s)"
    )
    parser.add_argument("--listen", help="host:port (default: ingest.listen)")


def run(args: argparse.Namespace) -> int:
    import asyncio
    import logging
    import os

    from monitor import configuration, wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = configuration.load(args.config)
    transport = wiring.open_transport(settings)
    try:
        return _serve(settings, args.listen or settings.ingest.listen, transport, os.environ.get(TOKEN))
    finally:
        asyncio.run(transport.close())


def _serve(settings: Settings, listen: str, transport: OpenTransport, token: str | None) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    import logging
    import signal

    import uvicorn

    from monitor.ingest import create_app
    from monitor.settings import parse_size

    app = create_app(
        transport.publisher(settings.transport.topic),
        max_body=parse_size(settings.ingest.max_body),
        token=token,
        ready=transport.ready,
    )
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    )

    def stop(*_: object) -> None:
        server.should_exit = True

    # For a signal before uvicorn listens to them, and for the one that it raises again after it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with _listening(listen) as listener:
        host, port = listener.getsockname()[:2]
        logging.getLogger("offpath.ingest").info(
            "taking CloudEvents on http://%s:%d", f"[{host}]" if ":" in host else host, port
        )
        server.run(sockets=[listener])
    return 0


def _listening(listen: str) -> socket.socket:
    """A socket bound to ``host:port``; ``OSError`` says which address cannot be had."""
    import socket

    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        raise OSError(f"{listen!r} is no host:port to listen on")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {error.strerror or error}") from error
