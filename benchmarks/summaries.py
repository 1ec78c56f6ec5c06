"""A model hotter than one worker: 1, 2 and 4 workers on one topic, and how far off their verdicts are.

    python benchmarks/summaries.py [--quick] [--json]

Requests of 64 rows of 12 columns (4 numeric of many values, 8 coded), keyed by request, on a Kafka topic of 4
partitions; TabularDrift on windows of time that merge, with the default sample. The workers are processes, and wait
when the events are published. Rate: events, from the first that is published to the last that is read. CPU: of all
workers, their start not counted. `apart` is one worker whose windows do not merge, but are judged by partition.
Kafka is looked for as the tests do (KAFKA_HOME, or OFFPATH_TEST_KAFKA); without one only the errors are measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from report import Row, main, row
from traffic.kafka import broker
from traffic.meters import cpu
from traffic.servers import free_port, until

from detectors import artifact
from detectors.base import Array, Feature
from detectors.drift.counting import RESOLUTION
from detectors.drift.cvm import CVMDrift
from detectors.drift.tabular import TabularDrift
from detectors.merging import Summariser, sampling_error
from detectors.sample import row_keys
from monitor import configuration, wiring
from monitor.events import Record
from sinks.store import FindingStore

PARTITIONS, ROWS, WINDOWS, SECONDS, START = 4, 64, 10, 60.0, 1_700_000_040.0
CODED = (9, 7, 4, 9, 6, 5, 2, 11)
FEATURES = (
    *(Feature(f"n{i}") for i in range(4)),
    *(Feature(f"c{i}", "categorical", tuple(f"v{j}" for j in range(k))) for i, k in enumerate(CODED)),
)
PATIENCE = 300.0


def table(n: int, rng: np.random.Generator, shift: float = 0.0) -> Array:
    numeric = [rng.normal(shift, 1, n), rng.exponential(1 + shift, n), rng.gamma(2, 1, n), rng.uniform(size=n)]
    return np.stack([*numeric, *(rng.integers(0, k, n) for k in CODED)], axis=1)


def make_events(events: int) -> tuple[list[Record], list[Array]]:
    """The requests, and the rows of each window. The last three windows drift a little."""
    rng = np.random.default_rng(1)
    windows = [table(events // WINDOWS * ROWS, rng, 0.03 * (w > WINDOWS - 4)) for w in range(WINDOWS)]
    records = []
    for w, rows in enumerate(windows):
        step = SECONDS / (len(rows) // ROWS)
        for i in range(len(rows) // ROWS):
            records.append(record(len(records), START + w * SECONDS + i * step, rows[i * ROWS : (i + 1) * ROWS]))
    return records, windows


def record(i: int, moment: float, rows: Array) -> Record:
    headers = {
        "ce_specversion": "1.0", "ce_id": f"{i:032x}", "ce_source": "http://127.0.0.1:9081",
        "ce_type": "org.kubeflow.serving.inference.request", "ce_requestid": f"{i:032x}", "ce_modelid": "hot",
        "ce_time": datetime.fromtimestamp(moment, tz=timezone.utc).isoformat(), "ce_path": "/v1/models/hot:predict",
        "ce_partitionkey": f"{i:032x}", "content-type": "application/json",
    }  # fmt: skip
    values = [[*told[:4], *map(int, told[4:])] for told in rows.tolist()]
    return Record(f"{i:032x}", headers, orjson.dumps({"instances": values}), moment)


def closing(i: int) -> list[Record]:
    """Some more events, in the window after: each partition gets one of them, and closes the windows before."""
    rows = np.zeros((1, len(FEATURES)))
    return [record(i + k, START + (WINDOWS + 1) * SECONDS, rows) for k in range(64)]


def configured(folder: Path, address: str, topic: str, run: str, worker: int, *, merge: bool) -> Path:
    window = {"time": f"{SECONDS:g}s", **({"merge": True} if merge else {"max_rows": 10**7})}
    columns = [{"name": f.name, "type": f.kind, "categories": f.categories} for f in FEATURES]
    told = {
        "models": [{"name": "hot", "features": columns}],
        "monitors": [
            {"name": "drift", "model": "hot", "window": window,
             "detector": {"type": "TabularDrift", "artifact": str(folder / "drift")}}
        ],
        "transport": {
            "type": "kafka", "bootstrap": address, "topic": topic, "dead_letters": f"{topic}-dead",
            "state": f"{topic}-state", "summaries": f"{topic}-sums", "partitions": PARTITIONS, "replication": 1,
            "session_timeout": "6s",
        },
        "sinks": [{"type": "store", "path": str(folder / f"{run}.db")}],
        "worker": {"group": run, "listen": f"127.0.0.1:{free_port()}"},
    }  # fmt: skip
    path = folder / f"{run}-{worker}.yaml"
    path.write_text(json.dumps(told))
    return path


class Fleet:
    """Worker processes of one group; their pages tell how far they are."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._pages = [json.loads(path.read_text())["worker"]["listen"] for path in paths]
        command = [sys.executable, "-m", "monitor", "worker", "--config"]
        self.running = [subprocess.Popen([*command, str(path)], stderr=subprocess.DEVNULL) for path in paths]

    def read(self, pattern: str) -> list[float]:
        """A number from each page's metrics: the sum over the series that the pattern finds, -1 without any."""
        return [self._one(page, pattern) for page in self._pages]

    def _one(self, page: str, pattern: str) -> float:
        try:
            with urllib.request.urlopen(f"http://{page}/metrics", timeout=5) as answer:
                found = re.findall(rf"^{pattern} (\S+)$", answer.read().decode(), flags=re.MULTILINE)
        except OSError:
            return -1.0
        return sum(map(float, found)) if found else -1.0

    def cpu(self) -> float:
        """Seconds of all processes so far."""
        return cpu(process.pid for process in self.running)

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


