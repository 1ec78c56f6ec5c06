"""The two ways that users run: sidecar, Kafka, worker, Prometheus; sidecar, HTTPS, endpoint, worker. Real processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from kafka_broker import make_certificates
from prometheus_client.parser import text_string_to_metric_families
from servers import MODEL, free_port

from detectors import artifact, registry
from detectors.base import Feature
from monitor.transport.kafka.connect import MODULES

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
FEATURES = (Feature("age"), Feature("hours"), Feature("sex", "categorical", ("Female", "Male")))
WINDOW, WINDOWS = 50, 4
CALLS = WINDOW * WINDOWS
"""Half of them as the reference, half of people under 28."""


def configuration(name: str, file: str) -> dict[str, Any]:
    """The configuration of a ConfigMap that users start from."""
    for told in yaml.safe_load_all((EXAMPLES / file).read_text()):
        if told["kind"] == "ConfigMap" and told["metadata"]["name"] == name:
            found: dict[str, Any] = yaml.safe_load(told["data"]["offpath.yaml"])
            return found
    raise AssertionError(name)


def person(rng: random.Random, shifted: bool) -> list[Any]:
    age = rng.gauss(22, 3) if shifted else rng.gauss(39, 12)
    return [round(age), round(rng.gauss(40, 10)), rng.choice(["Female", "Male"])]


def fit(folder: Path) -> None:
    rng = random.Random(1)
    rows = [person(rng, False) for _ in range(2000)]
    x = np.array([[age, hours, sex == "Male"] for age, hours, sex in rows], dtype=float)
    detector: Any = registry.create("TabularDrift", p_val=1e-6)
    artifact.save(detector.fit(x, FEATURES), folder / "income-drift")


class Stack:
    """Processes in a folder; ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = httpx.Client(timeout=10)  # a new one for every question would cost more than the answers
        self.ports = {
            name: free_port() for name in ("model", "listen", "admin", "page", "ingest", "probes", "prometheus")
        }
        self.start("model", [sys.executable, "-c", MODEL, str(self.ports["model"])])
        fit(folder)

    def at(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def start(self, name: str, command: list[str], **environ: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            told = {"PYTHONDONTWRITEBYTECODE": "1", **os.environ, **environ}
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=told)

    def offpath(self, command: str, told: dict[str, Any], **environ: str) -> None:
        config = self.folder / f"{command}.yaml"
        config.write_text(json.dumps(told))
        self.start(command, [sys.executable, "-m", "monitor", command, "--config", str(config)], **environ)

    def configured(self, transport: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of endpoint and worker, and of the sidecar: as in ``deploy/examples``, with other addresses and paths."""
        inside, sidecar = (
            configuration("offpath-one-pod", "one-pod.yaml"),
            configuration("offpath-sidecar", "sidecar.yaml"),
        )
        inside["transport"] = transport
        inside["monitors"][0] |= {"window": {"count": WINDOW}}
        inside["monitors"][0]["detector"]["artifact"] = str(self.folder / "income-drift")
        inside["sinks"][0]["path"] = str(self.folder / "findings.db")
        inside["worker"]["listen"] = self.at("page")
        sidecar["capture"] |= {
            "listen": self.at("listen"), "upstream": self.at("model"), "admin": self.at("admin"),
            "spool": str(self.folder / "spool.db"),
        }  # fmt: skip
        return inside, sidecar

    def traffic(self, rng: random.Random, calls: int, shifted: bool) -> None:
        with httpx.Client(timeout=30) as client:
            for _ in range(calls):
                url = f"http://{self.at('listen')}/v1/models/income:predict"
                answer = client.post(url, json={"instances": [person(rng, shifted)]})
                assert answer.json() == {"predictions": [1]}

    def scraped(self, name: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = self.client.get(f"http://{self.at(name)}/metrics").text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
            except (httpx.TransportError, KeyError, ValueError):
                pass
            time.sleep(0.1)
        logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in self.folder.glob("*.log"))
        raise AssertionError(f"{what} did not come\n{logs}")

    def until_ready(self, *names: str) -> None:
        for name in names:
            self.until(name, lambda name=name: self.client.get(f"http://{self.at(name)}/readyz").status_code == 200)

    def stop(self, *names: str) -> None:
        """In good order; all of them if none is named."""
        for name in names or list(self.processes):
            self.processes[name].terminate()
        for name in names or list(self.processes):
            self.processes.pop(name).wait(30)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    stack.stop()
    stack.client.close()


LABELS = {"model": "income", "monitor": "income-drift", "namespace": "default"}
OF_MONITOR = tuple(sorted(LABELS.items()))


def test_sidecar_kafka_worker_prometheus(stack: Stack, kafka: str) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    if not any(map(_installed, MODULES.values())):
        pytest.skip('no client of Kafka: pip install "offpath[kafka]"')
    topic = f"path-{uuid.uuid4().hex[:8]}"
    transport = {"type": "kafka", "bootstrap": kafka, "topic": topic, "dead_letters": f"{topic}-dead",
                 "state": f"{topic}-state", "partitions": 3, "session_timeout": "6s"}  # fmt: skip
    inside, sidecar = stack.configured(transport)
    inside["worker"]["group"] = topic
    inside["ingest"]["listen"] = stack.at("ingest")
    del sidecar["capture"]["url"]
    stack.offpath("capture", {**sidecar, "transport": transport})
    stack.offpath("worker", inside)
    targets = [{"targets": [stack.at("page")], "labels": {"role": "worker"}},
               {"targets": [stack.at("admin")], "labels": {"role": "sidecar"}}]  # fmt: skip
    scrape = {"job_name": "offpath", "scrape_interval": "500ms", "static_configs": targets}
    (stack.folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    stack.start("prometheus", [
        prometheus, f"--config.file={stack.folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={stack.folder / 'tsdb'}", f"--web.listen-address={stack.at('prometheus')}",
    ])  # fmt: skip

    def ask(query: str) -> float | None:
        answer = stack.client.get(f"http://{stack.at('prometheus')}/api/v1/query", params={"query": query})
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    stack.until_ready("admin", "page")
    rng = random.Random(7)
    stack.traffic(rng, CALLS // 2, shifted=False)
    stack.until("the first windows", lambda: ask("sum(offpath_evaluations_total)") == WINDOWS / 2)
    assert ask('offpath_alarm{monitor="income-drift"}') == 0
    stack.traffic(rng, CALLS // 2, shifted=True)
    stack.until("all windows", lambda: ask("sum(offpath_evaluations_total)") == WINDOWS)
    stack.until("the alarm", lambda: ask('offpath_alarm{monitor="income-drift", role="worker"}') == 1)
    assert ask('offpath_detections_total{monitor="income-drift"}') == WINDOWS / 2
    for side in ("request", "response"):
        stack.until(f"every {side}", lambda side=side: ask(f'offpath_events_total{{side="{side}"}}') == CALLS)
    stack.until("all answers", lambda: ask("sum(offpath_capture_published_total)") == 2 * CALLS)
    assert ask("sum(offpath_capture_events_total)") == 2 * CALLS
    for nothing in ("sum(offpath_capture_dropped_events_total)", "sum(offpath_dead_letters_total)",
                    "sum(offpath_errors_total)"):  # fmt: skip
        assert ask(nothing) == 0, nothing
    assert ask("offpath_lag_events") == 0
    assert ask("count(up == 1)") == 2


def test_sidecar_https_endpoint_worker(stack: Stack) -> None:
    """With the embedded log, a token, and an endpoint that is away for a while: nothing is lost or counted twice."""
    make_certificates(stack.folder / "pki")
    inside, sidecar = stack.configured({"path": str(stack.folder / "log.db")})
    (stack.folder / "tokens").write_text("open-sesame\n")
    inside["ingest"] = {
        "listen": stack.at("ingest"), "admin": stack.at("probes"), "token_file": str(stack.folder / "tokens"),
        "tls": {"cert": str(stack.folder / "pki/broker.crt"), "key": str(stack.folder / "pki/broker.key")},
    }  # fmt: skip
    sidecar["capture"]["url"] = f"https://{stack.at('ingest')}"
    environ = {"SSL_CERT_FILE": str(stack.folder / "pki/ca.pem"), "OFFPATH_CAPTURE__TOKEN": "open-sesame"}
    stack.offpath("ingest", inside)
    stack.offpath("worker", inside)
    stack.offpath("capture", sidecar, **environ)
    stack.until_ready("probes", "page", "admin")
    rng = random.Random(7)
    stack.traffic(rng, CALLS // 2, shifted=False)
    stack.stop("ingest")
    stack.traffic(rng, CALLS // 4, shifted=True)
    stack.until("the spool", lambda: any(
        value for (name, _), value in stack.scraped("admin").items() if name == "offpath_capture_spool_events"
    ))  # fmt: skip
    stack.offpath("ingest", inside)
    stack.traffic(rng, CALLS // 4, shifted=True)

    def events(side: str) -> float:
        return stack.scraped("page")[
            "offpath_events_total", (("model", "income"), ("namespace", "default"), ("side", side))
        ]

    for side in ("request", "response"):
        stack.until(f"every {side}", lambda side=side: events(side) == CALLS)
    found = stack.until("the alarm", lambda: (
        told if (told := stack.scraped("page"))["offpath_alarm", OF_MONITOR] == 1 else None
    ))  # fmt: skip
    assert found["offpath_detections_total", OF_MONITOR] == WINDOWS / 2
    assert found["offpath_rows_total", OF_MONITOR] == CALLS
    assert not sum(value for (name, _), value in found.items() if name == "offpath_dead_letters_total")
    published = ("offpath_capture_published_total", ())  # counted when the last answers have come
    stack.until("all answers", lambda: stack.scraped("admin")[published] == 2 * CALLS)
    sent = stack.scraped("admin")
    assert not sum(value for (name, _), value in sent.items() if name == "offpath_capture_dropped_events_total")
    told = httpx.post(f"https://{stack.at('ingest')}", verify=_trusting(stack.folder / "pki/ca.pem")).status_code
    assert told == 401, "without the token"
    assert "open-sesame" not in "".join(log.read_text() for log in stack.folder.glob("*.log"))


def _trusting(ca: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module.partition(".")[0]) is not None
