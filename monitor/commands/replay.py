"""``offpath replay``: what the monitors would have said of a captured log or of a table. Publishes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.findings import MonitorSpec
    from monitor.outcome import Outcome
    from monitor.settings import Settings
    from sinks.base import Finding

HELP = "run monitors over a captured log or a table, publishing nothing"
EXAMPLE = """examples:
  offpath replay --config offpath.yaml                        the configured log, from its oldest record
  offpath replay --config offpath.yaml --log captured.db --json
  offpath replay --config offpath.yaml --table last-month.csv --monitor income-drift"""

BLOCK = 256
"""Table rows judged at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("offpath.yaml"), help="configuration (default: %(default)s)"
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--log", type=Path, help="a captured log (default: transport.path of the configuration)")
    given.add_argument("--table", type=Path, help="rows of a CSV, Parquet or npz file, as if they were requests")
    parser.add_argument("--monitor", action="append", help="only this monitor (may be given again)")
    parser.add_argument("--all", action="store_true", help="print evaluations without a finding too")
    parser.add_argument("--json", action="store_true", help="one finding a line, as JSON")


def run(args: argparse.Namespace) -> int:
    from monitor import configuration, wiring

    settings = only(configuration.load(args.config), args.monitor)
    specs = wiring.build_specs(settings)
    outcomes = from_table(specs, args.table) if args.table else from_log(settings, specs, args.log)
    findings = alarms = rejected = 0
    for outcome in outcomes:
        rejected += len(outcome.dead_letters)
        for letter in outcome.dead_letters:
            place = f"{letter.delivery.partition}:{letter.delivery.offset}"
            print(f"{place}  unusable: {letter.reason}: {letter.message}", file=sys.stderr)
        for finding in outcome.findings:
            findings += 1
            alarms += finding.alarm
            if args.all or finding.alarm or args.json:
                print_finding(finding, args.json)
    if not args.json:
        print(f"{findings} evaluations, {alarms} alarms, {rejected} unusable events")
    return 0


def only(settings: Settings, names: list[str] | None) -> Settings:
    """The settings with just the named monitors."""
    from monitor.configuration import ConfigurationError, unknown_name

    if not names:
        return settings
    known = [monitor.name for monitor in settings.monitors]
    for name in names:
        if name not in known:
            raise ConfigurationError((unknown_name("--monitor", name, known),))
    kept = tuple(monitor for monitor in settings.monitors if monitor.name in names)
    return settings.model_copy(update={"monitors": kept})


def from_log(settings: Settings, specs: tuple[MonitorSpec, ...], path: Path | None) -> Iterator[Outcome]:
    """Judge every record of the log's topic, without a consumer group."""
    from contextlib import closing

    from monitor import wiring
    from monitor.settings import TransportSettings
    from monitor.transport.log import EmbeddedLog

    pipeline = wiring.build_pipeline(settings, specs)
    assigned: set[str] = set()
    if path is None:
        if not isinstance(settings.transport, TransportSettings):
            raise ValueError(f"transport.type is {settings.transport.type}: say which embedded log to read")
        path = Path(settings.transport.path)
    with closing(EmbeddedLog(path, create=False)) as log:
        for block in log.scan(settings.transport.topic):
            if block.partition not in assigned:
                assigned.add(block.partition)
                pipeline.assign(block.partition, None)
            yield pipeline.process(block.partition, block.deliveries)


def from_table(specs: tuple[MonitorSpec, ...], path: Path) -> Iterator[Outcome]:
    """Judge a table's rows, one event a row, a second apart."""
    from monitor import tables
    from monitor.events import PayloadEvent
    from monitor.findings import EventRows
    from monitor.judge import make_judge
    from monitor.outcome import Outcome, Tally
    from monitor.windows import Rows

    for spec in specs:
        rows = tables.read(path, spec.features).rows
        judge = make_judge(spec, f"{path.name}/0", None, 0)
        for start in range(0, len(rows), BLOCK):
            events = [
                EventRows(
                    Rows(rows[i : i + 1], judge.partition, i, float(i)),
                    PayloadEvent(
                        f"row {i}", str(path), "table", "request", float(i), spec.namespace, spec.model,
                        "", f"row {i}", "", "", "", "", 0, b"", {},
                    ),
                )
                for i in range(start, min(start + BLOCK, len(rows)))
            ]  # fmt: skip
            yield Outcome(list(judge.take(events)), [], Tally())


def print_finding(finding: Finding, as_json: bool) -> None:
    if as_json:
        print(finding.to_json().decode())
        return
    word = "ALARM" if finding.alarm else finding.verdict.state
    print(f"{finding.end:%Y-%m-%d %H:%M:%S}  {finding.monitor:<24} {word:<18} {finding.text}")
