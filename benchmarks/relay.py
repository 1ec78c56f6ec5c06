"""The sidecar against nginx and haproxy: CPU per request, throughput, latency and memory, side by side in one run.

All stand in front of the same upstream, an nginx that answers fixed bodies; what is measured has a core for itself,
load, upstream and broker have another. Rounds are interleaved, figures are medians, and targets are ratios to nginx.

    python benchmarks/relay.py [--quick] [--json]

Needs nginx, haproxy, wrk and taskset; h2load for HTTP/2. Kafka is looked for as the tests do (KAFKA_HOME, or
OFFPATH_TEST_KAFKA); without one, logging goes to the embedded log and over HTTP only.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from report import Row, main, row
from traffic.kafka import broker
from traffic.load import Answered, closed, http2, paced
from traffic.meters import cpu, resident
from traffic.servers import LOAD_CORE, Server, Sidecar, haproxy, missing, nginx, received, receiver, upstream

RATE = 1000.0
"""Requests a second of the open loop."""

QUICK = ((300, 16), (4096, 16))
FULL = tuple((size, connections) for size in (300, 4096, 61440) for connections in (16, 1, 64))
"""Bytes of bodies, and connections."""


class Sample:
    """What one server did in one round."""

    def __init__(self, server: Server, act: Callable[[], Answered]) -> None:
        parts = {"all": server.pids}
        if isinstance(server, Sidecar):
            parts = {"all": server.pids, "relay": server.relay, "shipper": server.shipper}
        before = {name: cpu(pids) for name, pids in parts.items()}
        self.answered = act()
        if isinstance(server, Sidecar) and server.shipper:
            server.settle()  # everything delivered is part of the price
        self.us = {name: (cpu(pids) - before[name]) / self.answered.requests * 1e6 for name, pids in parts.items()}


def rounds(
    servers: Sequence[Server], act: Callable[[Server], Callable[[], Answered]], times: int
) -> dict[str, list[Sample]]:
    """Each server in turn, so often; the first turn warms up."""
    found: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for number in range(times + 1):
        for server in servers:
            sample = Sample(server, act(server))
            if number:
                found[server.name].append(sample)
    return found


def ratio(found: dict[str, list[Sample]], name: str, part: str = "all") -> float:
    """CPU a request as a ratio to nginx's in the same round: the median."""
    pairs = zip(found[name], found["nginx"], strict=True)
    return statistics.median(ours.us[part] / nginx.us["all"] for ours, nginx in pairs)


def at_a_rate(servers: Sequence[Server], size: int, connections: int, seconds: float, times: int) -> list[Row]:
    """The open loop: CPU a request with everything delivered, and the latency that a server adds."""
    found = rounds(servers, lambda server: lambda: paced(server.port, size, connections, seconds, RATE), times)
    load = f"{size} B, {connections} connections at 1,000/s"
    rows = [row(f"nginx, {load}", statistics.median(s.us["all"] for s in found["nginx"]), "us CPU/request")]
    p50 = {name: statistics.median(s.answered.p50 for s in samples) for name, samples in found.items()}
    for server in servers:
        name = server.name
        if name == "nginx":
            continue
        where = f"{name}, {load}"
        most = 5.0 if name == "sidecar off" and size <= 4096 else None
        rows.append(row(f"{where}: p50 over nginx's", p50[name] - p50["nginx"], "us", most))
        if name == "sidecar off":
            rows.append(row(f"{where}: CPU to nginx", ratio(found, name), "x", 1.1))
        elif isinstance(server, Sidecar):
            rows.append(row(f"{where}: relay's CPU to nginx", ratio(found, name, "relay"), "x", 1.2))
            both = 1.5 if name == "sidecar http" and size <= 4096 else None
            rows.append(row(f"{where}: relay and shipper to nginx", ratio(found, name), "x", both))
        else:
            rows.append(row(f"{where}: CPU to nginx", ratio(found, name), "x"))
    return rows


def saturated(servers: Sequence[Server], size: int, connections: int, seconds: float, folder: Path) -> list[Row]:
    """As much as goes: throughput, CPU and p99."""
    found = rounds(servers, lambda server: lambda: closed(server.port, size, connections, seconds, folder), 1)
    first = {name: samples[0] for name, samples in found.items()}
    rows = []
    for name, sample in first.items():
        where = f"{name}, {size} B, {connections} connections"
        answered = sample.answered
        rows.append(row(f"{where}: requests", answered.requests / answered.seconds, "1/s"))
        if name != "nginx":
            rows.append(row(f"{where}: CPU to nginx", ratio(found, name), "x", 1.1 if name == "sidecar off" else None))
            most = 2.0 if name.startswith("sidecar") else None
            rows.append(row(f"{where}: p99 to nginx's", answered.p99 / first["nginx"].answered.p99, "x", most))
    return rows


