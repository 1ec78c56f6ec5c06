"""Three brokers, one of which dies: nothing is lost, and nobody spins."""

from __future__ import annotations

import asyncio
import time
import uuid

import kafka_broker
import pytest
from kafka_broker import Broker

from monitor.events import Record
from monitor.transport.base import Block
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.source import KafkaSource
from sinks.base import Unavailable

pytestmark = [
    pytest.mark.slow,
    *kafka_broker.LENIENT,
]


async def produce(cluster: Cluster, topic: str, numbers: range) -> None:
    """One record after another, each until it is taken."""
    for n in numbers:
        record = Record(f"model-{n % 6}", {"n": str(n)}, b"x", 0.0)
        while True:
            try:
                await cluster.publisher(topic).publish([record])
                break
            except Unavailable:
                await asyncio.sleep(0.1)


async def consume(source: KafkaSource, found: dict[str, list[int]]) -> None:
    async for signal in source:
        for delivery in signal.deliveries if isinstance(signal, Block) else ():
            found.setdefault(delivery.record.key or "", []).append(int(delivery.record.headers["n"]))


def test_a_broker_dies_and_comes_back(kafka_cluster: list[Broker], client: str) -> None:
    """kafka-python is known to ask a missing broker without a pause: whatever it does, its polls are paced here."""
    addresses = ",".join(broker.address for broker in kafka_cluster)

    async def test() -> None:
        cluster = Cluster(KafkaOptions(addresses, client, timeout=10.0), create=True)
        topic = f"t-{uuid.uuid4().hex[:8]}"
        cluster.ensure(topic, TopicLayout(3, 3))
        cluster.ensure(f"{topic}-state", TopicLayout(1, 3, compact=True))
        source = cluster.source(topic, topic, f"{topic}-state", warmup=0, session=6.0)
        found: dict[str, list[int]] = {}

        reading = asyncio.ensure_future(consume(source, found))
        await produce(cluster, topic, range(300))
        dying = kafka_cluster[0]
        dying.kill()
        cpu, wall = time.process_time(), time.monotonic()
        await produce(cluster, topic, range(300, 600))
        await asyncio.sleep(5.0)
        share = (time.process_time() - cpu) / (time.monotonic() - wall)
        await asyncio.to_thread(dying.start)
        await produce(cluster, topic, range(600, 900))
        for _ in range(200):
            if sum(len(set(numbers)) for numbers in found.values()) == 900:
                break
            await asyncio.sleep(0.1)
        await source.close()
        await reading
        await cluster.close()
        print(f"{client}: CPU share with a broker missing {share:.2f}")
        assert sorted({n for numbers in found.values() for n in numbers}) == list(range(900))
        for numbers in found.values():
            firsts = list(dict.fromkeys(numbers))
            assert firsts == sorted(firsts), "the first delivery of each keeps the key's order"

    asyncio.run(asyncio.wait_for(test(), 150))
