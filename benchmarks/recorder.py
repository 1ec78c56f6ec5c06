"""What the sidecar's options cost: CPU microseconds a captured exchange in the shipper, from bytes to events.

    python benchmarks/recorder.py [--quick] [--json]

Parsing, choosing, recording and what the option asks for; no publishing. Every option runs in turns with all options
off, in one process, so ratios hold on a noisy machine. Requests are V1 rows of 6 columns, responses one number a row.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from report import Row, main, row

from monitor.capture.claims import Claims
from monitor.capture.conversation import Conversation
from monitor.capture.express import Express
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import Counters
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.capture.rules import ModelColumns, RedactRule
from monitor.transport.payloads import PayloadStore

COLUMNS = (ModelColumns("income", ("age", "hours", "sex", "grade", "gain", "loss"), ("p",)),)
ROW = [39, 40.5, "Male", 13, 1.5, 2.25]
KEY = b"0123456789abcdef"
PATH = (
    b"POST /v1/models/income:predict HTTP/1.1\r\nHost: model\r\nUser-Agent: wrk\r\nContent-Type: application/json\r\n"
)


class Option(NamedTuple):
    """A name, the sidecar's plan, and what bodies it is measured on."""

    name: str
    plan: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default, never changed
    gzipped: bool = False
    claims: bool = False
    recorder: type[Recorder] = Express


def rule(kind: str, name: str, action: str) -> dict[str, Any]:
    return {"redact": (RedactRule(kind, name, action, side="request"),), "columns": COLUMNS}


OPTIONS = (
    Option("off"),
    Option("off, every message by the parser", recorder=Recorder),
    Option("patterns", {"include": ("inference", "/score"), "exclude": ("*test*",)}),
    Option("sample 0.5", {"sample": 0.5}),
    Option("sample 0", {"sample": 0.0}),
    Option("combined", {"combined": True}),
    Option("one header", {"headers": ("user-agent",)}),
    Option("redact a header (hash)", rule("header", "x-request-id", "hash")),
    Option("redact a pointer (mask)", rule("pointer", "/instances/*/2", "mask")),
    Option("redact a column (mask)", rule("column", "sex", "mask")),
    Option("redact a column (hash)", rule("column", "sex", "hash")),
    Option("gzip as it is", {}, gzipped=True),
    Option("gzip inflated", {"inflate": True}, gzipped=True),
    Option("claim check, known body", {}, claims=True),
)


class Runner:
    """A conversation with one option, and the bytes of some exchanges."""

    def __init__(self, option: Option, size: int, exchanges: int, folder: Path) -> None:
        counters = Counters()
        claims = Claims(lambda: PayloadStore(folder, 1 << 30, 86400.0), 256 * 1024, counters, time.monotonic)
        plan = Shipping("http://sidecar", **option.plan)
        recorder = option.recorder(plan, lambda _: None, counters, time.time, KEY, claims if option.claims else None)
        self.conversation = Conversation(recorder, counters)
        rows = max(1, (size - 17) // (len(json.dumps(ROW)) + 2))
        body, answer = (json.dumps(v).encode() for v in ({"instances": [ROW] * rows}, {"predictions": [0.25] * rows}))
        head = PATH
        if option.gzipped:
            body, head = gzip.compress(body), PATH + b"Content-Encoding: gzip\r\n"
        self.requests = [
            head + b"X-Request-Id: %032d\r\nContent-Length: %d\r\n\r\n%b" % (i, len(body), body)
            for i in range(exchanges)
        ]
        self.response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(answer), answer,
        )  # fmt: skip

    def run(self) -> float:
        """CPU microseconds an exchange."""
        began = time.process_time_ns()
        for request in self.requests:
            self.conversation.data(CLIENT, request, 1.0)
            self.conversation.data(UPSTREAM, self.response, 1.1)
        return (time.process_time_ns() - began) / len(self.requests) / 1000


def beside_off(size: int, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        exchanges = max(2, min(200, 400_000 // size))
        runners = [Runner(option, size, exchanges, Path(folder)) for option in OPTIONS]
        times: list[list[float]] = [[] for _ in runners]
        for i in range(rounds + 2):
            for runner, found in zip(runners, times, strict=True):
                taken = runner.run()
                if i >= 2:
                    found.append(taken)
        off = times[0]
        for option, found in zip(OPTIONS, times, strict=True):
            ratio = statistics.median(a / b for a, b in zip(found, off, strict=True))
            about = f"{option.name}, {size:,} B"
            yield row(about, statistics.median(found), "us CPU/exchange")
            yield row(f"{about}: CPU to off", ratio, "x")


def measure(quick: bool) -> Iterator[Row]:
    for size in (300, 4_000, 400_000):
        yield from beside_off(size, 10 if quick else 60)


if __name__ == "__main__":
    sys.exit(main("recorder", __doc__, measure))
