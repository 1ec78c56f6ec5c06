"""Consumer groups on a real broker: partitions move, and nothing is lost or judged twice."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kafka_broker
import pytest

from monitor.events import Checkpoint, Record
from monitor.transport.base import Assigned, Block, Leaving, Revoked
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.source import KafkaSource

pytestmark = [
    *kafka_broker.LENIENT,
    kafka_broker.ONE_QUICK,
]


class Group:
    """A topic, and members of one group that note what they are given and commit after every block."""

    def __init__(self, address: str, client: str, partitions: int = 4) -> None:
        self.name = uuid.uuid4().hex[:10]
        self.cluster = Cluster(KafkaOptions(address, client, timeout=5.0), create=True)
        self.topic, self.state = f"in-{self.name}", f"state-{self.name}"
        self.cluster.ensure(self.topic, TopicLayout(partitions, 1))
        self.cluster.ensure(self.state, TopicLayout(1, 1, compact=True))
        self.stopping: set[str] = set()
        self.seen: list[tuple[str, str, int]] = []
        self.events: list[tuple[str, Any]] = []

    def source(self, **told: Any) -> KafkaSource:
        return self.cluster.source(self.topic, self.name, self.state, warmup=0, session=6.0, **told)

    async def send(self, start: int, n: int) -> None:
        records = [Record(f"model-{i % 16}", {"ce_id": str(i)}, b"x", 0.0) for i in range(start, start + n)]
        await self.cluster.publisher(self.topic).publish(records)

    async def member(self, name: str, source: KafkaSource) -> None:
        async for signal in source:
            if isinstance(signal, Block):
                if not await source.still_ours([signal.partition]):
                    continue
                self.seen += [(name, signal.partition, delivery.offset) for delivery in signal.deliveries]
                last = signal.deliveries[-1].offset
                await source.commit({signal.partition: Checkpoint(last + 1, json.dumps({"next": last + 1}))})
            elif isinstance(signal, (Assigned, Leaving, Revoked)):
                self.events.append((name, signal))
            if name in self.stopping:  # as a worker does: after what it has in hand
                break

    @asynccontextmanager
    async def running(self, name: str, **told: Any) -> AsyncIterator[KafkaSource]:
        source = self.source(**told)
        task = asyncio.ensure_future(self.member(name, source))
        try:
            yield source
        finally:
            self.stopping.add(name)
            await asyncio.wait_for(task, 20)
            await source.close()

    def owned(self, name: str) -> set[str]:
        mine: set[str] = set()
        for who, signal in self.events:
            if who == name and isinstance(signal, Assigned):
                mine.add(signal.partition)
            if who == name and isinstance(signal, Revoked):
                mine.discard(signal.partition)
        return mine

    async def until(self, what: Any, seconds: float = 40.0) -> None:
        for _ in range(int(seconds / 0.05)):
            if what():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"did not come: {self.events}, {len(self.seen)} seen")


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 100))


@pytest.mark.parametrize("size", [10, 2000, 40_000])
def test_what_one_client_commits_the_other_reads(kafka: str, client: str, size: int) -> None:
    """In the commit as it is, compressed, and in the state topic: a group may have members of both kinds."""
    other = kafka_broker.need_client(next(name for name in kafka_broker.MODULES if name != client))
    state = json.dumps({"next": 200, "monitors": {"m": random.Random(0).randbytes(size // 2).hex()}})

    async def test() -> None:
        group = Group(kafka, client, partitions=1)
        await group.send(0, 200)
        source = group.source()
        async for signal in source:
            if isinstance(signal, Block):
                await source.commit({signal.partition: Checkpoint(200, state)})
                break
        await source.close()
        others = Cluster(KafkaOptions(kafka, other, timeout=5.0), create=True)
        heir = others.source(group.topic, group.name, group.state, warmup=0, session=6.0)
        async for signal in heir:
            if isinstance(signal, Assigned):
                assert signal.checkpoint == Checkpoint(200, state)
                break
        await heir.close()
        await others.close()
        await group.cluster.close()

    run(test())


def test_partitions_move_to_a_second_member_and_back(kafka: str, client: str) -> None:
    async def test() -> None:
        group = Group(kafka, client)
        await group.send(0, 200)
        async with group.running("one"):
            await group.until(lambda: len(group.seen) == 200)
            async with group.running("two"):
                await group.until(lambda: len(group.owned("two")) == 2 and len(group.owned("one")) == 2)
                assert not group.owned("one") & group.owned("two")
                await group.send(200, 200)
                await group.until(lambda: len(group.seen) >= 400)
                assert {who for who, _, _ in group.seen[200:]} == {"one", "two"}
            await group.until(lambda: len(group.owned("one")) == 4)
            await group.send(400, 100)
            await group.until(lambda: len(group.seen) >= 500)
        places = [place for _, *place in group.seen]
        assert len({tuple(place) for place in places}) == len(places) == 500, "each event once, none lost"
        await group.cluster.close()

    run(test())


def test_a_member_is_told_before_its_partitions_go(kafka: str, client: str) -> None:
    async def test() -> None:
        group = Group(kafka, client)
        async with group.running("one"):
            await group.until(lambda: len(group.owned("one")) == 4)
            async with group.running("two"):
                await group.until(lambda: len(group.owned("two")) == 2)
        kinds = [type(s).__name__ for who, s in group.events if who == "one"]
        assert "Leaving" in kinds
        assert kinds.index("Leaving") < kinds.index("Revoked")
        await group.cluster.close()

    run(test())


def test_a_slow_worker_keeps_its_partitions(kafka: str, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the session: the thread polls on while the worker waits for a sink."""

    async def test() -> None:
        group = Group(kafka, client, partitions=2)
        await group.send(0, 20)
        source = group.source()
        signals = source.__aiter__()
        seen = []
        async for signal in signals:
            seen.append(signal)
            if isinstance(signal, Block):
                break
        await source.pause(8.0)
        await asyncio.sleep(7.0)
        assert set(await source.still_ours([f"{group.topic}/{p}" for p in (0, 1)])) == {
            f"{group.topic}/0",
            f"{group.topic}/1",
        }
        await source.commit({seen[-1].partition: Checkpoint(1, "kept")})
        await source.close()
        await group.cluster.close()

    run(test())


