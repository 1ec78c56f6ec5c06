"""Events per second and CPU per event, from the embedded log to findings, by stage, against a floor.

The floor, measured in the same run and in turns with the worker: the same rows read from SQLite in blocks of 256,
headers by orjson, body by ``np.asarray(orjson.loads(body)["instances"])``, and nothing else.

    python benchmarks/worker.py [--quick] [--json]

The monitor is the default of the examples: TabularDrift on 4 numeric and 8 categorical columns, windows of 1,000 rows,
findings to the SQLite store and to Prometheus.
Stages are differences: each adds one step to the one before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from report import Row, main, row

from detectors import artifact
from detectors.base import Feature, Verdict
from detectors.drift.tabular import TabularDrift
from monitor import wiring
from monitor.codecs.detect import decode
from monitor.events import Record, payload_event
from monitor.settings import Settings
from monitor.transport.base import Block, Idle
from monitor.transport.embedded import EmbeddedSource
from sinks.base import Finding

COLUMNS = (
    *(Feature(f"n{i}") for i in range(4)),
    *(
        Feature(f"c{i}", "categorical", tuple(f"v{j}" for j in range(k)))
        for i, k in enumerate((9, 7, 4, 9, 6, 5, 2, 11))
    ),
)
TARGETS = {1: 10.0, 64: 1.6}
VERDICT = Verdict("ok", n=1000)


def make_rows(n: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows shaped like the income example: ages, gains, losses, hours and eight coded columns."""
    numeric = [
        rng.integers(17, 90, n),
        rng.integers(0, 99999, n) * (rng.random(n) < 0.08),
        rng.integers(0, 4000, n) * (rng.random(n) < 0.05),
        rng.integers(1, 99, n),
    ]
    coded = [rng.integers(0, len(f.categories), n) for f in COLUMNS[4:]]
    return np.stack([*numeric, *coded], axis=1).astype(int).tolist()


def configuration(folder: Path) -> Settings:
    """The monitor of the examples, on files in ``folder``."""
    rng = np.random.default_rng(0)
    detector = TabularDrift(ert=10_000).fit(np.asarray(make_rows(10_000, rng), dtype=float), COLUMNS)
    artifact.save(detector, folder / "drift")
    return Settings.model_validate(
        {
            "models": [
                {
                    "name": "income",
                    "features": [{"name": f.name, "type": f.kind, "categories": f.categories} for f in COLUMNS],
                }
            ],
            "monitors": [
                {
                    "name": "income-drift",
                    "model": "income",
                    "window": {"count": 1000},
                    "detector": {"type": "TabularDrift", "artifact": str(folder / "drift")},
                }
            ],
            "transport": {"path": str(folder / "log.db"), "retain": "8GiB"},
            "sinks": [{"type": "store", "path": str(folder / "findings.db")}, {"type": "prometheus"}],
        }
    )


def write_log(settings: Settings, events: int, rows: int) -> None:
    """``events`` requests of ``rows`` rows in V1, as the sidecar writes them."""
    rng = np.random.default_rng(1)
    log = wiring.open_log(settings)
    for start in range(0, events, 1024):
        n = min(1024, events - start)
        values = make_rows(n * rows, rng)
        log.append(settings.transport.topic, [record(start + i, values[i * rows : (i + 1) * rows]) for i in range(n)])
    log.close()


def record(i: int, rows: Sequence[Any]) -> Record:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{i:032x}",
        "ce_source": "http://127.0.0.1:9081",
        "ce_type": "org.kubeflow.serving.inference.request",
        "ce_time": "2026-01-01T00:00:00.123456Z",
        "ce_requestid": f"{i:032x}",
        "ce_modelid": "income",
        "ce_inferenceservicename": "income",
        "ce_namespace": "default",
        "ce_path": "/v1/models/income:predict",
        "ce_partitionkey": "default/income",
        "content-type": "application/json",
    }
    return Record("default/income", headers, orjson.dumps({"instances": rows}), 1767225600.0)


def floor(path: Path, events: int) -> None:
    """The least that reading these rows can cost."""
    connection = sqlite3.connect(path)
    table = floor_table()
    for start in range(0, events, 256):
        for headers, body in connection.execute(table, (start, start + 256)).fetchall():
            orjson.loads(headers)
            np.asarray(orjson.loads(body)["instances"])
    connection.close()


def floor_table() -> str:
    """The same records in a table of their own, made once."""
    return "SELECT headers, body FROM floor WHERE offset >= ? AND offset < ?"


def write_floor(path: Path, events: int, rows: int) -> None:
    rng = np.random.default_rng(1)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE floor (offset INTEGER PRIMARY KEY, headers BLOB, body BLOB)")
    for start in range(0, events, 1024):
        n = min(1024, events - start)
        values = make_rows(n * rows, rng)
        records = [record(start + i, values[i * rows : (i + 1) * rows]) for i in range(n)]
        connection.executemany(
            "INSERT INTO floor VALUES (?, ?, ?)",
            [(start + i, orjson.dumps(r.headers), r.value) for i, r in enumerate(records)],
        )
    connection.commit()
    connection.close()


class Nowhere:
    """A sink that keeps nothing: for the stages before the sinks."""

    async def write(self, findings: Sequence[Finding]) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


def run_stage(settings: Settings, stage: str, events: int) -> None:
    """Read all events from a fresh consumer group, and do everything up to ``stage``."""
    fresh = settings.worker.model_copy(update={"group": f"{stage}-{time.monotonic_ns()}"})
    asyncio.run(STAGES[stage](settings.model_copy(update={"worker": fresh}), events))


