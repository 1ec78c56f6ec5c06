"""Topics on brokers that make them by themselves, which is Kafka's default."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import kafka_broker
import pytest

from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.connect import connect
from monitor.transport.kafka.options import KafkaOptions, TopicLayout

pytestmark = kafka_broker.LENIENT


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kafka_broker.need()
    making = {"auto.create.topics.enable": "true", "num.partitions": "3"}
    broker = kafka_broker.Broker(tmp_path_factory.mktemp("making"), making).start()
    yield broker.address
    broker.kill()


def test_a_topic_has_the_layout_that_is_asked_for(address: str, client: str) -> None:
    cluster = Cluster(KafkaOptions(address, client, timeout=10.0), create=True)
    looking = connect(KafkaOptions(address, client))
    for i in range(3):
        cluster.ensure(f"{client}-{i}", TopicLayout(5, 1))
        assert looking.partitions(f"{client}-{i}") == 5
    looking.close()
    asyncio.run(cluster.close())


def test_looking_for_a_topic_makes_none(address: str, client: str) -> None:
    topic = uuid.uuid4().hex
    looking = connect(KafkaOptions(address, client, timeout=5.0))
    assert [looking.partitions(topic) for _ in range(3)] == [0, 0, 0]
    looking.close()
