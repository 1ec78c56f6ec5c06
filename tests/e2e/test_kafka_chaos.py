"""Three workers and three brokers, all of which die at random, and a receiver that fails: no finding twice or missing.

The oracle is one uninterrupted pipeline over what the topic holds at the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from http.client import HTTPMessage
from itertools import pairwise
from pathlib import Path

import kafka_broker
import numpy as np
import pytest
import servers
from kafka_broker import Broker

from detectors import artifact
from detectors.drift.ks import KSDrift
from monitor import configuration, wiring
from monitor.events import Record
from monitor.settings import Settings
from monitor.transport.base import Assigned, Block, Idle
from sinks.base import Finding, Unavailable
from sinks.cloudevents import to_record

MODELS, PARTITIONS, WORKERS = 12, 6, 3
PATIENCE = 120.0
"""Seconds without a new finding, once nothing fails any more, after which what is missing is lost."""

pytestmark = kafka_broker.LENIENT


class Receiver(servers.Receiver):
    """Takes findings. ``found`` holds what came, by id."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        super().__init__()

    def take(self, headers: HTTPMessage, body: bytes) -> None:
        told = {name.lower().replace("-", "_"): value for name, value in headers.items()}
        self.found.setdefault(told["ce_id"], set()).add(one_text(told, body))


def one_text(headers: Mapping[str, str], body: bytes) -> str:
    """An event's attributes and data."""
    attributes = {name: value for name, value in headers.items() if name.startswith("ce_")}
    return json.dumps([attributes, json.loads(body)], sort_keys=True)


class Workers:
    """Worker processes of one group."""

    def __init__(self, config: Path, log: Path) -> None:
        self._command = [sys.executable, "-m", "monitor", "worker", "--config", str(config), "--no-page"]
        self._path, self._log = log, log.open("wb")
        self._guests: list[subprocess.Popen[bytes]] = []
        self.running = [self._start() for _ in range(WORKERS)]

    async def supervise(self) -> None:
        """Who ends by itself starts again, as elsewhere; why it may end, :meth:`reasons` tells."""
        while True:
            await asyncio.sleep(0.5)
            self.running = [self._start() if worker.poll() is not None else worker for worker in self.running]

    def reasons(self) -> set[str]:
        """Why workers ended by themselves."""
        return {line for line in self._path.read_text().splitlines() if line.startswith("offpath worker: ")}

    async def reading(self) -> float:
        """Wait until every partition is read; returns how many seconds that took."""
        began = time.monotonic()
        while self._path.read_bytes().count(b" reading ") < PARTITIONS:
            assert all(worker.poll() is None for worker in self.running), self._path.read_text()
            assert time.monotonic() < began + PATIENCE, self._path.read_text()
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self, rng: random.Random) -> None:
        """SIGKILL for one, which starts again."""
        i = rng.randrange(WORKERS)
        self.running[i].kill()
        self.running[i].wait()
        self.running[i] = self._start()

    async def join_and_leave(self, seconds: float) -> None:
        """One more for a while: partitions move to it and back."""
        guest = self._start()
        self._guests.append(guest)
        await asyncio.sleep(seconds)
        guest.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(guest.wait, 60) in (0, -signal.SIGTERM)  # the latter while it still started

    def end(self) -> None:
        for worker in (*self.running, *self._guests):
            worker.kill()
            worker.wait()
        self._log.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def configure(folder: Path, brokers: list[Broker], url: str, window: int) -> Path:
    reference = np.random.default_rng(0).normal(size=(500, 2))
    artifact.save(KSDrift(p_val=0.2).fit(reference), folder / "ks")
    topic = f"chaos-{uuid.uuid4().hex[:8]}"
    detector = {"type": "KSDrift", "artifact": str(folder / "ks")}
    told = {
        "models": [{"name": f"m{i}"} for i in range(MODELS)],
        "monitors": [
            {"name": f"drift-{i}", "model": f"m{i}", "window": {"count": window}, "detector": detector}
            for i in range(MODELS)
        ],
        "transport": {
            "type": "kafka", "bootstrap": ",".join(broker.address for broker in brokers), "topic": topic,
            "dead_letters": f"{topic}-dead", "state": f"{topic}-state", "partitions": PARTITIONS, "replication": 3,
            "session_timeout": "6s",
        },
        "sinks": [{"type": "cloudevents", "url": url, "timeout": "5s"}],
        "worker": {"group": topic, "lookback": 2000, "commit_every": "300ms"},
    }  # fmt: skip
    path = folder / "chaos.yaml"
    path.write_text(json.dumps(told))
    return path


