"""What users run, over a real broker: a worker killed again and again, a sidecar, ingest; as over the embedded log."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import kafka_broker
import killing
import pytest
from killing import MONITORS, differences, events, findings, work, write_log
from servers import MODEL, free_port
from topics import publish, read

from monitor import configuration
from monitor.settings import Settings

KILLS = 4

pytestmark = [*kafka_broker.LENIENT, kafka_broker.ONE_QUICK]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return killing.configured(tmp_path)


def over_kafka(settings: Settings, folder: Path, address: str, client: str, topic: str) -> Path:
    """A configuration file: the same monitors on a topic of one partition, findings to a store of their own."""
    told = settings.model_dump(mode="json", exclude_unset=True)
    told["transport"] = {
        "type": "kafka", "bootstrap": address, "client": client, "topic": topic, "dead_letters": f"{topic}-dead",
        "state": f"{topic}-state", "partitions": 1, "session_timeout": "6s", "instance_id": "worker-1",
    }  # fmt: skip
    told["sinks"] = [{"type": "store", "path": str(folder / "kafka.db")}]
    told["worker"]["group"] = topic
    path = folder / "kafka.yaml"
    path.write_text(json.dumps(told))
    return path


def test_a_worker_killed_again_and_again_finds_what_one_on_the_embedded_log_finds(
    settings: Settings, tmp_path: Path, kafka: str, client: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    topic = f"payloads-{uuid.uuid4().hex[:8]}"
    embedded = settings.model_copy(
        update={
            "transport": settings.transport.model_copy(update={"topic": topic}),
            "sinks": (settings.sinks[0].model_copy(update={"path": str(tmp_path / "embedded.db")}),),
        }
    )
    write_log(embedded, seed)
    asyncio.run(work(embedded))
    expected = findings(embedded)
    assert {finding["monitor"] for finding in expected.values()} == MONITORS

    path = over_kafka(embedded, tmp_path, kafka, client, topic)
    configured = configuration.load(path, {})
    rng, records = random.Random(seed), events(seed)
    share = len(records) // KILLS + 1
    for start in range(0, len(records), share):
        asyncio.run(publish(configured, records[start : start + share]))
        command = [sys.executable, "-m", "monitor", "worker", "--config", str(path), "--no-page"]
        log = tmp_path / f"worker-{start}.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(command, stderr=out)
        deadline = time.monotonic() + 60
        while b" reading " not in log.read_bytes():  # how long it takes to start is the machine's affair
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        time.sleep(rng.uniform(0.3, 2.0))
        assert worker.poll() is None
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert findings(configured), "they were killed at work, not while they started"
    asyncio.run(asyncio.wait_for(work(configured), 60))
    assert differences(findings(configured), expected) == []


def test_from_the_sidecar_and_from_ingest_to_the_topic(tmp_path: Path, kafka: str, client: str) -> None:
    topic, ports = f"captured-{uuid.uuid4().hex[:8]}", [free_port() for _ in range(4)]
    model, listen, admin, ingest = (f"127.0.0.1:{port}" for port in ports)
    path = tmp_path / "offpath.yaml"
    transport = {"type": "kafka", "bootstrap": kafka, "client": client, "topic": topic, "partitions": 2}
    capture = {"listen": listen, "upstream": model, "admin": admin, "spool": str(tmp_path / "spool.db")}
    path.write_text(json.dumps({"transport": transport, "capture": capture, "ingest": {"listen": ingest}}))
    run = [sys.executable, "-m", "monitor"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", MODEL, str(ports[0])]),
        subprocess.Popen([*run, "capture", "--config", str(path)], env=env),
        subprocess.Popen([*run, "ingest", "--config", str(path)], env=env),
    ]
    try:
        for i in range(5):
            answer = call(f"http://{listen}/v1/models/income:predict", json={"instances": [[i]]})
            assert answer.json() == {"predictions": [1]}
        headers = {"ce-id": "7", "ce-source": "s", "ce-type": "org.kubeflow.serving.inference.request",
                   "ce-specversion": "1.0", "ce-inferenceservicename": "income"}  # fmt: skip
        assert call(f"http://{ingest}/", json={"instances": [[9]]}, headers=headers).status_code == 202
        assert httpx.get(f"http://{ingest}/readyz").status_code == 200
        found = asyncio.run(read(configuration.load(path, {"OFFPATH_WORKER__GROUP": f"g-{topic}"}), 11))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
    bodies = sorted(json.dumps(json.loads(delivery.record.value)) for delivery in found)
    assert bodies == sorted(
        [json.dumps({"predictions": [1]})] * 5 + [json.dumps({"instances": [[i]]}) for i in (0, 1, 2, 3, 4, 9)]
    )
    assert {delivery.record.headers["ce_type"][:12] for delivery in found} == {"org.kubeflow"}


def call(url: str, **told: Any) -> httpx.Response:
    """Post, as soon as somebody listens there."""
    for _ in range(400):
        try:
            answer = httpx.post(url, **told)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code < 500:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")
