"""Reference data out of a captured log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from detectors.base import Array, Meta, Verdict, as_rows, default_features
from monitor import tables
from monitor.codecs.detect import decode
from monitor.count_window import CountWindow
from monitor.findings import MonitorSpec
from monitor.pipeline import Pipeline
from monitor.settings import ModelSettings, MonitorSettings, Settings
from monitor.transport.log import EmbeddedLog
from monitor.wiring.monitors import selected_features
from monitor.wiring.routes import fetcher, route


def captured_rows(
    settings: Settings,
    model: ModelSettings,
    monitor: MonitorSettings,
    path: Path,
    progress: tables.Progress = lambda _: None,
) -> tables.Table:
    """The rows that the monitor would have judged of a captured log; events that cannot be used are passed over.

    ``progress`` is told the share of the log that was read.

    Raises
    ------
    tables.TableError : the log holds no rows for the monitor.
    """
    log = EmbeddedLog(path, create=False)
    collector = RowCollector()
    spec = MonitorSpec(
        monitor.name, model.namespace, model.name, collector, selected_features(model, monitor),
        lambda state: CountWindow(32, None, state), "",
    )  # fmt: skip
    routes = [route(model, [monitor], {monitor.name: spec})]
    pipeline = Pipeline(routes, decode, settings.worker.lookback, fetcher(settings))
    total = sum(stats.end - stats.start for stats in log.stats(settings.transport.topic))
    done = 0
    for block in log.scan(settings.transport.topic):
        if block.deliveries[0].offset == log.start_offset(block.partition):
            pipeline.assign(block.partition, None)
        pipeline.process(block.partition, block.deliveries)
        done += len(block.deliveries)
        progress(done / max(total, done))
    log.close()
    if not collector.rows:
        raise tables.TableError(f"{path}: holds no rows for monitor {monitor.name}, or fewer than 32")
    rows = np.concatenate(collector.rows)
    return tables.Table(rows, spec.features or default_features(rows.shape[1]))


class RowCollector:
    """Looks like a drift detector; keeps the rows that it is shown."""

    meta = Meta("RowCollector", "drift", {})

    def __init__(self) -> None:
        self.rows: list[Array] = []

    def predict(self, x: npt.ArrayLike) -> Verdict:
        self.rows.append(as_rows(x))
        return Verdict("ok", n=len(self.rows[-1]))
