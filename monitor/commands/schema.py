"""``offpath schema``: the configuration's JSON Schema, for editors."""

from __future__ import annotations

import argparse

HELP = "print the JSON Schema of the configuration file"
EXAMPLE = """example:
  offpath schema > offpath.schema.json
then begin the configuration with the line
  # yaml-language-server: $schema=offpath.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--indent", type=int, default=2, help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    import json

    from monitor.configuration.schema import json_schema

    print(json.dumps(json_schema(), indent=args.indent))
    return 0