def over_http2(servers: Sequence[Server], seconds: float, folder: Path) -> list[Row]:
    """gRPC-like calls by h2load; nginx uses ``grpc_pass``."""
    found = rounds(servers, lambda server: lambda: http2(server.port_h2, 300, 16, 4, seconds, folder), 1)
    rows = []
    for name, samples in found.items():
        answered = samples[0].answered
        rows.append(row(f"{name}, gRPC 300 B, 16 x 4 streams: calls", answered.requests / answered.seconds, "1/s"))
        if name != "nginx":
            most = 1.1 if name == "sidecar off" else None
            rows.append(row(f"{name}, gRPC 300 B: CPU to nginx", ratio(found, name), "x", most))
    return rows


def memory(folder: Path, behind: Server, seconds: float) -> list[Row]:
    """At rest, and under load with a receiver that is away."""
    quiet = Sidecar("at rest", folder, behind.port)
    time.sleep(1.0)
    rows = [
        row("relay at rest", resident(quiet.relay), "MiB", 25.0),
        row("relay and shipper at rest", resident(quiet.pids), "MiB", 45.0),
    ]
    quiet.stop()
    away = Sidecar("away", folder, behind.port, "--url", "http://127.0.0.1:9/", "--spool", str(folder / "away.db"))
    paced(away.port, 4096, 16, seconds, RATE)
    name = f"relay and shipper, receiver away, {seconds * RATE:,.0f} requests of 4 KB"
    rows.append(row(name, resident(away.pids), "MiB", 100.0))
    away.process.kill()
    away.process.wait()
    return rows


@contextmanager
def away_from_what_is_measured() -> Iterator[None]:
    """What is started in here shares the core of load and upstream."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def sidecars(folder: Path, behind: Server, taker: Server, kafka: str | None) -> Iterator[Sidecar]:
    """Without logging, and with it to each place."""
    yield Sidecar("sidecar off", folder, behind.port, "--mode", "none")
    yield Sidecar(
        "sidecar log", folder, behind.port, "--log", str(folder / "log.db"), "--spool", str(folder / "log-spool.db")
    )
    spool = ("--spool", str(folder / "http-spool.db"))
    yield Sidecar("sidecar http", folder, behind.port, "--url", f"http://127.0.0.1:{taker.port}/", *spool)
    if kafka is not None:
        config = folder / "kafka.yaml"
        config.write_text(f"transport: {{type: kafka, bootstrap: '{kafka}', topic: relay-{os.getpid()}}}\n")
        spool = ("--spool", str(folder / "kafka-spool.db"))
        yield Sidecar("sidecar kafka", folder, behind.port, "--config", str(config), *spool)


def side_by_side(quick: bool, folder: Path, kafka: str | None) -> Iterator[Row]:
    behind, taker = upstream(folder), receiver(folder)
    servers: list[Server] = [nginx(folder, behind), haproxy(folder, behind)]
    own: list[Sidecar] = []
    seconds = 1.0 if quick else 4.0
    try:
        own.extend(sidecars(folder, behind, taker, kafka))
        off, _, http, *_ = own
        for size, connections in QUICK if quick else FULL:
            some = own[:3] if quick and size > 300 else own
            times = 1 if quick else 5 if connections == 16 else 2
            yield from at_a_rate([*servers, *some], size, connections, 0.5 if quick else seconds, times)
        for size, connections in QUICK[:1] if quick else FULL:
            yield from saturated([*servers, *([off, http] if quick else own)], size, connections, seconds, folder)
        if _h2(folder):
            own.append(Sidecar("sidecar off", folder / "h2", behind.port_h2, "--mode", "none"))
            yield from over_http2([servers[0], own[-1]], seconds, folder)
        made, got = http.metric("events"), received(taker)
        unaccounted = abs(made - http.metric("dropped_events") - got)  # frames dropped before never became events
        yield row("events made and neither delivered nor counted as lost", int(unaccounted), "events", 0)
        lost = http.metric("dropped_frames") + http.metric("dropped_events") + http.metric("discarded_messages")
        yield row("copies lost at saturation", int(lost), "frames and events")
        yield from memory(folder, behind, 2.0 if quick else 8.0)
    finally:
        for server in (*servers, *own, behind, taker):
            server.stop()


def _h2(folder: Path) -> bool:
    (folder / "h2").mkdir()
    return shutil.which("h2load") is not None


def measure(quick: bool) -> Iterator[Row]:
    if absent := missing():
        print(f"this benchmark needs {', '.join(absent)} (Debian: apt-get install nginx haproxy wrk nghttp2-client)")
        return
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with ExitStack() as open_ones:
            with away_from_what_is_measured():
                kafka = open_ones.enter_context(broker("without Kafka"))
            yield from side_by_side(quick, Path(name), kafka)


if __name__ == "__main__":
    sys.exit(main("relay", __doc__, measure))