def event(i: int, rng: random.Random) -> Record:
    rows = [[round(rng.gauss(0, 1), 3), round(rng.gauss(0.3, 1), 3)] for _ in range(rng.randint(1, 3))]
    headers = {
        "ce_id": str(i), "ce_source": "chaos", "ce_type": "org.kubeflow.serving.inference.request",
        "ce_modelid": f"m{i % MODELS}", "ce_time": f"2026-01-01T{i // 36000 % 24:02}:{i // 600 % 60:02}:00Z",
    }  # fmt: skip
    return Record(f"m{i % MODELS}", headers, json.dumps({"instances": rows}).encode(), 1767225600.0 + i)


async def produce(settings: Settings, events: int, seconds: float, seed: int) -> None:
    """All events within about ``seconds``; a batch is sent until it is taken, so that some may come twice."""
    rng, began, size = random.Random(seed), time.monotonic(), max(100, events // 400)
    transport = wiring.open_transport(settings)
    publisher = transport.publisher(settings.transport.topic)
    for start in range(0, events, size):
        batch = [event(i, rng) for i in range(start, min(start + size, events))]
        while True:
            try:
                await publisher.publish(batch)
                break
            except Unavailable:
                await asyncio.sleep(0.2)
        await asyncio.sleep(max(0.0, began + seconds * start / events - time.monotonic()))
    await transport.close()


async def disturb(workers: Workers, receiver: Receiver, pace: float, rng: random.Random) -> None:
    """Kill a worker every few seconds, fail at the receiver, and let guests join, until cancelled.

    ``pace`` is above 1 on a machine on which workers take long to start: who is killed should have begun to work.
    """
    while True:
        await asyncio.sleep(rng.uniform(1.0, 4.0) * pace)
        workers.kill(rng)
        if rng.random() < 0.5:
            receiver.away = True
            await asyncio.sleep(rng.uniform(0.5, 2.0))
            receiver.away = False
        if rng.random() < 0.3:
            await workers.join_and_leave(rng.uniform(3.0, 6.0) * pace)


async def kill_leaders(brokers: list[Broker], settings: Settings, seconds: float) -> None:
    """Twice the leader of the topic's first partition dies, and comes back."""
    from confluent_kafka.admin import AdminClient

    for _ in range(2):
        await asyncio.sleep(seconds / 3)
        admin = AdminClient({"bootstrap.servers": ",".join(broker.address for broker in brokers)})
        topic = (await asyncio.to_thread(admin.list_topics, settings.transport.topic, 20)).topics
        leader = topic[settings.transport.topic].partitions[0].leader
        dying = next(broker for broker in brokers if broker.node == leader)
        dying.kill()
        await asyncio.sleep(min(3.0, seconds / 10))
        await asyncio.to_thread(dying.start)


async def oracle(settings: Settings, events: int) -> tuple[dict[str, Finding], Counter[str]]:
    """What one uninterrupted worker finds in the topic, by id, and each model's rows, of every event once."""
    pipeline = wiring.build_pipeline(settings, wiring.build_specs(settings))
    transport = wiring.open_transport(settings)
    source = transport.source(settings.worker.model_copy(update={"group": f"{settings.worker.group}-oracle"}))
    found: dict[str, Finding] = {}
    ids: set[str] = set()
    rows: Counter[str] = Counter()
    async for told in source:
        if isinstance(told, Assigned):
            pipeline.assign(told.partition, None)
        elif isinstance(told, Block):
            for delivery in told.deliveries:
                headers, value = delivery.record.headers, delivery.record.value
                if headers["ce_id"] not in ids:
                    ids.add(headers["ce_id"])
                    rows[headers["ce_modelid"]] += len(json.loads(value or b"")["instances"])
            outcome = pipeline.process(told.partition, told.deliveries)
            assert outcome.dead_letters == []
            found |= {finding.id: finding for finding in outcome.findings}
        elif isinstance(told, Idle) and len(ids) == events:
            break
    await source.close()
    await transport.close()
    assert ids == {str(i) for i in range(events)}, "every accepted event is in the topic"
    return found, rows


async def until_quiet(receiver: Receiver, expected: Set[str]) -> None:
    """Until what is expected has come, or nothing new for ``PATIENCE`` seconds."""
    had, deadline = -1, 0.0
    while receiver.found.keys() != expected:
        if len(receiver.found) > had:
            had, deadline = len(receiver.found), time.monotonic() + PATIENCE
        elif time.monotonic() > deadline:
            return
        await asyncio.sleep(0.5)


def rows_of(finding: Finding) -> tuple[str, tuple[int, int], tuple[int, int]]:
    first, last = finding.first, finding.last
    return finding.monitor, (first.offset, first.row), (last.offset, last.row)


def as_event(finding: Finding) -> str:
    record = to_record(finding)
    return one_text(record.headers, record.value or b"")


async def survive(folder: Path, brokers: list[Broker], receiver: Receiver, events: int, seconds: float) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)  # of the events and of what happens to whom; when, the machine says
    window = max(50, events // 600)
    path = configure(folder, brokers, receiver.url, window)
    settings = configuration.load(path, {})
    workers = Workers(path, folder / "workers.log")
    try:
        pace = max(1.0, await workers.reading() / 5)
        helper = asyncio.create_task(workers.supervise())
        trouble = asyncio.create_task(disturb(workers, receiver, pace, random.Random(seed)))
        leaders = asyncio.create_task(kill_leaders(brokers, settings, seconds))
        await produce(settings, events, seconds, seed)
        await leaders
        trouble.cancel()
        await asyncio.wait([trouble])
        assert trouble.cancelled() or trouble.exception() is None
        receiver.away = False
        early = len(receiver.found)
        expected, rows = await oracle(settings, events)
        await until_quiet(receiver, expected.keys())
        helper.cancel()
        assert {reason for reason in workers.reasons() if "Kafka at " not in reason} == set()
        print(f"{events} events, {sum(rows.values())} rows, {len(expected)} windows, {early} of them amid the chaos")
        assert early, "the workers worked"
        assert Counter(finding.model for finding in expected.values()) == {m: n // window for m, n in rows.items()}
        assert {name: len(bodies) for name, bodies in receiver.found.items() if len(bodies) > 1} == {}
        found = {name: next(iter(bodies)) for name, bodies in receiver.found.items()}
        assert found.keys() == expected.keys()
        assert [name for name, finding in expected.items() if found[name] != as_event(finding)] == []
        windows = sorted(rows_of(finding) for finding in expected.values())
        for (monitor, _, last), (other, first, _) in pairwise(windows):
            assert monitor != other or last < first, "a row is in one window"
    finally:
        workers.end()


@pytest.mark.timeout(400)
def test_chaos(tmp_path: Path, kafka_cluster: list[Broker], receiver: Receiver) -> None:
    pytest.importorskip("confluent_kafka", reason='confluent-kafka: pip install "offpath[kafka]"')
    asyncio.run(survive(tmp_path, kafka_cluster, receiver, 9_000, 15.0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(10))
def test_chaos_at_length(tmp_path: Path, kafka_cluster: list[Broker], receiver: Receiver, number: int) -> None:
    pytest.importorskip("confluent_kafka", reason='confluent-kafka: pip install "offpath[kafka]"')
    asyncio.run(survive(tmp_path, kafka_cluster, receiver, 200_000, 60.0))
