"""Faults of the clients, each shown to be worked around, and limits: on a real broker."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import kafka_broker
import pytest

from monitor.events import Delivery, Record
from monitor.transport.base import Block, Idle
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.source import KafkaSource
from monitor.transport.murmur2 import partition_of
from sinks.base import Rejected, Unavailable

pytestmark = kafka_broker.LENIENT


def opened(address: str, client: str, **told: Any) -> tuple[Cluster, str]:
    cluster = Cluster(KafkaOptions(address, client, timeout=3.0)._replace(**told), create=True)
    return cluster, f"t-{uuid.uuid4().hex[:10]}"


def source(cluster: Cluster, topic: str, **told: Any) -> KafkaSource:
    states = States("", lambda records: [], lambda offset: None, 1)
    return KafkaSource(cluster._client, topic, f"g-{topic}", states, warmup=0, session=6.0, **told)


async def read(from_: KafkaSource, wanted: int) -> list[Delivery]:
    found: list[Delivery] = []
    async for told in from_:
        if isinstance(told, Block):
            found += told.deliveries
        if len(found) >= wanted or (found and isinstance(told, Idle)):
            break
    await from_.close()
    return found


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 90))


def test_an_unknown_topic_is_told_in_time_and_blocks_nobody(kafka: str, client: str) -> None:
    """kafka-python's ``send`` blocks for a minute where a topic's place is unknown."""

    async def test() -> None:
        cluster, topic = opened(kafka, client)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        ticking = asyncio.ensure_future(others())
        with pytest.raises(Unavailable, match=topic):
            await cluster.publisher(topic).publish([Record("k", {}, b"x", 0.0)])
        ticking.cancel()
        assert turns > 20, "the event loop went on"
        await cluster.close()

    run(test())


def test_a_record_that_the_broker_finds_too_large_harms_no_other(kafka: str, client: str) -> None:
    """An idempotent producer of kafka-python 3.0.12 sends nothing any more after one."""

    async def test() -> None:
        cluster, topic = opened(kafka, client, max_record=10_000)
        cluster.ensure(topic, TopicLayout(1, 1))
        await cluster.close()
        cluster, _ = opened(kafka, client)  # believes that a megabyte passes
        publisher = cluster.publisher(topic)
        small, large = [Record("k", {"n": str(i)}, b"x", 0.0) for i in range(4)], Record("k", {}, b"y" * 50_000, 0.0)
        with pytest.raises(Rejected) as raised:
            await publisher.publish([small[0], small[1], large, small[2]])
        assert raised.value.refused == [large]
        await publisher.publish([small[3]])
        found = await read(source(cluster, topic), 4)
        assert sorted(delivery.record.headers["n"] for delivery in found) == ["0", "1", "2", "3"]
        await cluster.close()

    run(test())


def test_what_was_fetched_before_a_pause_is_not_lost(kafka: str, client: str) -> None:
    """kafka-python loses it where some partitions are paused: here all are, whenever the buffer is full."""

    async def test() -> None:
        cluster, topic = opened(kafka, client)
        cluster.ensure(topic, TopicLayout(3, 1))
        sent = [Record(f"m{i % 9}", {"n": str(i)}, b"x" * 2000, 0.0) for i in range(6000)]
        await cluster.publisher(topic).publish(sent)
        slow = source(cluster, topic, buffer_bytes=1_000_000)
        found: list[Delivery] = []
        async for told in slow:
            if isinstance(told, Block):
                found += told.deliveries
                await asyncio.sleep(0.01)
            if len(found) >= 6000:
                break
        await slow.close()
        assert sorted(int(delivery.record.headers["n"]) for delivery in found) == list(range(6000))
        await cluster.close()

    run(test())


def test_five_megabytes_pass_where_they_may(kafka: str, client: str) -> None:
    async def test() -> None:
        cluster, topic = opened(kafka, client, max_record=6_000_000)
        cluster.ensure(topic, TopicLayout(1, 1))
        large = Record("k", {"ce_id": "1"}, bytes(5_000_000), 0.0)
        await cluster.publisher(topic).publish([large])
        with pytest.raises(Rejected, match=r"6000100 bytes.*transport\.max_record"):
            await cluster.publisher(topic).publish([large._replace(headers={}, value=bytes(6_000_100 - 71))])
        (found,) = await read(source(cluster, topic), 1)
        assert found.record[:3] == large[:3]
        await cluster.close()

    run(test())


def test_keys_land_as_those_of_the_embedded_log(kafka: str, client: str) -> None:
    async def test() -> None:
        cluster, topic = opened(kafka, client)
        cluster.ensure(topic, TopicLayout(5, 1))
        keys = [f"namespace/modèle-{i}" for i in range(40)]
        await cluster.publisher(topic).publish([Record(key, {}, b"x", 0.0) for key in keys])
        found = await read(source(cluster, topic), 40)
        assert {d.record.key: d.partition for d in found} == {key: f"{topic}/{partition_of(key, 5)}" for key in keys}
        await cluster.close()

    run(test())
