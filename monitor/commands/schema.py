"""``offpath schema``: the configuration's JSON Schema, for editors."""

from __future__ import annotations

import argparse

HELP = "print the JSON Schema of the configuration file"
EXAMPLE = """example:
  offpath schema > offpath.schema.json
then begin the configuration with the line
  # yaml-language-server: $schema=offpath.schema.json
offpath schema --markdown prints every key in tables, for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--indent", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="tables of every key instead")


def run(args: argparse.Namespace) -> int:
    import json

    from monitor.configuration.reference import reference
    from monitor.configuration.schema import json_schema

    if args.markdown:
        print(reference(), end="")
        return 0
    print(json.dumps(json_schema(), indent=args.indent))
    return 0
