"""``offpath fit``: learn a detector from reference data and write it as an artefact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.commands.progress import Bar, progress_bar
from monitor.commands.promise import false_alarms, online_false_alarms
from monitor.commands.usage import UsageError
from monitor.commands.wording import counted

if TYPE_CHECKING:
    from detectors.base import Detector, Feature
    from monitor.tables import Table
    from monitor.wiring import Captured

HELP = "learn a detector from reference data"
EXAMPLE = """examples:
  offpath fit --type TabularDrift --reference train.csv --out artefacts/drift --param ert=10000
  offpath fit --config offpath.yaml --monitor income-drift --reference train.parquet
  offpath fit --config offpath.yaml --monitor income-drift --log captured.db"""


WINDOW = 1000
"""Rows of a clean window, where no configuration says how many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to learn: a type, or a monitor of a configuration")
    what.add_argument("--type", help="detector_type, for example TabularDrift or IForest")
    what.add_argument("--config", type=Path, help="configuration that holds the monitor")
    what.add_argument("--monitor", help="take type, parameters, columns and artefact directory from this monitor")
    what.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the detector")
    data = parser.add_argument_group("from which data")
    origin = data.add_mutually_exclusive_group(required=True)
    origin.add_argument("--reference", type=Path, help="CSV, Parquet, npz or npy file")
    origin.add_argument("--log", type=Path, help="a captured log; needs --config and --monitor")
    data.add_argument("--columns", help="only these columns, separated by commas")
    parser.add_argument("--out", type=Path, help="directory to write (default: the monitor's artifact)")
    parser.add_argument(
        "--windows",
        type=int,
        metavar="N",
        help="measure false alarms of a drift detector on so many clean windows, held out; 0: do not "
        "(default: 200, or 50 with torch or sklearn; detectors that judge row by row are measured on 20 run times)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from detectors import artifact, registry

    _check(args)
    with progress_bar(args.quiet) as bar:
        kind, params, out, table, window = _wanted(args, bar)
        warnings = _labels(table, args.reference or args.log)
        problems = registry.check_params(kind, params)
        if problems:
            raise UsageError("; ".join(problems))
        detector: Any = registry.create(kind, **params)
        with bar.step(f"fitting {kind} on {len(table.rows):,} rows") as progress:
            if registry.is_online(kind):
                detector.fit(table.rows, table.features, progress)
            else:
                detector.fit(table.rows, table.features)
            artifact.save(detector, out)
        if args.windows is None:
            args.windows = 50 if registry.requires(kind, detector.meta.params) else 200
        measured = None
        if registry.is_online(kind) and args.windows > 0:
            ert = detector.meta.params["ert"]
            measured = online_false_alarms(lambda: registry.create(kind, **params), table, ert, bar)
        elif detector.meta.kind == "drift" and args.windows > 0:
            measured = false_alarms(lambda: registry.create(kind, **params), table, window, args.windows, bar)
    _report(detector, table, out)
    if measured:
        print(measured.line)
        warnings.extend(filter(None, [measured.warning]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.type) == bool(args.monitor):
        raise UsageError("give either --type, or --config and --monitor")
    if args.monitor and not args.config:
        raise UsageError("--monitor needs --config, the file that holds it")
    if args.log and not args.monitor:
        raise UsageError("--log needs --config and --monitor: they say how to decode its events")
    if args.windows is not None and args.windows < 0:
        raise UsageError(f"--windows {args.windows}: must be at least 1, or 0 to measure nothing")
    if args.columns is not None:
        names = [name.strip() for name in args.columns.split(",")]
        if not any(names):
            raise UsageError("--columns names none: give names separated by commas, or leave it out to take all")
        if len(set(names)) < len(names):
            raise UsageError(f"--columns {args.columns}: a column is named twice")


def _wanted(args: argparse.Namespace, bar: Bar) -> tuple[str, dict[str, Any], Path, Table, int]:
    """Type, parameters, directory, reference, and rows a window."""
    from monitor import tables

    given = dict(_parameter(text) for text in args.param)
    columns = None if args.columns is None else [name.strip() for name in args.columns.split(",")]
    if args.type:
        if args.out is None:
            raise UsageError("--out is needed: the directory to write")
        with bar.step(f"reading {args.reference}") as progress:
            return args.type, given, args.out, tables.read(args.reference, (), columns, progress), WINDOW
    from monitor import configuration, wiring

    settings = configuration.load_unfitted(args.config)
    monitor = next((monitor for monitor in settings.monitors if monitor.name == args.monitor), None)
    if monitor is None:
        known = [monitor.name for monitor in settings.monitors]
        raise configuration.ConfigurationError([configuration.unknown_name("--monitor", args.monitor, known)])
    out = args.out or (Path(monitor.detector.artifact) if monitor.detector.artifact else None)
    if out is None:
        raise UsageError(f"--out is needed: monitor {monitor.name} names no artifact directory")
    model = next(model for model in settings.models if model.name == monitor.model)
    with bar.step(f"reading {args.log or args.reference}") as progress:
        if args.log:
            captured = wiring.captured_rows(settings, model, monitor, args.log, progress)
            table = captured.table.only(columns, args.log)
            _unusable(captured, args.log)
        else:
            table = tables.read(args.reference, wiring.selected_features(model, monitor), columns, progress)
    window = monitor.window.count or monitor.window.sliding or WINDOW
    return monitor.detector.type, {**monitor.detector.params, **given}, out, table, window


def _unusable(captured: Captured, log: Path) -> None:
    from monitor import wiring

    if captured.unusable:
        why = wiring.reasons(captured.unusable, captured.examples)
        events = counted(captured.unusable.total(), "event")
        print(f"warning: {events} of {log} could not be used: {why}", file=sys.stderr)


def _labels(table: Table, path: Path) -> list[str]:
    """Warnings of values that are none of their column's categories; all of a column's are an error."""
    from monitor.configuration import labelcheck
    from monitor.tables import TableError

    mistakes, warnings = labelcheck.judged(table.strangers, path.name)
    if mistakes:
        raise TableError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return [*warnings, *table.mixed]


def _parameter(text: str) -> tuple[str, Any]:
    import yaml

    from monitor.configuration.nodes import Loader

    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--param {text}: write it as NAME=VALUE")
    try:
        return name, yaml.load(value, Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--param {text}: the value is no YAML: {' '.join(str(error).split())}") from None


def _report(detector: Detector, table: Table, out: Path) -> None:
    meta = detector.meta
    print(f"{meta.detector_type}: {len(table.rows):,} rows, {counted(len(table.features), 'column')} -> {out}")
    for name in table.empty():
        print(f"warning: column {name} of the reference holds no value at all: it cannot be watched", file=sys.stderr)
    print(f"  columns   {', '.join(_kind(feature) for feature in table.features)}")
    verdict = detector.predict(table.rows[: max(meta.min_rows, min(len(table.rows), 1000))])
    if verdict.threshold is not None:
        print(f"  threshold {verdict.threshold:.6g}")
    print(f"  minimum   {counted(meta.min_rows, 'row')} a window")


def _kind(feature: Feature) -> str:
    """The column, and how it was taken: a wrong cell among numbers makes them labels."""
    if feature.kind == "numeric":
        return feature.name
    return f"{feature.name} ({counted(len(feature.categories), 'label')})"
