"""One bad record in a batch costs no other: neither lost nor repeated, on a real broker and with both clients."""

from __future__ import annotations

import asyncio
import time
import uuid

import kafka_broker
import pytest

from monitor.capture.delivering import deliver
from monitor.events import Delivery, Record
from monitor.transport.base import Block
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.options import KafkaOptions
from monitor.transport.kafka.source import KafkaSource

pytestmark = kafka_broker.LENIENT


@pytest.fixture
def topic(kafka: str) -> str:
    """Made by somebody else: with Kafka's own defaults, and small records."""
    admin = pytest.importorskip("kafka.admin", reason='pip install "offpath[kafka]"')
    name = f"t-{uuid.uuid4().hex[:10]}"
    known = admin.KafkaAdminClient(bootstrap_servers=kafka)
    known.create_topics([admin.NewTopic(name, 1, 1, topic_configs=CONFIGS)])
    known.close()
    return name


CONFIGS = {"cleanup.policy": "compact", "max.message.bytes": "20000"}


def record(n: int) -> Record:
    return Record("k", {"n": str(n)}, b"x" * 100, time.time())


BAD = {
    "no key, where the topic is compacted": record(-1)._replace(key=None),
    "a time that the brokers do not take": record(-2)._replace(timestamp=time.time() + 90 * 86400),
    "larger than the brokers take": record(-3)._replace(value=b"y" * 50_000),
    "larger than the settings allow": record(-4)._replace(value=b"y" * 200_000),
}


async def read(cluster: Cluster, topic: str, wanted: int) -> list[Delivery]:
    states = States("", lambda records: [], lambda offset: None, 1)
    source = KafkaSource(cluster._client, topic, f"g-{topic}", states, warmup=0, session=6.0)
    found: list[Delivery] = []
    async for told in source:
        found += told.deliveries if isinstance(told, Block) else ()
        if len(found) >= wanted:
            break
    await source.close()
    return found


def test_the_others_arrive_once_and_in_order(kafka: str, client: str, topic: str) -> None:
    async def test() -> None:
        cluster = Cluster(KafkaOptions(kafka, client, max_record=100_000, timeout=5.0), create=False)
        publisher = cluster.publisher(topic)
        sent = [record(n) for n in range(40)]
        start = 0
        for bad in BAD.values():
            batch = [*sent[start : start + 5], bad, *sent[start + 5 : start + 9]]
            start += 9
            outcome = await deliver(publisher, batch)
            assert (list(outcome.refused), list(outcome.left)) == ([bad], []), outcome
        outcome = await deliver(publisher, [*BAD.values(), *sent[start:]])
        assert (list(outcome.refused), list(outcome.left)) == (list(BAD.values()), []), outcome
        found = await read(cluster, topic, len(sent))
        assert [int(delivery.record.headers["n"]) for delivery in found] == list(range(40))
        await cluster.close()

    asyncio.run(asyncio.wait_for(test(), 90))
