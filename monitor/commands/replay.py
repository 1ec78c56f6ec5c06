"""``offpath replay``: what the monitors would have said of a captured log or of a table. Publishes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectors.base import Array
    from monitor.findings import EventRows, MonitorSpec
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
    fill: dict[str, float] = {}
    outcomes = from_table(specs, args.table, fill) if args.table else from_log(settings, specs, args.log, fill)
    total = Total({spec.name: 0 for spec in specs})
    for outcome in outcomes:
        for letter in outcome.dead_letters:
            place = f"{letter.delivery.partition}:{letter.delivery.offset}"
            print(f"{place}  unusable: {letter.reason}: {letter.message}", file=sys.stderr)
        total.unusable += len(outcome.dead_letters)
        for finding in outcome.findings:
            total.add(finding)
            if args.all or finding.alarm or args.json:
                print_finding(finding, args.json, is_table=bool(args.table))
    if not args.json:
        for name, windows in total.windows.items():
            if not windows:
                print(f"{name}: no window was full, the last one is filled to {fill.get(name, 0.0):.0%}")
        print(total.in_words(is_table=bool(args.table)))
    return 0


@dataclass(slots=True)
class Total:
    """What was said, in numbers; ``windows`` judged, by monitor."""

    windows: dict[str, int]
    alarms: int = 0
    flagged: int = 0
    unusable: int = 0

    def add(self, finding: Finding) -> None:
        if finding.scope == "window":
            self.windows[finding.monitor] += 1
            self.alarms += finding.alarm
        else:
            self.flagged += len(finding.instances)

    def in_words(self, *, is_table: bool) -> str:
        """
        >>> Total({"drift": 2}, alarms=1).in_words(is_table=True)
        '2 windows judged, 1 alarm, 0 rows flagged'
        """
        counts = [(sum(self.windows.values()), "window", " judged"), (self.alarms, "alarm", "")]
        counts.append((self.flagged, "row", " flagged"))
        if not is_table:
            counts.append((self.unusable, "unusable event", ""))
        return ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}{more}" for n, what, more in counts)


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


def from_log(
    settings: Settings, specs: tuple[MonitorSpec, ...], path: Path | None, fill: dict[str, float]
) -> Iterator[Outcome]:
    """Judge every record of the log's topic, without a consumer group; ``fill`` tells of windows left open."""
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
    fill.update(pipeline.fill())


def from_table(specs: tuple[MonitorSpec, ...], path: Path, fill: dict[str, float]) -> Iterator[Outcome]:
    """Judge a table's rows, one event a row, a second apart; ``fill`` tells of windows left open."""
    from monitor import tables
    from monitor.judge import make_judge
    from monitor.outcome import Outcome, Tally

    judges = [
        (make_judge(spec, f"{path.name}/0", None, 0), tables.read(path, spec.features).rows, spec) for spec in specs
    ]
    for start in range(0, max((len(rows) for _, rows, _ in judges), default=0), BLOCK):
        for judge, rows, spec in judges:
            events = [table_row(path, spec, rows, i) for i in range(start, min(start + BLOCK, len(rows)))]
            yield Outcome(list(judge.take(events)), [], Tally())
    fill.update({spec.name: judge.window.fill() for judge, _, spec in judges})


def table_row(path: Path, spec: MonitorSpec, rows: Array, i: int) -> EventRows:
    """Row ``i`` of the table as if it were a request."""
    from monitor.events import PayloadEvent
    from monitor.findings import EventRows
    from monitor.windows import Rows

    event = PayloadEvent(
        f"row {i + 1}", str(path), "table", "request", float(i), spec.namespace, spec.model,
        "", f"row {i + 1}", "", "", "", "", 0, b"", {},
    )  # fmt: skip
    return EventRows(Rows(rows[i : i + 1], f"{path.name}/0", i, float(i)), event)


def print_finding(finding: Finding, as_json: bool, *, is_table: bool = False) -> None:
    if as_json:
        print(finding.to_json().decode())
        return
    judged = "ALARM" if finding.alarm else finding.verdict.state
    word = finding.kind if finding.scope == "instance" else judged
    first, last = finding.first.offset + 1, finding.last.offset + 1
    rows = f"row {first:,}" if first == last else f"rows {first:,} to {last:,}"
    place = f"{rows:<19}" if is_table else f"{finding.end:%Y-%m-%d %H:%M:%S}"
    print(f"{place}  {finding.monitor:<24} {word:<18} {finding.text}")
