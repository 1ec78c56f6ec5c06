"""A model hotter than one worker: events in four partitions, two workers, one of them killed; as one on all data."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import kafka_broker
import numpy as np
from topics import publish

from detectors import artifact
from detectors.base import Feature
from detectors.drift.tabular import TabularDrift
from monitor import configuration, wiring
from monitor.events import Record
from monitor.settings import Settings
from sinks.store import FindingStore

EVENTS, PARTITIONS, WINDOW, START = 6000, 4, 20.0, 1_700_000_000.0
CUT = 2900
"""Events that are there at first: the last of them in the middle of a window, which no idle moment closes."""

FEATURES = (Feature("amount"), Feature("colour", "categorical", ("red", "green")))
PATIENCE = 90.0

pytestmark = [*kafka_broker.LENIENT, kafka_broker.ONE_QUICK]


def rows(n: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    shift = np.where(np.arange(n) > n * 0.7, 0.7, 0.0)
    return np.stack([rng.normal(size=n) + shift, rng.integers(0, 2, n)], axis=1)


def events(seed: int) -> list[Record]:
    """A request of one row every 50 ms, keyed by request; and some more, later, of which each partition gets one."""
    told = []
    for i, (amount, colour) in enumerate(rows(EVENTS, seed).tolist()):
        told.append((i, START + 0.05 * i, {"instances": [[amount, FEATURES[1].categories[int(colour)]]]}))
    told += [(EVENTS + i, START + 0.05 * EVENTS + 100.0, {"instances": [[0.0, "red"]]}) for i in range(64)]
    return [record(i, moment, json.dumps(body).encode()) for i, moment, body in told]


def record(i: int, moment: float, body: bytes) -> Record:
    headers = {
        "ce_specversion": "1.0", "ce_id": f"e{i}", "ce_source": "test", "ce_requestid": f"r{i}", "ce_modelid": "hot",
        "ce_type": "org.kubeflow.serving.inference.request", "ce_path": "/v1/models/hot:predict",
        "ce_time": datetime.fromtimestamp(moment, tz=timezone.utc).isoformat(), "content-type": "application/json",
    }  # fmt: skip
    return Record(f"r{i}", headers, body, moment)


MODEL = {"name": "hot", "features": [{"name": f.name, "type": f.kind, "categories": f.categories} for f in FEATURES]}


def configured(folder: Path, name: str, transport: dict[str, Any], store: str) -> Path:
    told = {
        "models": [MODEL],
        "monitors": [
            {
                "name": "drift", "model": "hot", "window": {"time": f"{WINDOW:g}s", "merge": True},
                "detector": {"type": "TabularDrift", "artifact": str(folder / "drift")},
            }
        ],
        "transport": transport,
        "sinks": [{"type": "store", "path": str(folder / store)}],
        "worker": {"group": name},
    }  # fmt: skip
    path = folder / f"{name}-{transport.get('instance_id', 'log')}.yaml"
    path.write_text(json.dumps(told))
    return path


def found(folder: Path, store: str) -> dict[str, dict[str, Any]]:
    """Findings by id, without the places of their rows, which are others in one partition and in four.

    Their numbers for the words are means, which depend on the order of the rows in the last digit.
    """
    if not (folder / store).exists():
        return {}
    opened = FindingStore(folder / store)
    told = {str(finding["id"]): finding for finding in opened.findings(limit=1000)}
    opened.close()
    for finding in told.values():
        del finding["first"], finding["last"], finding["verdict"]["reasons"]
    return told


def test_two_workers_of_which_one_is_killed_find_what_one_finds_on_all_data(
    tmp_path: Path, kafka: str, client: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    artifact.save(TabularDrift(ert=200).fit(rows(4000, 1)[:2800], FEATURES), tmp_path / "drift")
    topic = f"hot-{uuid.uuid4().hex[:8]}"
    alone = configuration.load(
        configured(tmp_path, "alone", {"path": str(tmp_path / "log.db"), "topic": topic}, "a.db"), {}
    )
    asyncio.run(publish(alone, events(seed)))
    asyncio.run(until(alone, lambda: len(found(tmp_path, "a.db")) >= EVENTS * 0.05 / WINDOW))
    wanted = found(tmp_path, "a.db")
    assert {finding["verdict"]["state"] for finding in wanted.values()} == {"ok", "alert"}

    transport = {
        "type": "kafka", "bootstrap": kafka, "client": client, "topic": topic, "dead_letters": f"{topic}-dead",
        "state": f"{topic}-state", "summaries": f"{topic}-sums", "partitions": PARTITIONS, "session_timeout": "6s",
    }  # fmt: skip
    paths = [configured(tmp_path, topic, {**transport, "instance_id": f"w{i}"}, "k.db") for i in range(2)]
    asyncio.run(publish(configuration.load(paths[0], {}), events(seed)[:CUT]))
    commands = [[sys.executable, "-m", "monitor", "worker", "--config", str(path), "--no-page"] for path in paths]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    try:
        wait_for(lambda: len(found(tmp_path, "k.db")) >= 3)
        workers[0].kill()
        workers[0].wait()
        asyncio.run(publish(configuration.load(paths[0], {}), events(seed)[CUT:]))
        workers[0] = subprocess.Popen(commands[0], stderr=subprocess.DEVNULL)
        wait_for(lambda: len(found(tmp_path, "k.db")) >= len(wanted))
        assert [worker.poll() for worker in workers] == [None, None]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert found(tmp_path, "k.db") == wanted


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.2)


async def until(settings: Settings, done: Callable[[], bool]) -> None:
    assembly = wiring.build(settings)
    running = asyncio.ensure_future(assembly.run())
    while not done():
        await asyncio.sleep(0.05)
        assert not running.done()
    assembly.stop()
    await running
    await assembly.close()
