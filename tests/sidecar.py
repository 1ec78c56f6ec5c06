"""The sidecar's two processes, as ``offpath capture`` starts them, for tests to look into."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
from servers import PATIENCE, until

from monitor.capture.child import command
from monitor.capture.metrics import sample
from monitor.capture.plan import Address, Plan, Shipping, write_plan
from monitor.events import Record
from monitor.transport.log import EmbeddedLog

PREDICT = "/v1/models/m:predict"
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


def relay(plan: Plan) -> tuple[subprocess.Popen[str], str]:
    """A relay process, which starts its shipper; and the line by which it says where it listens."""
    descriptor = write_plan(plan)
    process = subprocess.Popen(
        command("relay", str(descriptor)), pass_fds=(descriptor,), stderr=subprocess.PIPE, text=True
    )
    os.close(descriptor)
    assert process.stderr is not None
    said = process.stderr.readline()
    if "relaying" not in said:
        said += process.stderr.read()
    return process, said


class Sidecar:
    """A relay process with its shipper, started as ``offpath capture`` starts it."""

    def __init__(self, folder: Path, upstream: int, url: str = "", **plan: Any) -> None:
        self.folder = folder
        shipping = {
            "log": str(folder / "log.db"),
            "spool": str(folder / "spool.db"),
            "drain": 4.0,
            "url": url,
            **plan.pop("shipping", {}),
        }
        local = Address("127.0.0.1", 0)
        told = Shipping("http://sidecar", **shipping)
        self.process, said = relay(Plan(local, Address("127.0.0.1", upstream), local, told, **plan))
        found = re.search(r"relaying \S+:(\d+) to .* http://\S+:(\d+)", said)
        assert found, said
        self.port, self.admin = int(found[1]), int(found[2])
        self.words: list[str] = []
        until(lambda: self.metric("shipper_up") == 1, "the shipper's start")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self.words.extend(stream)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{self.admin}/metrics").text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics()[sample(name, **labels)]

    def shippers(self) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def published(self, count: int) -> None:
        until(lambda: self.metric("published_total") >= count, f"publishing {count}, have {self.metrics()}")

    def records(self) -> list[Record]:
        """Everything in the embedded log, which the first event makes."""
        if not (self.folder / "log.db").exists():
            return []
        log = EmbeddedLog(self.folder / "log.db", create=False)
        try:
            return [d.record for block in log.scan("payloads") for d in block.deliveries]
        finally:
            log.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