def test_commits_for_partitions_of_others_are_left_out(kafka: str, client: str) -> None:
    async def test() -> None:
        group = Group(kafka, client, partitions=1)
        async with group.running("one") as one:
            await group.until(lambda: len(group.owned("one")) == 1)
            await one.commit({f"{group.topic}/0": Checkpoint(5, "a"), f"{group.topic}/7": Checkpoint(9, "b")})
            other = group.source()
            await other.commit({f"{group.topic}/0": Checkpoint(99, "intruder")})
        async with group.running("two"):
            await group.until(lambda: len(group.owned("two")) == 1)
        assert group.events[-1][1].checkpoint in (Checkpoint(0, "a"), Checkpoint(5, "a"))
        await group.cluster.close()

    run(test())


@pytest.mark.parametrize("size", [10, 3_000, 60_000, 2_500_000])
def test_a_state_of_any_size_comes_back(kafka: str, client: str, size: int) -> None:
    """Small ones with the commit, large ones through the state topic, the largest in several records."""
    import random

    state = json.dumps({"next": 5, "x": random.Random(1).randbytes(size // 2).hex()})

    async def test() -> None:
        group = Group(kafka, client, partitions=1)
        async with group.running("one") as one:
            await group.until(lambda: len(group.owned("one")) == 1)
            for text in ("first", state[:-1] + ',"y":1}', state):
                await one.commit({f"{group.topic}/0": Checkpoint(0, text)})
        async with group.running("two") as two:
            await group.until(lambda: len(group.owned("two")) == 1)
            await two.commit({f"{group.topic}/0": Checkpoint(0, "again")})
        assigned = [signal for who, signal in group.events if who == "two" and isinstance(signal, Assigned)]
        assert assigned[0].checkpoint == Checkpoint(0, state)
        await group.cluster.close()

    run(test())


def test_a_static_member_gets_its_partitions_back(kafka: str, client: str) -> None:
    async def test() -> None:
        group = Group(kafka, client)
        async with group.running("one", instance="w-1"), group.running("two", instance="w-2"):
            await group.until(lambda: len(group.owned("one")) == len(group.owned("two")) == 2)
            before = group.owned("two")
            noted = len(group.events)
        async with group.running("two again", instance="w-2"):
            await group.until(lambda: len(group.owned("two again")) >= 2)
            assert group.owned("two again") == before
        assert not any(who == "one" and isinstance(s, Assigned) for who, s in group.events[noted:])
        await group.cluster.close()

    run(test())
