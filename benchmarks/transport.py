"""Producing and consuming through each transport: events per second, and CPU per event as a ratio to the embedded log.

    python benchmarks/transport.py [--quick] [--json]

The embedded log, confluent-kafka and kafka-python take turns in one run, with records of 1 KB and 20 KB and six
headers, keyed, in batches of 500, by our own publishers and sources. CPU is this process's, all of its threads; the
brokers' is not in it. Kafka is looked for as the tests do (KAFKA_HOME, or OFFPATH_TEST_KAFKA); without one, only the
embedded log is measured.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from report import Row, main, row
from traffic.kafka import broker

from monitor.events import Record
from monitor.transport.base import Assigned, Block, Publisher, Source
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.connect import MODULES
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.log import EmbeddedLog

BATCH = 500
SIZES = {"1 KB": 1000, "20 KB": 20_000}


def make_records(n: int, size: int) -> list[Record]:
    body = os.urandom(size)  # does not compress, as little as payloads of numbers do
    told = {
        "ce_specversion": "1.0", "ce_source": "http://income:9081/", "ce_time": "2026-01-01T00:00:00Z",
        "ce_type": "org.kubeflow.serving.inference.request", "content-type": "application/json",
    }  # fmt: skip
    return [Record(f"default/model-{i % 8}", {**told, "ce_id": str(i)}, body, 0.0) for i in range(n)]


@asynccontextmanager
async def embedded(folder: Path, _: str) -> AsyncIterator[tuple[Publisher, Source]]:
    log = EmbeddedLog(folder / f"{uuid.uuid4().hex}.db", warmup=0)
    yield EmbeddedPublisher(log, "t"), EmbeddedSource(log, "t", "g")
    log.close()


def over(client: str) -> Callable[[Path, str], Any]:
    @asynccontextmanager
    async def opened(_: Path, address: str) -> AsyncIterator[tuple[Publisher, Source]]:
        cluster = await asyncio.to_thread(Cluster, KafkaOptions(address, client, timeout=30.0), create=True)
        topic = f"t-{uuid.uuid4().hex[:8]}"
        cluster.ensure(topic, TopicLayout(3, 1))
        cluster.ensure("states", TopicLayout(1, 1, compact=True))
        source = cluster.source(topic, topic, "states", warmup=0)
        await cluster.publisher(topic).publish(make_records(1, 10))  # connected, and its producer known to the broker
        yield cluster.publisher(topic), source
        await source.close()
        await cluster.close()

    return opened


async def timed(act: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """CPU and wall seconds."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await act()
    return time.process_time() - cpu, time.perf_counter() - wall


async def once(transport: Callable[[Path, str], Any], folder: Path, address: str, records: list[Record]) -> Any:
    async with transport(folder, address) as (publisher, source):

        async def produce() -> None:
            for start in range(0, len(records), BATCH):
                await publisher.publish(records[start : start + BATCH])

        async def consume() -> None:
            seen = 0
            async for signal in source:
                seen += len(signal.deliveries) if isinstance(signal, Block) else 0
                if seen >= len(records):
                    return

        produced = await timed(produce)
        async for signal in source:
            if isinstance(signal, Assigned):  # joining a group takes a second whatever is read
                break
        return produced, await timed(consume)


def by_turns(folder: Path, address: str | None, records: list[Record], rounds: int) -> dict[str, list[Any]]:
    """What each transport took in each round: CPU and wall seconds of producing, and of consuming."""
    transports: dict[str, Any] = {"embedded": embedded}
    if address is not None:
        transports |= {client: over(client) for client in MODULES}
    found: dict[str, list[Any]] = {name: [] for name in transports}
    for _ in range(rounds):
        for name, transport in transports.items():
            found[name].append(asyncio.run(once(transport, folder, address or "", records)))
    return found


def measure(quick: bool) -> Iterator[Row]:
    events, rounds = (10_000, 2) if quick else (20_000, 5)
    with tempfile.TemporaryDirectory() as name, broker("the embedded log only") as address:
        for label, size in SIZES.items():
            records = make_records(events if size < 5000 else events // 5, size)
            yield from compared(label, len(records), by_turns(Path(name), address, records, rounds))


def compared(label: str, n: int, found: dict[str, list[Any]]) -> Iterator[Row]:
    for i, what in enumerate(("produce", "consume")):
        base = [r[i][0] for r in found["embedded"]]
        for name, results in found.items():
            about = f"{what} {label}, {name}"
            ratio = statistics.median(r[i][0] / b for r, b in zip(results, base, strict=True))
            yield row(about, statistics.median(r[i][0] for r in results) / n * 1e6, "us CPU/event")
            yield row(f"{about}: rate", n / statistics.median(r[i][1] for r in results), "events/s")
            yield row(f"{about}: CPU to the embedded log's", ratio, "x")


if __name__ == "__main__":
    sys.exit(main("transport", __doc__, measure))
