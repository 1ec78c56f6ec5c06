"""The sidecar's options, through ``offpath capture`` as users start it, with curl and the embedded log."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.capture.metrics import sample
from monitor.capture.sampling import place
from monitor.transport.log import EmbeddedLog
from sinks.base import Record

PATIENCE = 60.0
PREDICT = "/v1/models/income:predict"


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen")


class Model(BaseHTTPRequestHandler):
    """Echoes a body with its content type and encoding."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if body == b"fail" else 200)
        for name in ("content-type", "content-encoding"):
            if name in self.headers:
                self.send_header(name, self.headers[name])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian: apt-get install curl)")
def test_curl_without_options(capture: Callable[..., Capture]) -> None:
    running = capture()
    subprocess.run(["curl", "-s", "-d", "{}", running.url + PREDICT], check=True, capture_output=True)
    assert [r.value for r in running.records(2)] == [b"{}", b"{}"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--include", "score"], "--include score: expected a pattern of the whole path that begins with / or *"),
        (["--exclude", "inference"], "leave the word inference out of include"),
        (["--sample", "2"], "--sample 2.0: Input should be less than or equal to 1"),
        (["--combined", "--mode", "request"], "combined needs mode: all, not mode: request"),
    ],
)
def test_mistakes_in_flags(flags: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor", "capture", *flags]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
