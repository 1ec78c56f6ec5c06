"""What KServe's agent and Knative's broker really sent: through ``offpath ingest``, the log and a pipeline."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire

from monitor import configuration, wiring
from monitor.codecs.detect import decode
from monitor.count_window import CountWindow
from monitor.events import Delivery, PayloadEvent
from monitor.findings import MonitorSpec
from monitor.outcome import Outcome
from monitor.pipeline import Pipeline
from monitor.settings import Settings
from monitor.structured import event_of
from monitor.wiring.captured import RowCollector
from monitor.wiring.routes import feeds_of, fetcher, route


class Replay:
    """A running ``offpath ingest``; what is sent to it is then in :meth:`stored`."""

    def __init__(self, folder: Path) -> None:
        config = folder / "offpath.yaml"
        config.write_text('{"transport": {"path": "log.db"}, "ingest": {"listen": "127.0.0.1:0"}}')
        command = [sys.executable, "-m", "monitor", "ingest", "--config", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.settings = configuration.load(config, {})
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"CloudEvents on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError("ingest did not start")

    def send(self, posts: list[wire.Post]) -> list[bytes]:
        """Byte for byte, on one connection; the answers."""
        answers = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for post in posts:
                connection.sendall(post.raw)
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    received = connection.recv(4096)
                    assert received, "it hung up"
                    answer += received
                answers.append(answer)
        return answers

    def stored(self) -> list[Delivery]:
        log = wiring.open_log(self.settings)
        found = [delivery for block in log.scan("payloads") for delivery in block.deliveries]
        log.close()
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    replay = Replay(tmp_path)
    yield replay
    replay.stop()


def judged(deliveries: list[Delivery], **match: str) -> tuple[dict[str, list[list[float]]], Outcome]:
    """The rows of either side that a worker's monitors would have judged, and what became of the rest."""
    model = {"name": "m", "match": {"model": "*", **match}}
    monitors = [
        {"name": side, "model": "m", "side": side, "detector": {"type": "X", "artifact": "x"}}
        for side in ("request", "response")
    ]
    settings = Settings.model_validate({"models": [model], "monitors": monitors})
    collectors = {side: RowCollector() for side in ("request", "response")}
    specs = {
        side: MonitorSpec(side, "ns", "m", collector, (), lambda state: CountWindow(1, None, state), "")
        for side, collector in collectors.items()
    }
    feeds = feeds_of(settings.models[0], settings.monitors, specs)
    pipeline = Pipeline([route(settings.models[0], feeds)], decode, 1000, fetcher(settings))
    pipeline.assign("payloads/0", None)
    outcome = pipeline.process("payloads/0", deliveries)
    rows = {side: [row for x in collector.rows for row in x.tolist()] for side, collector in collectors.items()}
    return rows, outcome


FILES = ("kserve-agent.txt", "kserve-agent-server.txt", "knative-broker-delivery.txt")


@pytest.mark.parametrize("name", FILES)
def test_every_event_is_taken_and_stored_as_it_was(replay: Replay, name: str) -> None:
    posts = wire.posts(name)
    for answer in replay.send(posts):
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert b"content-length: 0\r\n" in answer.lower()
    stored = replay.stored()
    assert len(stored) == len(posts) >= 2
    for post, delivery in zip(posts, stored, strict=True):
        record = delivery.record
        assert record.value == post.body
        told = {name: value for name, value in post.headers.items() if name.startswith("ce-")}
        kept = {name.replace("ce_", "ce-"): value for name, value in record.headers.items() if name.startswith("ce_")}
        assert kept == told
        assert record.headers.get("content-type") == post.headers.get("content-type")
        assert not {"host", "kn-namespace", "prefer", "user-agent"} & set(record.headers)
    replay.send(posts)
    assert len(replay.stored()) == len(posts), "the same ones again are known"


def test_kserves_agent_before_a_model_server_is_judged_row_by_row(replay: Replay) -> None:
    posts = wire.posts("kserve-agent-server.txt")
    replay.send(posts)
    rows, outcome = judged(replay.stored(), namespace="ns")
    assert rows["request"] == [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 3.0]], "V1, and V2 with binary tensors"
    assert rows["response"] == [[3.0], [7.0], [3.0], [6.0]], "JSON that is said to be octet-stream, too"
    assert dict(outcome.tally.skipped) == {"probe": 2, "empty": 1}, "the health check, and the call without rows"
    assert outcome.dead_letters == []


def test_kserves_agent_alone(replay: Replay) -> None:
    replay.send(wire.posts("kserve-agent.txt"))
    stored = replay.stored()
    events = [event_of(delivery) for delivery in stored]
    pairs = Counter(event.request_id for event in events)
    assert set(pairs.values()) == {2}, "a pair shares its id"
    assert {(event.model, event.namespace, event.endpoint) for event in events} == {("my-isvc", "my-ns", "default")}
    assert {delivery.record.key for delivery in stored} == {"my-ns/my-isvc"}, "one partition for a model"
    assert all(isinstance(event, PayloadEvent) and event.derived == () for event in events)
    rows, outcome = judged(stored)
    assert rows["request"] == [[1.0, 2.0, 3.0]], "the second request has another number of columns"
    reasons = Counter(letter.reason for letter in outcome.dead_letters)
    assert reasons == {"not_numeric": 4, "wrong_columns": 1, "invalid_json": 1}, "the captured upstream answers text"


def test_knatives_broker(replay: Replay) -> None:
    posts = wire.posts("knative-broker-delivery.txt")
    replay.send(posts)
    first, second = (event_of(delivery) for delivery in replay.stored())
    assert (first.id, second.id, first.source, first.data) == ("1", "2", "/s", b'{"a":1}')
    assert first.derived == ("missing_time",), "the broker's own ce-knativearrivaltime is not the event's time"
    assert "ce_knativearrivaltime" in first.headers
