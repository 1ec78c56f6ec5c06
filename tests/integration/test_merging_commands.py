"""Monitors that merge, as people run them: by a worker and by ``replay`` over a log of three partitions, a table."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import generate_latest

from detectors import artifact
from detectors.base import DetectorError, Feature
from detectors.drift.cvm import CVMDrift
from detectors.drift.tabular import TabularDrift
from monitor import cli, configuration, wiring
from monitor.events import Record
from sinks.store import FindingStore

FEATURES = (Feature("amount"), Feature("colour", "categorical", ("red", "green")))
START = 1_700_000_040.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a monitor that counts and one that samples, on a log of three partitions."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=3000), rng.integers(0, 2, 3000)], axis=1)
    artifact.save(TabularDrift(ert=100).fit(rows, FEATURES), tmp_path / "drift")
    artifact.save(CVMDrift(ert=100).fit(rows[:, :1], FEATURES[:1]), tmp_path / "cvm")
    columns = [{"name": f.name, "type": f.kind, "categories": f.categories} for f in FEATURES]
    document = {
        "models": [{"name": "m", "features": columns}],
        "monitors": [
            {"name": "drift", "model": "m", "window": {"time": "60s", "merge": True},
             "detector": {"type": "TabularDrift", "artifact": "drift"}},
            {"name": "sampled", "model": "m", "columns": ["amount"],
             "window": {"time": "60s", "merge": True, "sample": 100},
             "detector": {"type": "CVMDrift", "artifact": "cvm"}},
        ],
        "transport": {"path": "log.db", "partitions": 3},
        "sinks": [{"type": "store", "path": "findings.db"}, {"type": "prometheus"}],
    }  # fmt: skip
    document = json.loads(json.dumps(document))
    (tmp_path / "offpath.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(n: int, partitions: set[int]) -> None:
    """A request a second; those whose key is of other partitions are left out."""
    from monitor.transport.murmur2 import partition_of

    rng, records = np.random.default_rng(1), []
    for i in range(n):
        if partition_of(f"r{i}", 3) not in partitions:
            continue
        headers = {
            "ce_id": f"e{i}", "ce_source": "s", "ce_type": "org.kubeflow.serving.inference.request", "ce_modelid": "m",
            "ce_time": datetime.fromtimestamp(START + i, tz=timezone.utc).isoformat(),
        }  # fmt: skip
        shift = 2.0 if i >= 0.6 * n else 0.0
        rows = [[rng.normal() + shift, str(rng.choice(["red", "green"]))] for _ in range(5)]
        records.append(Record(f"r{i}", headers, json.dumps({"instances": rows}).encode(), START + i))
    log = wiring.open_log(configuration.load(Path("offpath.yaml"), {}))
    log.append("payloads", records)
    log.close()


async def work(windows: int) -> str:
    """A worker until it has so many findings; its metrics."""
    assembly = wiring.build(configuration.load(Path("offpath.yaml"), {}))
    running = asyncio.ensure_future(assembly.run())
    while len(stored()) < windows:
        await asyncio.sleep(0.02)
        assert not running.done(), running
    assembly.stop()
    await running
    text = generate_latest(assembly.registry).decode()
    await assembly.close()
    return text


def stored() -> dict[str, dict[str, Any]]:
    if not Path("findings.db").exists():
        return {}
    store = FindingStore(Path("findings.db"))
    found = {str(finding["id"]): finding for finding in store.findings(limit=1000)}
    store.close()
    return found


def replayed(capsys: pytest.CaptureFixture[str], command: str) -> list[dict[str, Any]]:
    assert cli.main(["replay", "--config", "offpath.yaml", "--json", "--all", *command.split()]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("folder")
def test_a_worker_and_a_replay_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    write(320, {0, 1, 2})
    said = {finding["id"]: finding for finding in replayed(capsys, "")}
    assert len(said) == 10
    text = asyncio.run(asyncio.wait_for(work(10), 60))
    assert stored() == said
    drift = [finding for finding in said.values() if finding["monitor"] == "drift"]
    assert [finding["verdict"]["n"] for finding in drift] == [300] * 5
    assert [finding["verdict"]["state"] for finding in drift] == ["ok"] * 3 + ["alert"] * 2
    sampled = [finding for finding in said.values() if finding["monitor"] == "sampled"]
    assert all(finding["text"].endswith("(judged by 100 of 300 rows, chosen at random)") for finding in sampled)
    labels = 'model="m",monitor="drift",namespace="default"'
    for outcome in ("published", "merged"):
        assert f'offpath_summaries_total{{{labels},outcome="{outcome}"}} 15.0' in text
    assert f"offpath_windows_waiting{{{labels}}} 0.0" in text


@pytest.mark.usefixtures("folder")
def test_a_replay_waits_for_no_partition_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    write(320, {1})
    found = replayed(capsys, "--monitor drift")
    assert len(found) == 5
    assert {finding["first"]["partition"] for finding in found} == {"payloads/1"}


def test_a_table_is_one_partition(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "table.csv").write_text("amount,colour\n" + "0.5,red\n-0.5,green\n" * 100)
    found = replayed(capsys, "--table table.csv --monitor drift")
    assert [finding["events"] for finding in found] == [60, 60, 60]
    assert len({finding["id"] for finding in found}) == 3


def test_a_summary_that_may_not_fit_into_a_record_is_told_at_start(folder: Path) -> None:
    text = (folder / "offpath.yaml").read_text().replace("partitions: 3", "partitions: 3\n  retain: 60KB")
    (folder / "offpath.yaml").write_text(text)
    with pytest.raises(DetectorError, match=r"window.sample: .* and a record 30,000: say sample: 98\d"):
        wiring.build(configuration.load(folder / "offpath.yaml", {}))