async def read_only(settings: Settings, events: int) -> None:
    await _each_block(settings, events, lambda _: None)


async def decode_too(settings: Settings, events: int) -> None:
    columns, _ = wiring.selection(settings.models[0], settings.monitors[0])
    assert columns is not None

    def take(block: Block) -> None:
        for delivery in block.deliveries:
            columns.rows(decode(payload_event(delivery), "auto"))

    await _each_block(settings, events, take)


async def window_too(settings: Settings, events: int) -> None:
    specs = wiring.build_specs(settings)
    object.__setattr__(specs[0].detector, "predict", lambda _: VERDICT)
    await _pipeline(settings, specs, events)


async def detect_too(settings: Settings, events: int) -> None:
    await _pipeline(settings, wiring.build_specs(settings), events)


async def _pipeline(settings: Settings, specs: Sequence[Any], events: int) -> None:
    pipeline = wiring.build_pipeline(settings, specs)
    pipeline.assign(f"{settings.transport.topic}/0", None)
    await _each_block(settings, events, lambda block: pipeline.process(block.partition, block.deliveries))


async def _each_block(settings: Settings, events: int, take: Callable[[Block], object]) -> None:
    log = wiring.open_log(settings)
    source = EmbeddedSource(log, settings.transport.topic, settings.worker.group)
    seen = 0
    async for signal in source:
        if isinstance(signal, Block):
            take(signal)
            seen += len(signal.deliveries)
        if isinstance(signal, Idle) or seen >= events:
            break
    assert seen == events, f"read {seen} of {events} events"
    await source.close()
    log.close()


async def everything(settings: Settings, events: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=Path(settings.transport.path).parent))
    sinks = (settings.sinks[0].model_copy(update={"path": str(folder / "findings.db")}), *settings.sinks[1:])
    assembly = wiring.build(settings.model_copy(update={"sinks": sinks}))
    source = assembly.source
    original = source.commit
    done = 0

    async def commit(checkpoints: Any) -> None:
        nonlocal done
        await original(checkpoints)
        done = max(json.loads(c.state)["next"] for c in checkpoints.values())
        if done >= events:
            assembly.worker.stop()

    source.commit = commit  # type: ignore[method-assign]
    await assembly.worker.run()
    assert done == events, f"committed {done} of {events} events"
    await assembly.close()


STAGES: dict[str, Callable[[Settings, int], Any]] = {
    "read": read_only,
    "decode": decode_too,
    "window": window_too,
    "detect": detect_too,
    "sinks": everything,
}


def cpu(act: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of ``act`` in this process."""
    gc.collect()
    began, wall = time.process_time(), time.perf_counter()
    act()
    return time.process_time() - began, time.perf_counter() - wall


def by_stage(rows: int, events: int, rounds: int) -> list[Row]:
    """CPU microseconds an event, the least of all rounds; the ratio is the median of pairs, each run side by side.

    What else the machine does only ever adds to a figure, so that the least is the nearest to the truth; and it changes
    within seconds, so that the floor is measured right before, and right after, what is compared with it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = configuration(folder)
        write_log(settings, events, rows)
        write_floor(folder / "floor.db", events, rows)
        acts: dict[str, Callable[[], object]] = {"floor": lambda: floor(folder / "floor.db", events)}
        acts.update({stage: partial(run_stage, settings, stage, events) for stage in STAGES})
        times: dict[str, list[float]] = {name: [] for name in acts}
        walls, ratios = [], []
        for _ in range(rounds):
            for name in ("read", "decode", "window", "detect", "floor", "sinks", "floor"):
                spent, wall = cpu(acts[name])
                times[name].append(spent)
                if name == "sinks":
                    walls.append(wall)
            ratios.append(2.0 * times["sinks"][-1] / sum(times["floor"][-2:]))
    us = {name: min(values) / events * 1e6 for name, values in times.items()}
    return stages(rows, us, statistics.median(ratios), events / min(walls))


def stages(rows: int, us: dict[str, float], ratio: float, rate: float) -> list[Row]:
    label, before = f"{rows} rows", 0.0
    lines = [row(f"floor, {label}", us["floor"], "us CPU/event")]
    for stage in STAGES:
        lines.append(row(f"{stage}, {label}", us[stage] - before, "us CPU/event"))
        before = us[stage]
    return [
        *lines,
        row(f"events, {label}", rate, "events/s"),
        row(f"ratio to the floor, {label}", ratio, "x", TARGETS[rows]),
    ]


def _memory(settings: Settings, events: int, answer: Any) -> None:
    run_stage(settings, "sinks", events)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(small: int, large: int) -> Iterator[Row]:
    """Peak resident memory of a worker after ``small`` and after ``large`` events, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    peaks = []
    for events in (small, large):
        with tempfile.TemporaryDirectory() as name:
            settings = configuration(Path(name))
            write_log(settings, events, 1)
            answer: Any = spawn.Queue()
            process = spawn.Process(target=_memory, args=(settings, events, answer))
            process.start()
            peaks.append(answer.get(timeout=600))
            process.join()
    yield row(f"peak memory, {small:,} events", peaks[0], "MiB")
    yield row(f"peak memory, {large:,} events", peaks[1], "MiB")
    yield row("memory growth", peaks[1] / peaks[0], "x", 1.05)


def measure(quick: bool) -> Iterator[Row]:
    one, many, rounds = (20_000, 10_000, 3) if quick else (50_000, 10_000, 9)
    yield from by_stage(1, one, rounds)
    yield from by_stage(64, many, rounds)
    yield from memory(20_000, 100_000) if quick else memory(100_000, 1_000_000)


if __name__ == "__main__":
    sys.exit(main("worker", __doc__, measure))
