"""Through each transport: events per second, and CPU per event as a ratio to the embedded log.

    python benchmarks/transport.py [--quick] [--json]

The embedded log, confluent-kafka and kafka-python take turns in one run, with records of 1 KB and 20 KB and six
headers, keyed, in batches of 500, by our own publishers and sources. Producing and consuming are measured apart, then
end to end: published while a worker reads, decodes, judges and commits. CPU is this process's, all of its threads; the
brokers' is not in it. Kafka is looked for as the tests do (KAFKA_HOME, or OFFPATH_TEST_KAFKA); without one, only the
embedded log is measured.
"""

from __future__ import annotations

import asyncio
import gc
import logging
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

import numpy as np
import orjson
from report import Row, main, row
from traffic.kafka import broker

from detectors import artifact
from detectors.drift.ks import KSDrift
from monitor import wiring
from monitor.events import Record
from monitor.settings import Settings
from monitor.transport.base import Assigned, Block, Publisher, Source
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.connect import MODULES
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.log import EmbeddedLog

BATCH = 500
SIZES = {"1 KB": 1000, "20 KB": 20_000}
STAGES = ("produce", "consume", "end to end")
MODELS = [f"model-{i}" for i in range(8)]


def make_records(n: int, size: int) -> list[Record]:
    body = os.urandom(size)  # does not compress, as little as payloads of numbers do
    told = {
        "ce_specversion": "1.0", "ce_source": "http://income:9081/", "ce_time": "2026-01-01T00:00:00Z",
        "ce_type": "org.kubeflow.serving.inference.request", "content-type": "application/json",
    }  # fmt: skip
    return [Record(f"default/{MODELS[i % 8]}", {**told, "ce_id": str(i)}, body, 0.0) for i in range(n)]


def with_rows(records: list[Record]) -> list[Record]:
    """The same, each naming its model, with a body of about as many bytes in rows of four numbers."""
    rows = len(records[0].value or b"") // 60
    rng = np.random.default_rng(0)
    bodies = [orjson.dumps({"instances": rng.normal(size=(rows, 4)).round(10).tolist()}) for _ in range(BATCH)]
    return [
        record._replace(headers={**record.headers, "ce_modelid": MODELS[i % 8]}, value=bodies[i % BATCH])
        for i, record in enumerate(records)
    ]


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


def configured(folder: Path, transport: dict[str, Any]) -> Settings:
    """A drift monitor on each model."""
    run = uuid.uuid4().hex[:8]
    if not (folder / "drift").exists():
        artifact.save(KSDrift(p_val=1e-9).fit(np.random.default_rng(1).normal(size=(1000, 4))), folder / "drift")
    detector = {"type": "KSDrift", "artifact": str(folder / "drift")}
    topics = {"topic": f"w-{run}", "dead_letters": f"w-{run}-dead", "state": f"w-{run}-state"}
    own = {"path": str(folder / f"{run}.db")} if not transport else {**topics, "partitions": 3, **transport}
    return Settings.model_validate({
        "models": [{"name": name} for name in MODELS],
        "monitors": [
            {"name": name, "model": name, "window": {"count": 1000}, "detector": detector} for name in MODELS
        ],
        "transport": own,
        "sinks": [{"type": "store", "path": str(folder / f"{run}-findings.db")}, {"type": "prometheus"}],
        "worker": {"group": run},
    })  # fmt: skip


async def end_to_end(settings: Settings, records: list[Record]) -> tuple[float, float]:
    """Published while a worker reads, judges and commits, in this process: until the last event is judged."""
    assembly, transport = wiring.build(settings), wiring.open_transport(settings)
    publisher = transport.publisher(settings.transport.topic)
    working = asyncio.ensure_future(assembly.run())

    def seen() -> float:
        labels = [{"namespace": "default", "model": model, "side": "request"} for model in MODELS]
        return sum(assembly.registry.get_sample_value("offpath_events_total", told) or 0.0 for told in labels)

    async def until_seen(n: int) -> None:
        while seen() < n and not working.done():
            await asyncio.sleep(0.02)

    async def publish() -> None:
        for start in range(0, len(records), BATCH):
            await publisher.publish(records[start : start + BATCH])
        await until_seen(len(records) + 1)

    await publisher.publish([records[0]._replace(headers={**records[0].headers, "ce_id": "first"})])
    await until_seen(1)  # it has joined its group
    spent = await timed(publish)
    assembly.stop()
    await working
    await assembly.close()
    await transport.close()
    return spent


def by_turns(folder: Path, address: str | None, records: list[Record], rounds: int) -> dict[str, list[Any]]:
    """What each transport took in each round: CPU and wall seconds of each stage."""
    transports: dict[str, Any] = {"embedded": embedded}
    if address is not None:
        transports |= {client: over(client) for client in MODULES}
    found: dict[str, list[Any]] = {name: [] for name in transports}
    rows = with_rows(records)
    for _ in range(rounds):
        for name, transport in transports.items():
            told = {} if name == "embedded" else {"type": "kafka", "client": name, "bootstrap": address}
            apart = asyncio.run(once(transport, folder, address or "", records))
            found[name].append((*apart, asyncio.run(end_to_end(configured(folder, told), rows))))
    return found


def measure(quick: bool) -> Iterator[Row]:
    logging.disable(logging.WARNING)
    events, rounds = (10_000, 2) if quick else (20_000, 5)
    with tempfile.TemporaryDirectory() as name, broker("the embedded log only") as address:
        for label, size in SIZES.items():
            records = make_records(events if size < 5000 else events // 5, size)
            yield from compared(label, len(records), by_turns(Path(name), address, records, rounds))


def compared(label: str, n: int, found: dict[str, list[Any]]) -> Iterator[Row]:
    for i, what in enumerate(STAGES):
        base = [r[i][0] for r in found["embedded"]]
        for name, results in found.items():
            about = f"{what} {label}, {name}"
            ratio = statistics.median(r[i][0] / b for r, b in zip(results, base, strict=True))
            yield row(about, statistics.median(r[i][0] for r in results) / n * 1e6, "us CPU/event")
            yield row(f"{about}: rate", n / statistics.median(r[i][1] for r in results), "events/s")
            yield row(f"{about}: CPU to the embedded log's", ratio, "x")


if __name__ == "__main__":
    sys.exit(main("transport", __doc__, measure))
