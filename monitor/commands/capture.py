"""``offpath capture``: the sidecar."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitor.settings import Settings

HELP = "relay requests to a model server and copy them, with their responses, as CloudEvents"
EXAMPLE = """examples:
  offpath capture --listen :9081 --upstream 127.0.0.1:8080 --model income
  offpath capture --config offpath.yaml --url http://broker-ingress.knative-eventing/models/default"""

DEFAULT_CONFIG = Path("offpath.yaml")

_FLAGS = ("listen", "upstream", "admin", "mode", "types", "source", "namespace", "model", "endpoint")
_MORE_FLAGS = (
    "url",
    "workers",
    "max_body",
    "queue",
    "spool",
    "spool_limit",
    "spool_age",
    "token_file",
    "grace",
    "combined",
    "include",
    "exclude",
    "sample",
    "inflate",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, help="configuration (default: offpath.yaml if there is one); flags win over it"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where clients call; or unix:PATH (default: 127.0.0.1:9081)"
    )
    parser.add_argument(
        "--upstream", metavar="HOST:PORT", help="the model server; or unix:PATH (default: 127.0.0.1:8080)"
    )
    parser.add_argument("--admin", metavar="HOST:PORT", help="/metrics, /healthz, /readyz (default: 127.0.0.1:9082)")
    parser.add_argument("--url", help="post events here instead of to the configured transport")
    parser.add_argument(
        "--log", metavar="FILE", help="append events to this embedded log (default: transport.path, .offpath/log.db)"
    )
    parser.add_argument("--workers", metavar="N", type=int, help="relay processes that share the port (default: 1)")
    parser.add_argument(
        "--mode", choices=("all", "request", "response", "none"), help="which side; none relays only (default: all)"
    )
    parser.add_argument("--combined", action="store_true", default=None, help="one event for request and response")
    parser.add_argument("--include", metavar="GLOB", action="append", help="paths to capture (default: inference)")
    parser.add_argument("--exclude", metavar="GLOB", action="append", help="paths to leave out, whatever is included")
    parser.add_argument("--sample", metavar="RATE", type=float, help="share of the requests to capture (default: 1)")
    parser.add_argument("--inflate", action="store_true", default=None, help="send compressed bodies inflated")
    parser.add_argument("--payloads", metavar="DIR", help="store bodies above 256 KiB here, and send where they are")
    parser.add_argument("--types", choices=("kserve", "seldon"), help="whose event types (default: kserve)")
    parser.add_argument("--model", metavar="NAME", help="model name for paths that hold none")
    parser.add_argument("--namespace", metavar="NAME", help="namespace attribute (default: default)")
    parser.add_argument("--endpoint", metavar="NAME", help="endpoint attribute")
    parser.add_argument("--source", help="source attribute (default: http://LISTEN)")
    parser.add_argument("--max-body", metavar="SIZE", help="larger bodies are cut and marked (default: 1MiB)")
    parser.add_argument("--queue", metavar="SIZE", help="copies that may wait for the shipper (default: 32MiB)")
    parser.add_argument("--spool", metavar="FILE", help="where events wait for an absent receiver")
    parser.add_argument("--spool-limit", metavar="SIZE", help="size of the spool (default: 256MiB)")
    parser.add_argument("--spool-age", metavar="DURATION", help="how long events may wait there (default: 1d)")
    parser.add_argument("--token-file", metavar="FILE", help="bearer token for --url, read again when it changes")
    parser.add_argument("--grace", metavar="DURATION", help="time to drain after SIGTERM (default: 10s)")


def run(args: argparse.Namespace) -> int:
    """Read the settings, then become the relay: its memory must hold nothing of what reading them took."""
    import os

    from monitor.capture.child import command
    from monitor.capture.keys import read_key
    from monitor.capture.plan import write_plan
    from monitor.capture.planning import make_plan

    plan = make_plan(_settings(args))
    if any(rule.action == "hash" for rule in plan.shipping.redact):
        read_key(plan.shipping.redact_key_file, plan.shipping.redact_key_env)  # to be told now; the shipper reads it
    token = plan.shipping.token_file
    if token and not Path(token).is_file():
        raise ValueError(f"capture.token_file: there is no file {token}")
    if plan.shipping.tls_ca or plan.shipping.tls_cert:
        from monitor.transport.http_tls import TlsFiles

        TlsFiles(plan.shipping.tls_ca, plan.shipping.tls_cert, plan.shipping.tls_key).context()  # to be told now, too
    descriptor = write_plan(plan)
    line = command("relay", str(descriptor))
    os.execv(line[0], line)  # noqa: S606 - our own interpreter and file, no shell


def _settings(args: argparse.Namespace) -> Settings:
    """The settings of the file, if there is one, and the environment; over them the flags."""
    from monitor import configuration

    path = args.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    settings = configuration.load_unfitted(path)
    given = {name: getattr(args, name) for name in _FLAGS + _MORE_FLAGS if getattr(args, name) is not None}
    capture = configuration.with_flags(settings.capture, "capture", given)
    update: dict[str, Any] = {"capture": capture}
    if args.payloads:
        update["payloads"] = settings.payloads.model_copy(update={"directory": args.payloads})
    if args.log:
        from monitor.settings import TransportSettings

        configured = settings.transport
        embedded = (
            configured if isinstance(configured, TransportSettings) else TransportSettings(topic=configured.topic)
        )
        update["transport"] = embedded.model_copy(update={"path": args.log})
    return settings.model_copy(update=update)
