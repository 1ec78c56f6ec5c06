"""Metrics as operators meet them: promtool's check, a real Prometheus, and the table of docs/metrics.md.

``python tests/integration/test_metrics.py`` prints the table.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from servers import free_port, until

from detectors import artifact, registry
from detectors.base import default_features
from monitor import wiring
from monitor.capture.metrics import Ledger
from monitor.events import Record
from monitor.ingest import Endpoint
from monitor.settings import Settings

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
WHY = "Prometheus is not installed (Debian: apt-get install prometheus)"


def settings(folder: Path) -> Settings:
    rng = np.random.default_rng(0)
    for kind in ("TabularDrift", "Mahalanobis"):
        detector: Any = registry.create(kind)
        artifact.save(detector.fit(rng.normal(size=(500, 2)), default_features(2)), folder / kind)
    return Settings.model_validate(
        {
            "models": [{"name": "income"}],
            "monitors": [
                {"name": name, "model": "income", "window": window,
                 "detector": {"type": kind, "artifact": str(folder / kind)}}
                for name, kind, window in (
                    ("drift", "TabularDrift", {"count": 50}),
                    ("outliers", "Mahalanobis", {"count": 50}),
                    ("merged", "TabularDrift", {"time": "60s", "merge": True}),
                )
            ],
            "transport": {"path": str(folder / "log.db")},
            "sinks": [{"type": "store", "path": str(folder / "f.db")}, {"type": "prometheus"}],
            "worker": {"commit_every": "0s"},
        }
    )  # fmt: skip


def write(configured: Settings, n: int) -> None:
    rng = np.random.default_rng(1)
    log = wiring.open_log(configured)
    rows = rng.normal(size=(n, 2)) + np.where(np.arange(n) >= n // 2, 3.0, 0.0)[:, None]
    records = []
    for i, row in enumerate(rows.tolist()):
        headers = {
            "ce_id": f"{i}", "ce_source": "s", "ce_type": "org.kubeflow.serving.inference.request",
            "ce_modelid": "income", "ce_time": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        records.append(Record("income", headers, json.dumps({"instances": [row]}).encode(), 0.0))
    log.append("payloads", records)
    log.close()


async def judge(assembly: wiring.Assembly, n: int) -> None:
    commit = assembly.source.commit

    async def watch(checkpoints: Mapping[str, Any]) -> None:
        await commit(checkpoints)
        if any(json.loads(c.state)["next"] >= n for c in checkpoints.values()):
            assembly.worker.stop()

    assembly.source.commit = watch  # type: ignore[method-assign]
    await asyncio.wait_for(assembly.worker.run(), 60)


@pytest.fixture
def assembly(tmp_path: Path) -> Iterator[wiring.Assembly]:
    configured = settings(tmp_path)
    built = wiring.build(configured)
    yield built
    asyncio.run(built.close())


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_series_exists_from_the_start(assembly: wiring.Assembly, tmp_path: Path) -> None:
    before = samples(generate_latest(assembly.registry).decode())
    write(settings(tmp_path), 200)
    asyncio.run(judge(assembly, 200))
    after = samples(generate_latest(assembly.registry).decode())
    late = {name for name, _ in after.keys() - before.keys()}
    assert late == {"offpath_lag_events", "offpath_lag_seconds"}, "which begin when the partition is assigned"


def test_values_after_a_drift(assembly: wiring.Assembly, tmp_path: Path) -> None:
    write(settings(tmp_path), 200)
    asyncio.run(judge(assembly, 200))
    found = samples(generate_latest(assembly.registry).decode())

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    drift = {"namespace": "default", "model": "income", "monitor": "drift"}
    assert value("offpath_events_total", namespace="default", model="income", side="request") == 200
    assert value("offpath_evaluations_total", **drift, state="ok") == 2
    assert value("offpath_evaluations_total", **drift, state="alert") == 2
    assert value("offpath_detections_total", **drift) == 2
    assert value("offpath_alarm", **drift) == 1
    assert value("offpath_statistic", **drift) >= value("offpath_threshold", **drift)
    assert value("offpath_feature_p_value", **drift, feature="x0") < 1e-6
    assert value("offpath_last_evaluation_timestamp_seconds", **drift) == 1767225600
    assert value("offpath_lag_events", partition="payloads/0") == 0
    assert value("offpath_log_dropped_total", partition="payloads/0") == 0
    outliers = {**drift, "monitor": "outliers"}
    assert value("offpath_instance_score_ratio_count", **outliers) == 200
    assert value("offpath_detections_total", **outliers) >= 50


def test_labels_are_bounded(assembly: wiring.Assembly, tmp_path: Path) -> None:
    write(settings(tmp_path), 200)
    asyncio.run(judge(assembly, 200))
    allowed = {
        "namespace", "model", "monitor", "state", "side", "reason", "stage", "feature", "partition", "le", "outcome",
    }  # fmt: skip
    for _, labels in samples(generate_latest(assembly.registry).decode()):
        assert {name for name, _ in labels} <= allowed


@pytest.mark.skipif(PROMTOOL is None, reason=WHY)
def test_promtool_finds_nothing_to_complain_of(assembly: wiring.Assembly) -> None:
    assert PROMTOOL
    for text in exposed(assembly.registry).values():
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(PROMETHEUS is None, reason=WHY)
def test_a_real_prometheus_answers(assembly: wiring.Assembly, tmp_path: Path) -> None:
    assert PROMETHEUS
    configured = settings(tmp_path)
    write(configured, 200)
    asyncio.run(judge(assembly, 200))
    page = wiring.serve_page(configured, assembly, "127.0.0.1:0")
    scrape = {"job_name": "offpath", "scrape_interval": "1s", "static_configs": [{"targets": [page.address[7:]]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [PROMETHEUS, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
         f"--web.listen-address={address}"], stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(query: str) -> list[Any]:
        url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[Any] = json.loads(answer.read())["data"]["result"]
        return found

    try:
        (alarm,) = until(lambda: ask('offpath_alarm{monitor="drift"}'), "the alarm", despite=(OSError,))
        assert alarm["value"][1] == "1"
        assert ask("offpath_statistic > offpath_threshold")
        assert ask("histogram_quantile(0.9, offpath_instance_score_ratio_bucket)")
    finally:
        process.terminate()
        process.wait(30)
        page.stop()


class Nowhere:
    """A publisher that takes everything."""

    async def publish(self, records: Sequence[Record]) -> None: ...

    async def close(self) -> None: ...


def test_a_restart_shows_the_last_verdict_again(assembly: wiring.Assembly, tmp_path: Path) -> None:
    write(settings(tmp_path), 200)
    asyncio.run(judge(assembly, 200))
    before = samples(generate_latest(assembly.registry).decode())
    asyncio.run(assembly.close())
    again = wiring.build(settings(tmp_path))
    after = samples(generate_latest(again.registry).decode())
    asyncio.run(again.close())
    drift = frozenset({"namespace": "default", "model": "income", "monitor": "drift"}.items())
    for name in ("alarm", "statistic", "threshold", "p_value", "effect_size", "last_evaluation_timestamp_seconds"):
        assert after[f"offpath_{name}", drift] == before[f"offpath_{name}", drift] != 0
    assert after["offpath_detections_total", drift] == 0, "counters begin anew, as Prometheus expects"


def exposed(worker: CollectorRegistry) -> dict[str, str]:
    """What each process shows at ``/metrics``."""

    async def ask() -> str:
        transport = httpx.ASGITransport(Endpoint(Nowhere(), max_body=1000).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
            return (await client.get("/metrics")).text

    return {"sidecar": Ledger().text(), "worker": generate_latest(worker).decode(), "ingest": asyncio.run(ask())}


def table(worker: CollectorRegistry) -> str:
    lines = []
    for process, text in exposed(worker).items():
        lines += [f"### {process}", "", "| metric | type | labels | |", "|---|---|---|---|"]
        for family in text_string_to_metric_families(text):
            if family.type == "gauge" and family.name.endswith("_created"):
                continue
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
            shown = ", ".join(f"`{label}`" for label in labels)
            lines.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
        lines.append("")
    return "\n".join(lines)


def test_the_documented_table_is_what_is_exposed(assembly: wiring.Assembly) -> None:
    assert DOC.read_text().endswith(table(assembly.registry)), (
        "python tests/integration/test_metrics.py prints the table"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        built = wiring.build(settings(Path(name)))
        print(table(built.registry), end="")
        asyncio.run(built.close())
