"""``offpath worker``: judge the traffic in the log, serve the status page and ``/metrics``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.usage import host_port

if TYPE_CHECKING:
    from monitor.settings import Settings

HELP = "judge captured traffic; serves the status page, /api and /metrics"
EXAMPLE = "example:\n  offpath worker --config offpath.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("offpath.yaml"), help="configuration (default: %(default)s)"
    )
    parser.add_argument("--listen", type=host_port, help="host:port of the page and /metrics (default: worker.listen)")
    parser.add_argument("--no-page", action="store_true", help="serve nothing")


def run(args: argparse.Namespace) -> int:
    import asyncio
    import logging

    from monitor import configuration

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = configuration.load(args.config)
    return asyncio.run(_run(settings, args))


async def _run(settings: Settings, args: argparse.Namespace) -> int:
    import asyncio
    import logging
    import signal

    from monitor import wiring

    assembly = wiring.build(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, assembly.stop)
    page = None if args.no_page else wiring.serve_page(settings, assembly, args.listen or settings.worker.listen)
    if page is not None:
        logging.getLogger("offpath.worker").info("status page on %s, metrics at %s/metrics", *[page.address] * 2)
    try:
        await assembly.run()
        told = ", ".join(f"{name} {n:,}" for name, n in assembly.metrics.summary().items())
        logging.getLogger("offpath.worker").info("stopped: %s", told)
    finally:
        if page is not None:
            page.stop()
        await assembly.close()
    return 0
