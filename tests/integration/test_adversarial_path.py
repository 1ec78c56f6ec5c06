"""Adversarial rows, from the captured log to the sinks: `offpath fit` on joined traffic, then a worker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from worker_run import judge

from monitor import wiring
from monitor.configuration import load
from monitor.events import Record
from monitor.settings import Settings
from monitor.transport.log import EmbeddedLog
from sinks.store import FindingStore

pytest.importorskip("torch", reason='networks need torch: pip install "offpath[torch]"')

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
PARAMS = {"outputs": ["no", "yes"], "hidden": [8], "epochs": 20, "learning_rate": 0.01}


def document(folder: Path) -> dict[str, Any]:
    return {
        "models": [
            {"name": "m", "features": [{"name": "x"}, {"name": "y"}], "outputs": [{"name": "no"}, {"name": "yes"}]}
        ],
        "monitors": [
            {
                "name": "attacked",
                "model": "m",
                "side": "joined",
                "window": {"count": 100},
                "detector": {"type": "ModelDistillation", "artifact": str(folder / "it"), "params": PARAMS},
            }
        ],
        "transport": {"path": str(folder / "log.db")},
        "sinks": [
            {"type": "store", "path": str(folder / "f.db")},
            {"type": "prometheus"},
            {"type": "cloudevents", "topic": "findings"},
        ],
        "worker": {"commit_every": "0s"},
    }


def write(settings: Settings, first: int, rows: int, attacked: bool) -> None:
    rng = np.random.default_rng(first)
    records = []
    for i in range(first, first + rows):
        x = rng.normal(size=2)
        yes = 1 / (1 + np.exp(-6 * x[0]))
        answer = [yes, 1 - yes] if attacked and i % 5 == 0 and abs(x[0]) > 0.5 else [1 - yes, yes]
        for kind, body in ((REQUEST, {"instances": [x.tolist()]}), (RESPONSE, {"predictions": [answer]})):
            headers = {"ce_id": f"{i}", "ce_source": "s", "ce_type": kind, "ce_modelid": "m"}
            headers["ce_time"] = f"2026-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z"
            records.append(Record("m", headers, json.dumps(body).encode(), 0.0))
    log = wiring.open_log(settings)
    log.append("payloads", records)
    log.close()


def test_from_the_captured_log_to_the_sinks(tmp_path: Path) -> None:
    file = tmp_path / "offpath.yaml"
    file.write_text(yaml.safe_dump(document(tmp_path)))
    settings = Settings.model_validate(document(tmp_path))
    write(settings, 0, 1000, attacked=False)
    command = [sys.executable, "-m", "monitor", "fit", "--config", str(file), "--monitor", "attacked", "--quiet"]
    done = subprocess.run([*command, "--log", str(tmp_path / "log.db")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ModelDistillation: 1,000 rows, 4 columns" in done.stdout
    write(settings, 1000, 200, attacked=True)
    metrics = asyncio.run(judge(load(file), 2400))
    reader = FindingStore(tmp_path / "f.db")
    found = reader.findings(monitor="attacked", limit=1000)
    reader.close()
    assert {finding["kind"] for finding in found} == {"adversarial"}
    told = [finding for finding in found if finding["scope"] == "instance"]
    assert len(told) >= 15, "of some 25 that were attacked"
    assert any(text.startswith(("no = ", "yes = ")) for text in (finding["text"] for finding in told))
    windows = [finding for finding in found if finding["scope"] == "window"]
    assert [finding["alarm"] for finding in windows][:2] == [True, True], "newest first"
    assert not any(finding["alarm"] for finding in windows[2:])
    log = EmbeddedLog(tmp_path / "log.db")
    kinds = {d.record.headers["ce_type"] for b in log.scan("findings") for d in b.deliveries}
    log.close()
    assert kinds == {"io.offpath.inference.adversarial"}
    labels = 'model="m",monitor="attacked",namespace="default"'
    assert f'offpath_evaluations_total{{{labels},state="alert"}} 2.0' in metrics
    assert f"offpath_instance_score_ratio_count{{{labels}}} 1200.0" in metrics


def test_a_program_is_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    wanted = document(tmp_path)
    detector = wanted["monitors"][0]["detector"]
    detector["params"] = {"model": "classifier.pt2"}
    file = tmp_path / "offpath.yaml"
    for allowed, said in ((False, "say allow_code: true"), (True, "there is no artefact")):
        detector["allow_code"] = allowed
        file.write_text(yaml.safe_dump(wanted))
        command = [sys.executable, "-m", "monitor", "check", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert said in done.stdout + done.stderr
        assert ("allow_code: true" in done.stdout + done.stderr) is not allowed
