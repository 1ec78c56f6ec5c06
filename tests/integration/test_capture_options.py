"""The sidecar's options, through ``offpath capture`` as users start it, with curl and the embedded log."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import PATIENCE, serving, until

from monitor.capture.metrics import sample
from monitor.capture.sampling import place
from monitor.transport.log import EmbeddedLog
from sinks.base import Record

PREDICT = "/v1/models/income:predict"


class Model(BaseHTTPRequestHandler):
    """Echoes a body with its content type and encoding; ``/stream`` speaks in events until its client has gone."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/stream":
            self._stream()
            return
        self.send_response(500 if body == b"fail" else 200)
        for name in ("content-type", "content-encoding"):
            if name in self.headers:
                self.send_header(name, self.headers[name])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
                time.sleep(0.005)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with serving(Model) as port:
        yield port


class Capture:
    """``offpath capture`` with a configuration and flags."""

    def __init__(self, folder: Path, upstream: int, configuration: str, flags: list[str], environ: Any) -> None:
        self.log = folder / "log.db"
        config = folder / "offpath.yaml"
        config.write_text(f"transport: {{path: {self.log}}}\n{configuration}")
        addresses = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", f"127.0.0.1:{upstream}"]
        command = [sys.executable, "-m", "monitor", "capture", "--config", str(config), *addresses, *flags]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environ)
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        found = re.search(r"relaying \S+:(\d+) to .* http://\S+:(\d+)", said)
        assert found, said + self.process.stderr.read()
        self.url, self.admin = f"http://127.0.0.1:{found[1]}", f"http://127.0.0.1:{found[2]}"
        until(lambda: self.metric("shipper_up") == 1, "the shipper's start")

    def metric(self, name: str, **labels: str) -> float:
        wanted = sample(name, **labels)
        lines = httpx.get(f"{self.admin}/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted + " "))

    def records(self, count: int) -> list[Record]:
        """All records, once there are so many."""
        until(lambda: self.metric("published_total") >= count, f"publishing {count} events")
        log = EmbeddedLog(self.log, create=False)
        try:
            return [d.record for block in log.scan("payloads") for d in block.deliveries]
        finally:
            log.close()

    def stop(self) -> str:
        """End it; what it said."""
        assert self.process.stderr is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        said = self.process.stderr.read()
        self.process.stderr.close()
        self.process.wait(PATIENCE)
        return said


@pytest.fixture
def capture(tmp_path: Path, upstream: int) -> Iterator[Callable[..., Capture]]:
    started: list[Capture] = []

    def start(configuration: str = "", *flags: str, environ: Any = None) -> Capture:
        started.append(Capture(tmp_path, upstream, configuration, list(flags), environ))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()


def test_paths_samples_and_one_event_for_both(capture: Callable[..., Capture]) -> None:
    running = capture(
        "capture: {combined: true, sample_rules: [{model: income, rate: 0.5}]}",
        "--include", "inference", "--include", "/score", "--exclude", "*test*",
    )  # fmt: skip
    with httpx.Client(base_url=running.url) as client:
        for i in range(20):
            client.post(PREDICT, json={"instances": [[i]]}, headers={"x-request-id": str(i)})
        client.post("/score", content=b"fail")
        client.post("/v1/models/test:predict", content=b"{}")
        client.post("/other", content=b"{}")
    expected = [str(i) for i in range(20) if place(str(i)) < 0.5]
    records = running.records(len(expected) + 1)
    assert [r.headers["ce_requestid"] for r in records[:-1]] == expected
    for record in records[:-1]:
        body = json.loads(record.value or b"")
        assert body["request"] == body["response"]
        assert body["request"]["data"] == {"instances": [[int(record.headers["ce_requestid"])]]}
        assert record.headers["ce_samplerate"] == "0.5"
    score = records[-1]
    assert (score.headers["ce_path"], score.headers["ce_status"]) == ("/score", "500")
    assert "ce_samplerate" not in score.headers
    assert running.metric("skipped_total", reason="sampled") == 20 - len(expected)
    assert running.metric("skipped_total", reason="excluded") == 1
    assert running.metric("skipped_total", reason="path") == 1


KEY = "0123456789abcdef0123"
SECRETS = """
models:
  - name: income
    features: [{name: age}, {name: sex, type: categorical}]
    outputs: [{name: p}]
capture:
  headers: [x-user]
  redact:
    - {column: sex, action: hash}
    - {header: x-user, action: hash}
    - {pointer: /parameters/note, action: drop}
"""


def test_nothing_secret_leaves(capture: Callable[..., Capture], tmp_path: Path) -> None:
    """Whatever the body, compressed or not, known or not: the secret is in none of its files or words."""
    running = capture(SECRETS, "--mode", "request", environ={**os.environ, "OFFPATH_REDACT_KEY": KEY})
    packed = gzip.compress(b'{"instances": [{"age": 39, "sex": "SECRET"}]}')
    with httpx.Client(base_url=running.url, headers={"x-user": "SECRET", "authorization": "SECRET"}) as client:
        client.post(PREDICT + "?q=SECRET", content=b'{"instances": [[39, "SECRET"]], "parameters": {"note": "SECRET"}}')
        client.post(PREDICT, content=packed, headers={"content-encoding": "gzip"})
        client.post(PREDICT, content=b"SECRET", headers={"content-type": "text/plain"})
        client.post(PREDICT, content=b'{"rows": [[39, "SECRET"]]}')
    records = running.records(4)
    hashed = hmac.new(KEY.encode(), b"SECRET", hashlib.sha256).hexdigest()[:32]
    assert json.loads(records[0].value or b"") == {"instances": [[39, hashed]], "parameters": {}}
    assert json.loads(records[1].value or b"") == {"instances": [{"age": 39, "sex": hashed}]}
    assert [r.value for r in records[2:]] == [b"", b""]
    assert [r.headers["ce_redacted"] for r in records] == ["true", "true", "withheld", "withheld"]
    assert json.loads(records[0].headers["ce_metadata"]) == {"x-user": [hashed]}
    assert running.metric("redacted_total", outcome="withheld") == 2
    said = running.stop()
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert hashed.encode() in left
    for secret in ("SECRET", KEY):
        assert secret not in said
        assert secret.encode() not in left


def test_large_bodies_by_claim_check_to_the_worker(capture: Callable[..., Capture], tmp_path: Path) -> None:
    """Stored once, read by the worker; what is damaged or gone is a dead letter with its reason."""
    import numpy as np

    from detectors import artifact, registry
    from detectors.base import default_features
    from monitor import configuration, wiring

    detector: Any = registry.create("KSDrift")
    artifact.save(detector.fit(np.random.default_rng(0).normal(size=(100, 2)), default_features(2)), tmp_path / "ks")
    configured = """
models: [{name: income}]
monitors:
  - {name: drift, model: income, window: {count: 1000}, detector: {type: KSDrift, artifact: ks}}
payloads: {directory: payloads, above: 10KB}
worker: {commit_every: 0s}
"""
    running = capture(configured, "--mode", "request")
    large = [json.dumps({"instances": [[i, 0.5]] * 1000}).encode() for i in range(3)]
    with httpx.Client(base_url=running.url) as client:
        for body in [*large, large[0], b'{"instances": [[1, 2]]}']:
            client.post(PREDICT, content=body)
    records = running.records(5)
    references = [r.headers.get("ce_dataref") for r in records]
    assert references[0] == references[3]
    assert references[4] is None
    assert [len(r.value or b"") for r in records] == [0, 0, 0, 0, 23]
    assert records[0].headers["ce_datasize"] == str(len(large[0]))
    stored = (tmp_path / "payloads").glob("*/*")
    assert sorted(path.read_bytes() for path in stored) == sorted(large)
    assert running.metric("claims_total", outcome="stored") == 4
    running.stop()
    (tmp_path / "payloads" / str(references[1])).write_bytes(b"damaged")
    (tmp_path / "payloads" / str(references[2])).unlink()

    async def judge() -> None:
        assembly = wiring.build(configuration.load(tmp_path / "offpath.yaml", {}))
        commit = assembly.source.commit

        async def once(checkpoints: Any) -> None:
            await commit(checkpoints)
            assembly.worker.stop()

        assembly.source.commit = once  # type: ignore[method-assign]
        await asyncio.wait_for(assembly.worker.run(), PATIENCE)
        letters = [
            d.record.headers["offpath-reason"]
            for b in assembly.transport.log.scan("dead-letters")
            for d in b.deliveries
        ]
        assert letters == ["payload_mismatch", "payload_missing"]
        assert (
            assembly.registry.get_sample_value(
                "offpath_rows_total", {"namespace": "default", "model": "income", "monitor": "drift"}
            )
            == 2001
        )
        await assembly.close()

    asyncio.run(judge())


def test_flags_for_bodies(capture: Callable[..., Capture], tmp_path: Path) -> None:
    running = capture("", "--inflate", "--payloads", str(tmp_path / "claims"), "--exclude", "*:explain")
    body = json.dumps({"instances": [[0.5]] * 60_000}).encode()
    answer = httpx.post(
        running.url + PREDICT, content=gzip.compress(body), headers={"content-encoding": "gzip"}, timeout=PATIENCE
    )
    assert answer.content == body
    records = running.records(2)
    assert records[0].headers["ce_dataref"] == records[1].headers["ce_dataref"], "the model echoes"
    assert "ce_contentencoding" not in records[0].headers
    assert (tmp_path / "claims" / records[0].headers["ce_dataref"]).read_bytes() == body
    assert running.metric("payloads_bytes") == len(body)


def test_combined_events_to_every_kind_of_monitor(capture: Callable[..., Capture], tmp_path: Path) -> None:
    configured = """
models: [{name: income, features: [{name: a}], outputs: [{name: p}]}]
monitors:
  - {name: asked, model: income, window: {count: 40}, detector: {type: KSDrift, reference: a.csv}}
  - {name: answered, model: income, side: response, window: {count: 40}, detector: {type: KSDrift, reference: p.csv}}
  - {name: both, model: income, side: joined, window: {count: 40}, detector: {type: KSDrift, reference: ap.csv}}
capture: {combined: true}
"""
    for name, header in (("a", "a"), ("p", "p"), ("ap", "a,p")):
        rows = [",".join([str(i / 50)] * len(header.split(","))) for i in range(50)]
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    running = capture(configured)
    with httpx.Client(base_url=running.url) as client:
        for i in range(40):
            client.post(PREDICT, json={"instances": [[5 + i]]}, headers={"content-type": "application/json"})
    running.records(40)
    running.stop()
    out = subprocess.run(
        [sys.executable, "-m", "monitor", "replay", "--config", str(tmp_path / "offpath.yaml"), "--json"],
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    found = [json.loads(line) for line in out.stdout.splitlines()]
    assert {f["monitor"] for f in found if f["alarm"]} == {"asked", "answered", "both"}


def test_a_stream_is_captured_up_to_its_cap_while_it_flows(capture: Callable[..., Capture]) -> None:
    running = capture("", "--include", "/stream", "--max-body", "90")
    with httpx.Client() as client, client.stream("POST", running.url + "/stream", content=b"go") as answer:
        for count, _ in enumerate(answer.iter_raw()):
            if count == 12:
                break
        records = running.records(2)
        assert (records[1].value, records[1].headers["ce_truncated"]) == (b"data: 1\n\n" * 10, "true")
    with httpx.Client() as client, client.stream("POST", running.url + "/stream", content=b"go") as answer:
        next(answer.iter_raw())
    left = running.records(4)[3]
    assert (left.value or b"").startswith(b"data: 1\n\n")
    assert left.headers["ce_truncated"] == "true"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian: apt-get install curl)")
def test_curl_without_options(capture: Callable[..., Capture]) -> None:
    running = capture()
    subprocess.run(["curl", "-s", "-d", "{}", running.url + PREDICT], check=True, capture_output=True)
    assert [r.value for r in running.records(2)] == [b"{}", b"{}"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--include", "score"],
            "--include: capture.include[0]: expected a pattern of the whole path that begins with",
        ),
        (["--exclude", "inference"], "--exclude: capture.exclude: to leave out the inference paths, leave the word"),
        (["--sample", "2"], "--sample: capture.sample: expected at most 1 (got 2.0)"),
        (["--combined", "--mode", "request"], "--combined: capture.combined: needs mode: all, not mode: request"),
        (["--listen", "9081"], "--listen: capture.listen: expected host:port"),
    ],
)
def test_mistakes_in_flags_are_told_in_a_line(flags: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor", "capture", *flags]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode == 2
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "action: hash needs a key: put it into the environment variable OFFPATH_REDACT_KEY"),
        ({"OFFPATH_REDACT_KEY": "short"}, "has 5 bytes; give 16 to 4096"),
    ],
)
def test_a_hash_without_a_key_does_not_start(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "offpath.yaml").write_text("capture: {redact: [{column: ssn, action: hash}]}\n")
    command = [sys.executable, "-m", "monitor", "capture"]
    clean = {name: value for name, value in os.environ.items() if name != "OFFPATH_REDACT_KEY"}
    found = subprocess.run(
        command, cwd=tmp_path, env={**clean, **environ}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert found.returncode == 1
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
