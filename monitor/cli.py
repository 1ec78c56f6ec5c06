"""The command ``offpath``. Commands are light to import, and load their heavy parts when they run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

COMMANDS = ("demo", "capture", "worker", "ingest", "fit", "check", "replay", "schema")
"""In the order of ``--help``. Each is a module of :mod:`monitor.commands` with HELP, EXAMPLE, add_arguments and run."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; the answer is the exit status: 0 well, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = _parser(_asked(arguments))
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        parser.error(f"there is no command {arguments[0]!r}{_nearest(arguments[0])}; there are {', '.join(COMMANDS)}")
    args, surplus = parser.parse_known_args(arguments)
    if surplus:
        args.parser.error(f"unrecognized arguments: {' '.join(surplus)}")
    try:
        status = int(args.module.run(args))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("OFFPATH_DEBUG"):
            raise
        print(f"offpath {args.command}: {_in_words(error)}", file=sys.stderr)
        return 2 if type(error).__name__ in ("ConfigurationError", "UsageError") else 1


def _nearest(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, 1)
    return f", did you mean {near[0]}?" if near else ""


def _asked(arguments: Sequence[str]) -> Sequence[str]:
    """The commands that must be imported to read these arguments: the first word, or all for the overview."""
    return (arguments[0],) if arguments and arguments[0] in COMMANDS else COMMANDS


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offpath",
        description="Watches models in production without touching their hot path.",
        epilog="`offpath COMMAND --help` shows an example of each. OFFPATH_DEBUG=1 shows tracebacks.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        _add(commands, name, import_module(f"monitor.commands.{name}"))
    return parser


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, module: ModuleType) -> None:
    command = commands.add_parser(
        name,
        help=module.HELP,
        description=module.HELP[:1].upper() + module.HELP[1:] + ".",
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(command)
    command.set_defaults(module=module, parser=command)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"offpath {version('offpath')}")
        parser.exit()


def _in_words(error: Exception) -> str:
    """The error's own words if they are meant for people, else its type too."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    known = isinstance(error, (ValueError, OSError, RuntimeError)) and text
    return text if known else f"{type(error).__name__}: {text} (OFFPATH_DEBUG=1 shows where)"
