"""``offpath check``: every mistake of a configuration, with its line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.usage import UsageError
from monitor.commands.wording import counted

if TYPE_CHECKING:
    from monitor.settings import Settings

HELP = "report every mistake in a configuration file"
EXAMPLE = """example:
  offpath check offpath.yaml
prints, and ends with status 2:
  offpath.yaml:14:5: monitors[0].windw: unknown key; did you mean "window"?
Environment variables such as OFFPATH_WORKER__LISTEN=0.0.0.0:9090 override single values, and are checked too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", help="default: offpath.yaml")
    parser.add_argument("--config", type=Path, help="the file, as the other commands are told it")
    parser.add_argument("--json", action="store_true", help="mistakes as a JSON array")


def run(args: argparse.Namespace) -> int:
    import json

    from monitor import configuration

    if args.file is not None and args.config is not None:
        raise UsageError(f"give the file once: {args.file}, or --config {args.config}")
    file = args.file or args.config or Path("offpath.yaml")
    settings, mistakes, warnings = configuration.examine(file)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.json:
        print(json.dumps([mistake._asdict() for mistake in mistakes], default=str))
    elif settings is None:
        print("\n".join(map(str, mistakes)))
        print(counted(len(mistakes), "mistake"))
    else:
        _summary(file, settings)
    return 2 if mistakes else 0


def _summary(file: Path, settings: Settings) -> None:
    models, monitors = counted(len(settings.models), "model"), counted(len(settings.monitors), "monitor")
    idle = "" if settings.monitors else ": there is nothing that `offpath worker` would judge"
    print(f"{file}: OK: {models}, {monitors}{idle}")
    for monitor in settings.monitors:
        sinks = monitor.sinks if monitor.sinks is not None else [sink.name for sink in settings.sinks]
        what = f"{monitor.detector.type} on the {monitor.side} of {monitor.model}"
        print(f"  {monitor.name}: {what}, {monitor.window}, to {', '.join(sinks) or 'no sink'}")
