"""Settings to a worker that runs: every sink, side and window of the configuration."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_run import judge

from detectors import artifact, registry
from detectors.base import DetectorError, Feature
from monitor import wiring
from monitor.events import Record
from monitor.settings import Settings
from monitor.transport.log import EmbeddedLog
from sinks.store import FindingStore

X, Y, P = Feature("x"), Feature("y"), Feature("p")
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


def document(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def fitted(name: str, kind: str, *features: Feature) -> dict[str, Any]:
        detector: Any = registry.create(kind)
        artifact.save(detector.fit(rng.normal(size=(400, len(features))), features), folder / name)
        return {"type": kind, "artifact": str(folder / name)}

    return {
        "models": [{"name": "m", "features": [{"name": "x"}, {"name": "y"}], "outputs": [{"name": "p"}]}],
        "monitors": [
            {"name": "requests", "model": "m", "window": {"count": 50}, "detector": fitted("a", "TabularDrift", X, Y)},
            {"name": "answers", "model": "m", "side": "response", "window": {"sliding": 40, "step": 10},
             "detector": fitted("b", "KSDrift", P), "sinks": ["lines"]},
            {"name": "both", "model": "m", "side": "joined", "window": {"time": "20s", "lateness": "1s"},
             "detector": fitted("c", "CVMDrift", X, Y, P), "alarm": {"consecutive": 2}},
            {"name": "rows", "model": "m", "columns": ["y"], "window": {"count": 60},
             "detector": fitted("d", "Mahalanobis", Y), "sinks": ["store", "topic"]},
        ],
        "transport": {"path": str(folder / "log.db")},
        "sinks": [
            {"type": "store", "path": str(folder / "f.db")},
            {"type": "prometheus"},
            {"type": "jsonlines", "name": "lines", "path": str(folder / "f.jsonl")},
            {"type": "cloudevents", "name": "topic", "topic": "findings"},
        ],
        "worker": {"commit_every": "0s"},
    }  # fmt: skip


def write(settings: Settings, n: int) -> None:
    """Requests of one row and their responses, one a second; the second half has drifted."""
    rng = np.random.default_rng(1)
    records = []
    for i in range(n):
        row = (rng.normal(size=3) + (4.0 if i >= n // 2 else 0.0)).tolist()
        for kind, body in ((REQUEST, {"instances": [row[:2]]}), (RESPONSE, {"predictions": [row[2:]]})):
            headers = {
                "ce_id": f"{i}", "ce_source": "s", "ce_type": kind, "ce_modelid": "m",
                "ce_time": f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z",
            }  # fmt: skip
            records.append(Record("m", headers, json.dumps(body).encode(), 0.0))
    log = wiring.open_log(settings)
    log.append("payloads", records)
    log.close()


def test_every_finding_goes_where_its_monitor_says(tmp_path: Path) -> None:
    settings = Settings.model_validate(document(tmp_path))
    write(settings, 200)
    metrics = asyncio.run(judge(settings, 400))
    reader = FindingStore(tmp_path / "f.db")
    stored = Counter((f["monitor"], f["scope"]) for f in reader.findings(limit=1000))
    alerts = [f for f in reader.findings(monitor="both", limit=1000) if f["verdict"]["state"] == "alert"]
    reader.close()
    assert stored["requests", "window"] == 4
    assert stored["both", "window"] == 9, "the tenth of twenty seconds is still open"
    assert stored["rows", "window"] == 3
    assert stored["rows", "instance"] >= 90
    assert "answers" not in {name for name, _ in stored}
    assert [f["alarm"] for f in alerts][:4] == [True, True, True, False], "newest first: two alerting windows in a row"
    lines = Counter(json.loads(line)["monitor"] for line in (tmp_path / "f.jsonl").read_text().splitlines())
    assert lines == {"requests": 4, "answers": 17, "both": 9}
    log = EmbeddedLog(tmp_path / "log.db")
    topic = Counter(d.record.headers["ce_subject"] for b in log.scan("findings") for d in b.deliveries)
    log.close()
    assert topic == {"requests": 4, "both": 9, "rows": stored["rows", "window"] + stored["rows", "instance"]}
    assert 'offpath_evaluations_total{model="m",monitor="requests",namespace="default",state="alert"} 2.0' in metrics
    assert 'offpath_evaluations_total{model="m",monitor="answers",namespace="default",state="alert"} 0.0' in metrics


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "KSDrift"}, "the artefact is of type TabularDrift, not KSDrift"),
        ({"artifact": "c"}, "the artefact is of type CVMDrift"),
    ],
)
def test_an_artefact_that_does_not_fit(tmp_path: Path, change: dict[str, str], said: str) -> None:
    told = document(tmp_path)
    told["monitors"][0]["detector"] |= {k: str(tmp_path / v) if k == "artifact" else v for k, v in change.items()}
    with pytest.raises(DetectorError, match=said):
        wiring.build(Settings.model_validate(told))


def test_a_reference_is_fitted_at_start(tmp_path: Path) -> None:
    told = document(tmp_path)
    rows = np.random.default_rng(2).normal(size=(300, 2))
    np.savetxt(tmp_path / "train.csv", rows, delimiter=",", header="x,y", comments="")
    told["monitors"] = told["monitors"][:1]
    told["monitors"][0]["detector"] = {
        "type": "MMDDrift", "reference": str(tmp_path / "train.csv"), "params": {"p_val": 0.01, "seed": 1}
    }  # fmt: skip
    pytest.importorskip("torch", reason='MMDDrift needs pip install "offpath[torch]"')
    settings = Settings.model_validate(told)
    write(settings, 100)
    metrics = asyncio.run(judge(settings, 200))
    assert 'monitor="requests",namespace="default",state="alert"} 1.0' in metrics


def test_a_second_worker_of_the_group_is_told_that_there_is_one(tmp_path: Path) -> None:
    settings = Settings.model_validate(document(tmp_path))
    assembly = wiring.build(settings)
    with pytest.raises(ConnectionError, match="consumer group 'offpath'"):
        wiring.build(settings)
    asyncio.run(assembly.close())
