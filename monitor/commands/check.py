"""``offpath check``: every mistake of a configuration, with its line."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "report every mistake in a configuration file"
EXAMPLE = "example:\n  offpath check offpath.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", default=Path("offpath.yaml"), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="mistakes as a JSON array")


def run(args: argparse.Namespace) -> int:
    import json

    from monitor import configuration

    mistakes = configuration.check(args.file)
    if args.json:
        print(json.dumps([mistake._asdict() for mistake in mistakes], default=str))
    else:
        for mistake in mistakes:
            print(mistake)
    if mistakes:
        if not args.json:
            print(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}")
        return 1
    if not args.json:
        settings = configuration.load(args.file)
        print(f"{args.file}: {len(settings.models)} models, {len(settings.monitors)} monitors, no mistakes")
    return 0
