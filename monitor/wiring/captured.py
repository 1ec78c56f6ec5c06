"""Reference data out of a captured log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Meta, Verdict, as_rows, default_features
from monitor import tables
from monitor.codecs.detect import decode
from monitor.findings import MonitorSpec
from monitor.found_columns import FoundColumns
from monitor.pipeline import Pipeline
from monitor.routing import Feed
from monitor.settings import ModelSettings, MonitorSettings, Settings
from monitor.strangers import strangers
from monitor.transport.log import EmbeddedLog
from monitor.windows import Batch, Rows
from monitor.wiring.monitors import selected_features, selection
from monitor.wiring.routes import fetcher, route
from sinks.base import Position


class Captured(NamedTuple):
    """The rows, how many events could not be used, by reason, and what was wrong with the first of each."""

    table: tables.Table
    unusable: Counter[str]
    examples: Mapping[str, str]


def captured_rows(
    settings: Settings,
    model: ModelSettings,
    monitor: MonitorSettings,
    path: Path,
    progress: tables.Progress = lambda _: None,
) -> Captured:
    """The rows that the monitor would have judged of a captured log; events that cannot be used are counted.

    ``progress`` is told the share of the log that was read.

    Raises
    ------
    tables.TableError : the log holds no rows for the monitor.
    """
    log = EmbeddedLog(path, create=False)
    collector = RowCollector()
    spec = MonitorSpec(
        monitor.name, model.namespace, model.name, collector, selected_features(model, monitor),
        lambda _: EveryRow(), "",
    )  # fmt: skip
    request, response = selection(model, monitor)
    found = FoundColumns(monitor.tensor) if not spec.features and monitor.side != "joined" else None
    if found is not None:
        feed = Feed(request and found, response and found, (spec,))
    else:
        feed = Feed(request, response, (spec,))
    pipeline = Pipeline([route(model, (feed,))], decode, settings.worker.lookback, fetcher(settings))
    total = sum(stats.end - stats.start for stats in log.stats(settings.transport.topic))
    done, unusable, examples = 0, Counter[str](), dict[str, str]()
    for block in log.scan(settings.transport.topic):
        if block.deliveries[0].offset == log.start_offset(block.partition):
            pipeline.assign(block.partition, None)
        outcome = pipeline.process(block.partition, block.deliveries)
        unusable.update(outcome.tally.invalid)
        for letter in outcome.dead_letters:
            examples.setdefault(letter.reason, letter.message)
        done += len(block.deliveries)
        progress(done / max(total, done))
    log.close()
    if not collector.rows:
        why = f"; events that could not be used: {reasons(unusable, examples)}" if unusable else ""
        raise tables.TableError(f"{path}: holds no rows for monitor {monitor.name}{why}")
    rows = np.concatenate(collector.rows)
    features = spec.features or (found and found.features) or default_features(rows.shape[1])
    odd = (strangers(feature, rows[:, i]) for i, feature in enumerate(features))
    return Captured(tables.Table(rows, features, tuple(filter(None, odd))), unusable, examples)


def reasons(unusable: Counter[str], examples: Mapping[str, str]) -> str:
    """Why events could not be used, the commonest reason first.

    >>> reasons(Counter(not_numeric=2), {"not_numeric": "age: 'old' where a number belongs"})
    "2 not_numeric (age: 'old' where a number belongs)"
    """
    return ", ".join(f"{n:,} {reason} ({examples.get(reason, '')[:200]})" for reason, n in unusable.most_common())


class EveryRow:
    """A window that closes after each block: no row waits for others."""

    late = overflow = 0

    def push(self, *events: Rows) -> Iterator[Batch]:
        first, last = events[0], events[-1]
        times = [rows.time for rows in events]
        start = Position(first.partition, first.offset, 0)
        end = Position(last.partition, last.offset, len(last.x) - 1)
        x = np.concatenate([rows.x for rows in events])
        yield Batch(x, start, end, min(times), max(times), max(times), len(events), f"{first.offset}-{last.offset}")

    def expire(self, now: float) -> Iterator[Batch]:  # noqa: ARG002  nothing is left open
        return iter(())

    def low(self) -> int | None:
        return None

    def state(self) -> Mapping[str, Any]:
        return {}

    def fill(self) -> float:
        return 0.0


class RowCollector:
    """Looks like a drift detector; keeps the rows that it is shown."""

    meta = Meta("RowCollector", "drift", {})

    def __init__(self) -> None:
        self.rows: list[Array] = []

    def predict(self, x: npt.ArrayLike) -> Verdict:
        self.rows.append(as_rows(x))
        return Verdict("ok", n=len(self.rows[-1]))
