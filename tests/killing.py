"""What tests that kill workers share: a log with everything in it, a worker, and how two sets of findings differ."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from detectors import artifact, registry
from detectors.base import default_features
from monitor import wiring
from monitor.events import Record
from monitor.settings import Settings

EVENTS = 6_000
MONITORS = {"drift", "slide", "timed", "both", "outlier", "outlier-timed", "online"}
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


def write_log(settings: Settings, seed: int) -> None:
    records = events(seed)
    log = wiring.open_log(settings)
    for start in range(0, len(records), 500):
        log.append(settings.transport.topic, records[start : start + 500])
    log.close()


def events(seed: int) -> list[Record]:
    """Requests and responses of one to four rows, with duplicates, bad payloads and late events in between."""
    rng = random.Random(seed)
    records: list[Record] = []
    for i in range(EVENTS // 2):
        shift = 3.0 if i > EVENTS // 3 else 0.0
        rows = [
            [rng.gauss(shift, 1), rng.gauss(0, 1), 60.0 if rng.random() < 0.002 else rng.gauss(0, 1)]
        ] * rng.randint(1, 4)
        at = i - (rng.randint(0, 40) if rng.random() < 0.05 else 0)
        pair = [record(i, REQUEST, at, {"instances": rows}), record(i, RESPONSE, at, {"predictions": rows})]
        if rng.random() < 0.02:
            pair.append(pair[0])
        if rng.random() < 0.01:
            pair.append(pair[0]._replace(value=b"{", headers={**pair[0].headers, "ce_id": f"bad{i}"}))
        rng.shuffle(pair)
        records += pair
    return records


def record(i: int, kind: str, at: float, body: dict[str, Any]) -> Record:
    headers = {
        "ce_id": f"{i}-{kind[-8:]}",
        "ce_source": "test",
        "ce_type": kind,
        "ce_modelid": "m",
        "ce_requestid": str(i),
        "ce_time": f"2026-01-01T{int(at) // 3600:02}:{int(at) // 60 % 60:02}:{max(int(at), 0) % 60:02}Z",
        "content-type": "application/json",
    }
    return Record("m", headers, orjson.dumps(body), 0.0)


def configured(folder: Path) -> Settings:
    """Every kind of window, over an embedded log."""
    rng = np.random.default_rng(0)
    detectors = {}
    online = {"ert": 400, "n_bootstraps": 40}
    for kind, width in (("TabularDrift", 3), ("Mahalanobis", 3), ("KSDrift", 6), ("CVMDriftOnline", 3)):
        made = registry.create(kind, **(online if kind == "CVMDriftOnline" else {}))
        fitted = made.fit(rng.normal(size=(500, width)), default_features(width))  # type: ignore[attr-defined]
        artifact.save(fitted, folder / kind)
        detectors[kind] = {"type": kind, "artifact": str(folder / kind)}
    tabular, ks = detectors["TabularDrift"], detectors["KSDrift"]
    late, slide = {"time": "60s", "lateness": "20s"}, {"sliding": 100, "step": 30}
    return Settings.model_validate(
        {
            "models": [{"name": "m"}],
            "monitors": [
                {"name": "drift", "model": "m", "window": {"count": 70}, "detector": tabular},
                {"name": "slide", "model": "m", "window": slide, "detector": tabular, "alarm": {"consecutive": 3}},
                {"name": "timed", "model": "m", "side": "response", "window": late, "detector": tabular},
                {"name": "both", "model": "m", "side": "joined", "window": {"count": 90}, "detector": ks},
                {"name": "outlier", "model": "m", "window": {"count": 110}, "detector": detectors["Mahalanobis"]},
                {"name": "online", "model": "m", "window": {"count": 150}, "detector": detectors["CVMDriftOnline"]},
                {"name": "outlier-timed", "model": "m", "window": late, "detector": detectors["Mahalanobis"]},
            ],
            "transport": {"path": str(folder / "log.db")},
            "worker": {"lookback": 100, "commit_every": "0s"},
        }
    )  # fmt: skip


async def work(settings: Settings) -> None:
    """A worker that ends when it has caught up. What it reads of a log are small blocks: there is much to interrupt."""
    assembly = wiring.build(settings)
    if settings.transport.type == "embedded":
        assembly.source._block = 16
    idle = assembly.worker._idle

    async def end(now: float) -> None:
        await idle(now)
        assembly.worker.stop()

    assembly.worker._idle = end  # type: ignore[method-assign]
    await assembly.worker.run()
    await assembly.close()


def findings(settings: Settings) -> dict[str, Any]:
    with sqlite3.connect(settings.sinks[0].path) as connection:  # type: ignore[union-attr]
        return {i: json.loads(body) for i, body in connection.execute("SELECT id, body FROM findings")}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[Any]:
    """Findings that are missing, too many, or other than they should be: what pytest's own diff would hide."""
    other = [(found[i], expected[i]) for i in found.keys() & expected.keys() if found[i] != expected[i]]
    return (
        [found[i] for i in found.keys() - expected.keys()]
        + [expected[i] for i in expected.keys() - found.keys()]
        + other
    )
