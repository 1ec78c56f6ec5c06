"""``offpath replay``: what the monitors would have said of a captured log or of a table. Publishes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.progress import progress_bar
from monitor.commands.usage import UsageError

if TYPE_CHECKING:
    from detectors.base import Array
    from monitor.commands.account import Account
    from monitor.findings import EventRows, MonitorSpec
    from monitor.outcome import Outcome
    from monitor.settings import Settings
    from sinks.base import Finding

HELP = "run monitors over a captured log or a table, publishing nothing"
EXAMPLE = """examples:
  offpath replay --config offpath.yaml                        the configured log, from its oldest record
  offpath replay --config offpath.yaml --log captured.db --json
  offpath replay --config offpath.yaml --table last-month.csv --monitor income-drift"""

Progress = Callable[[float], object]

SHOWN = 10
"""Unusable events of one reason that are told one by one."""

BLOCK = 256
"""Table rows judged at a time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("offpath.yaml"), help="configuration (default: %(default)s)"
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--log", type=Path, help="a captured log (default: transport.path of the configuration)")
    given.add_argument(
        "--table", type=Path, help="rows of a CSV, Parquet, npz or npy file, as if they were requests, one a second"
    )
    parser.add_argument("--monitor", action="append", help="only this monitor (may be given again)")
    parser.add_argument("--all", action="store_true", help="print evaluations without a finding too")
    parser.add_argument("--json", action="store_true", help="one finding a line, as JSON, as they come")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from monitor import configuration, wiring
    from monitor.commands.account import Account

    settings = only(configuration.load(args.config), args.monitor)
    specs = wiring.build_specs(settings)
    fill: dict[str, float] = {}
    account = Account({spec.name: 0 for spec in specs}, is_table=bool(args.table))
    with progress_bar(args.quiet or args.json) as bar, bar.step("judging") as progress:
        if args.table:
            outcomes = from_table(specs, args.table, fill, progress)
        else:
            outcomes = from_log(settings, specs, args.log, fill, progress)
        for outcome in outcomes:
            take(outcome, account, args)
    for line in account.told():
        print(line)
    for line in (*account.silent(fill), account.in_words()):
        print(line, file=sys.stderr if args.json else sys.stdout)
    return 0


def take(outcome: Outcome, account: Account, args: argparse.Namespace) -> None:
    """Note what came of a block; with ``--json`` tell it at once."""
    from monitor.dead_letters import place_of

    for letter in outcome.dead_letters:
        account.unusable[letter.reason] += 1
        if account.unusable[letter.reason] <= SHOWN or args.all:
            print(f"{place_of(letter)}  unusable: {letter.reason}: {letter.message}", file=sys.stderr)
    account.count(outcome.tally)
    for finding in outcome.findings:
        account.add(finding)
        if not (args.all or finding.alarm):
            continue
        if args.json:
            print(as_json(finding, account.is_table))
        else:
            account.note(finding)


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
    settings: Settings, specs: tuple[MonitorSpec, ...], path: Path | None, fill: dict[str, float], progress: Progress
) -> Iterator[Outcome]:
    """Judge every record of the log's topic, without a consumer group; ``fill`` tells of windows left open."""
    from contextlib import closing

    from monitor import wiring
    from monitor.settings import TransportSettings
    from monitor.transport.log import EmbeddedLog

    pipeline, assigned = wiring.build_pipeline(settings, specs), set[str]()
    if path is None:
        if not isinstance(settings.transport, TransportSettings):
            raise UsageError(f"transport.type is {settings.transport.type}: say which embedded log to read")
        path = Path(settings.transport.path)
    with closing(EmbeddedLog(path, create=False)) as log:
        topic = settings.transport.topic
        stats = log.stats(topic)
        total, done = sum(part.end - part.start for part in stats), 0
        merge = merger(specs, [part.partition for part in stats])
        for block in log.scan(topic):
            if block.partition not in assigned:
                assigned.add(block.partition)
                pipeline.assign(block.partition, None)
            yield merge(pipeline.process(block.partition, block.deliveries))
            done += len(block.deliveries)
            progress(done / max(total, done))
        for partition in {part.partition for part in stats} - assigned:
            pipeline.assign(partition, None)
    yield merge(pipeline.settle())
    fill.update(pipeline.fill())


def merger(specs: Sequence[MonitorSpec], partitions: Sequence[str]) -> Callable[[Outcome], Outcome]:
    """Adds, to what came of a block, the findings on windows that are merged over these partitions."""
    from monitor import wiring

    merging = wiring.build_merging(specs, partitions)
    if merging is None:
        return lambda outcome: outcome
    merging.assign("here", None)

    def merge(outcome: Outcome) -> Outcome:
        merged = merging.merge("here", outcome.parts)
        return outcome._replace(findings=[*outcome.findings, *merged.findings])

    return merge


def from_table(
    specs: tuple[MonitorSpec, ...], path: Path, fill: dict[str, float], progress: Progress
) -> Iterator[Outcome]:
    """Judge a table's rows, one event a row, a second apart; ``fill`` tells of windows left open."""
    from collections import Counter

    from monitor.judge import SummingJudge
    from monitor.judging import make_judge
    from monitor.outcome import Outcome, Tally

    merge = merger(specs, [f"{path.name}/0"])
    judges = [
        (make_judge(spec, f"{path.name}/0", None, 0), _rows_for(spec, path, len(specs) > 1), spec) for spec in specs
    ]
    total = max((len(rows) for _, rows, _ in judges), default=0)
    for start in range(0, total, BLOCK):
        for judge, rows, spec in judges:
            events = [table_row(path, spec, rows, i) for i in range(start, min(start + BLOCK, len(rows)))]
            findings, tally = list(judge.take(events)), Tally(rows=Counter({spec.name: len(events)}))
            yield merge(Outcome(findings, [], tally, judge.take_parts() if isinstance(judge, SummingJudge) else []))
        progress(min(start + BLOCK, total) / total)
    fill.update({spec.name: judge.window.fill() for judge, _, spec in judges})


def _rows_for(spec: MonitorSpec, path: Path, several: bool) -> Array:
    from monitor import tables

    try:
        return tables.read(path, spec.features).rows
    except tables.TableError as error:
        if not several:
            raise
        raise tables.TableError(f"{error}, for monitor {spec.name}; --monitor leaves out others") from None


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


def as_json(finding: Finding, is_table: bool) -> str:
    """A line; rows of a table have places, and no times."""
    if not is_table:
        return finding.to_json().decode()
    import json

    return json.dumps({**finding.to_dict(), "time": None, "start": None, "end": None})
