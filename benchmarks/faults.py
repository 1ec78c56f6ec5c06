"""Latency of inference while something is wrong behind the sidecar, beside that while nothing is.

    python benchmarks/faults.py [--quick] [--json]

300 requests of 300 B a second, an open loop over 16 connections. Faults take turns, each with a sidecar of its own; the
first turn, while nothing is wrong, comes again as the last: how much the two differ is the noise. A fault that did not
take place ends the benchmark. Needs nginx, taskset and prlimit.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from report import Row, main, row
from traffic.load import Answered, paced
from traffic.servers import Server, Sidecar, receiver, slow_receiver, until, upstream

RATE, SIZE, CONNECTIONS = 300.0, 300, 16
NOBODY = "http://127.0.0.1:9/"
DROPPED = "dropped_events_total"

Metrics = Mapping[str, float]


@contextmanager
def nothing(_: Sidecar) -> Iterator[None]:
    yield


@contextmanager
def killed(sidecar: Sidecar) -> Iterator[None]:
    """Its shipper, at once and every two seconds."""
    over = threading.Event()

    def kill() -> None:
        while True:
            for pid in sidecar.shipper:
                os.kill(pid, signal.SIGKILL)
            if over.wait(2.0):
                return

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    over.set()
    killer.join()


@contextmanager
def stopped(sidecar: Sidecar) -> Iterator[None]:
    """Its shipper, by SIGSTOP: it is there and takes nothing."""
    for pid in sidecar.shipper:
        os.kill(pid, signal.SIGSTOP)
    yield


class Fault(NamedTuple):
    """What is wrong. ``happened`` tells it by the metrics."""

    name: str
    happened: Callable[[Metrics], bool]
    url: str = ""
    flags: tuple[str, ...] = ()
    file_limit: int = 0
    meanwhile: Callable[[Sidecar], AbstractContextManager[None]] = nothing


def faults(takes: str, slow: str) -> tuple[Fault, ...]:
    """All of them, given the receivers that there are."""

    def fine(told: Metrics) -> bool:
        return told["published_total"] > 0

    def waiting(told: Metrics) -> bool:
        return told["spool_events"] > 0

    return (
        Fault("nothing is wrong", fine, takes),
        Fault("receiver down", waiting, NOBODY),
        Fault("receiver takes one event a second", waiting, slow),
        Fault("disk full", lambda told: told[DROPPED + '{reason="spool_unavailable"}'] > 0, NOBODY,
              ("--config", "small.yaml"), 200_000),
        Fault("spool at its cap", lambda told: told[DROPPED + '{reason="spool_full"}'] > 0, NOBODY,
              ("--spool-limit", "400KiB")),
        Fault("shipper killed every 2 s", lambda told: told["shipper_starts_total"] > 1, takes, meanwhile=killed),
        Fault("shipper stopped", lambda told: told["queue_bytes"] > 0, takes, meanwhile=stopped),
        Fault("nothing is wrong, again", fine, takes),
    )  # fmt: skip


def turn(fault: Fault, folder: Path, behind: Server, seconds: float) -> Answered:
    """One fault, one sidecar."""
    config = folder / "small.yaml"
    config.write_text("capture: {buffer: 64KiB}\n")
    flags = [str(config) if flag == config.name else flag for flag in fault.flags]
    spool = folder / "spool.db"
    sidecar = Sidecar(
        "sidecar", folder, behind.port, "--url", fault.url, "--spool", str(spool), *flags, file_limit=fault.file_limit
    )
    try:
        paced(sidecar.port, SIZE, CONNECTIONS, 0.5, RATE)
        with fault.meanwhile(sidecar):
            found = paced(sidecar.port, SIZE, CONNECTIONS, seconds, RATE)
            until(lambda: fault.happened(sidecar.metrics()), fault.name)
    finally:
        sidecar.kill()
    return found


def side_by_side(folder: Path, seconds: float, times: int) -> Iterator[Row]:
    behind, takes, slow = upstream(folder), receiver(folder), slow_receiver(folder)
    every = faults(*(f"http://127.0.0.1:{server.port}/" for server in (takes, slow)))
    found: dict[str, list[Answered]] = {fault.name: [] for fault in every}
    try:
        for _ in range(times):
            for fault in every:
                with tempfile.TemporaryDirectory() as own:
                    found[fault.name].append(turn(fault, Path(own), behind, seconds))
    finally:
        for server in (behind, takes, slow):
            server.stop()
    usual = found[every[0].name]
    for name, answers in found.items():
        yield row(f"{name}: p50", statistics.median(a.p50 for a in answers), "us")
        yield row(f"{name}: p99", statistics.median(a.p99 for a in answers), "us")
        if answers is not usual:
            pairs = zip(answers, usual, strict=True)
            yield row(f"{name}: p50 to the usual", statistics.median(a.p50 / b.p50 for a, b in pairs), "x")


def measure(quick: bool) -> Iterator[Row]:
    if absent := [program for program in ("nginx", "taskset", "prlimit") if shutil.which(program) is None]:
        print(f"this benchmark needs {', '.join(absent)} (Debian: apt-get install nginx util-linux)")
        return
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield from side_by_side(Path(name), 2.0 if quick else 5.0, 1 if quick else 3)


if __name__ == "__main__":
    sys.exit(main("faults", __doc__, measure))