async def publish(path: Path, records: Sequence[Record]) -> None:
    settings = configuration.load(path, {})
    transport = wiring.open_transport(settings)
    publisher = transport.publisher(settings.transport.topic)
    for start in range(0, len(records), 500):
        await publisher.publish(records[start : start + 500])
    await transport.close()


def assigned(fleet: Fleet) -> bool:
    """Every worker has its share of the payloads' partitions."""
    told = [fleet._one(page, r"offpath_lag_events\{partition=\"hot-[^\"]*/\d\"\}") for page in fleet._pages]
    return min(told) >= 0.0


def run_fleet(folder: Path, address: str, workers: int, records: Sequence[Record], *, merge: bool) -> dict[str, Any]:
    """Events a second, CPU an event, and the findings."""
    name = f"{'merged' if merge else 'apart'}-{workers}-{uuid.uuid4().hex[:6]}"
    topic = f"hot-{name}"
    paths = [configured(folder, address, topic, name, i, merge=merge) for i in range(workers)]
    fleet = Fleet(paths)
    try:
        until(lambda: assigned(fleet), "the group", PATIENCE)
        time.sleep(2.0)  # the group that merges settles, too
        began, wall = fleet.cpu(), time.perf_counter()
        asyncio.run(publish(paths[0], records))
        seen = r"offpath_events_total\{.*\"request\".*\}"
        until(lambda: sum(fleet.read(seen)) >= len(records), "the last event", PATIENCE)
        seconds = time.perf_counter() - wall
        wanted = WINDOWS * (1 if merge else PARTITIONS)
        until(lambda: len(findings(folder / f"{name}.db")) >= wanted, "the last finding", PATIENCE)
        spent = fleet.cpu() - began
    finally:
        fleet.end()
    return {
        "rate": len(records) / seconds,
        "cpu": spent / len(records) * 1e6,
        "found": findings(folder / f"{name}.db"),
    }


def findings(path: Path) -> list[dict[str, Any]]:
    store = FindingStore(path)
    found = sorted(store.findings(limit=1000), key=lambda finding: finding["end"])
    store.close()
    return found


def errors(found: Sequence[Mapping[str, Any]], windows: Sequence[Array], detector: TabularDrift) -> tuple[float, float]:
    """The largest shortfall of a numeric column's distance, and the largest difference of a coded one's statistic."""
    numeric = coded = 0.0
    for finding, rows in zip(found, windows, strict=True):
        wanted = detector.predict(rows)
        assert finding["verdict"]["n"] == len(rows), "not all rows were counted"
        assert finding["verdict"]["state"] == wanted.state, "another state than that of all data"
        for told, feature in zip(finding["verdict"]["features"], wanted.features, strict=True):
            gap = float(feature.statistic or 0.0) - told["statistic"]
            if feature.kind == "numeric":
                numeric = max(numeric, gap if gap >= 0.0 else 1.0)
            else:
                coded = max(coded, abs(gap))
    return numeric, coded


def sample_errors(windows: int) -> Iterator[Row]:
    """How far the sample's distribution function is off, for detectors that need rows: one column, 30,000 rows."""
    rng, size, bound = np.random.default_rng(2), 2000, sampling_error(2000)
    summariser = Summariser(CVMDrift().fit(rng.normal(size=(2000, 1))), size)
    off = []
    for window in range(windows):
        x = rng.normal(size=(30_000, 1))
        keys = [row_keys(f"payloads/{p}", range(window * 7500, (window + 1) * 7500), [1] * 7500) for p in range(4)]
        parts = [summariser.summary(x[p::4], keys[p]) for p in range(4)]
        kept = np.sort(reduce(lambda a, b: a.merge(b, size), parts).sample.rows[:, 0])
        of_all = np.arange(1, len(x) + 1) / len(x)
        off.append(float(np.abs(np.searchsorted(kept, np.sort(x[:, 0]), side="right") / size - of_all).max()))
    beyond = sum(error > bound for error in off) / windows
    yield row("sample of 2,000: median distance from all rows", statistics.median(off), "")
    yield row("sample of 2,000: largest", max(off), "")
    yield row(f"sample of 2,000: share of windows off by more than {bound:.4f}", beyond, "", 0.01)  # 0.001 expected


def fleets(folder: Path, address: str, events: int, rounds: int) -> Iterator[Row]:
    detector = TabularDrift(ert=10_000).fit(table(20_000, np.random.default_rng(0)), FEATURES)
    artifact.save(detector, folder / "drift")
    records, windows = make_events(events)
    records += closing(len(records))
    runs: dict[str, list[dict[str, Any]]] = {"apart": [], "1": [], "2": [], "4": []}
    for _ in range(rounds):
        runs["apart"].append(run_fleet(folder, address, 1, records, merge=False))
        for workers in (1, 2, 4):
            runs[str(workers)].append(run_fleet(folder, address, workers, records, merge=True))
    for name, results in runs.items():
        yield from judged(name, results, runs["1"], windows, detector)
    yield agreement([run for name in ("1", "2", "4") for run in runs[name]])


Runs = Sequence[Mapping[str, Any]]


def judged(name: str, results: Runs, alone: Runs, windows: Sequence[Array], detector: TabularDrift) -> Iterator[Row]:
    """Medians, ratios to one worker of the same round, and how far off the verdicts are."""
    about = "1 worker, windows apart" if name == "apart" else f"{name} worker{'s' * (name != '1')}, merged"
    for key, what, unit in (("rate", "rate", "events/s"), ("cpu", "CPU", "us/event")):
        ratio = statistics.median(run[key] / one[key] for run, one in zip(results, alone, strict=True))
        yield row(f"{about}: {what}", statistics.median(run[key] for run in results), unit)
        yield row(f"{about}: {what}, to 1 worker's", ratio, "x")
    if name == "apart":
        return
    found = [errors(run["found"][:WINDOWS], windows, detector) for run in results]
    numeric, coded = max(pair[0] for pair in found), max(pair[1] for pair in found)
    short = row(f"{about}: numeric distance short by, at most", numeric, "")
    yield short._replace(target=f"< {RESOLUTION:.6f}", holds=numeric < RESOLUTION)
    yield row(f"{about}: coded statistic off by, at most", coded, "", 0)


def agreement(runs: Runs) -> Row:
    """Whether all runs came to the same statistics."""
    told = [[finding["verdict"]["statistic"] for finding in run["found"][:WINDOWS]] for run in runs]
    others = sum(values != told[0] for values in told)
    return row("1, 2, 4 workers: runs with other statistics than the first", others, "runs", 0)


def measure(quick: bool) -> Iterator[Row]:
    yield from sample_errors(200 if quick else 2000)
    with tempfile.TemporaryDirectory() as name, broker("the sample only") as address:
        if address is not None:
            yield from fleets(Path(name), address, *((6000, 1) if quick else (30_000, 3)))


if __name__ == "__main__":
    sys.exit(main("summaries", __doc__, measure))
