"""One suite over every transport: what the worker may rely on, whatever stands behind Source and Publisher.

A transport joins with a harness in ``HARNESSES``.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import kafka_broker
import pytest
import uvicorn

from monitor.events import Checkpoint, Delivery, Record
from monitor.ingest import Endpoint
from monitor.transport import log_file
from monitor.transport.base import (
    Assigned,
    Block,
    Idle,
    Publisher,
    Quiet,
    Rejected,
    Revoked,
    Source,
    Unavailable,
    Waiting,
)
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.http import HttpPublisher
from monitor.transport.kafka.checkpoints import States
from monitor.transport.kafka.connect import connect
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from monitor.transport.kafka.port import Client
from monitor.transport.kafka.publisher import KafkaPublisher
from monitor.transport.kafka.sender import Sender
from monitor.transport.kafka.source import KafkaSource
from monitor.transport.log import EmbeddedLog


class Embedded:
    """The log in a file; each role opens it for itself, as separate processes do."""

    tombstones = True
    keyless = True
    shared_groups = False
    large = 900_000

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log.db"
        self._open: list[EmbeddedLog] = []

    def log(self) -> EmbeddedLog:
        log = EmbeddedLog(self.path, warmup=0)
        self._open.append(log)
        return log

    async def create(self, partitions: int) -> None:
        self.log().create_topic("payloads", partitions)

    def publisher(self) -> Publisher:
        return EmbeddedPublisher(self.log(), "payloads", max_record_bytes=1_000_000)

    def source(self, group: str = "workers", warmup: int = 0) -> Source:
        return EmbeddedSource(self.log(), "payloads", group, warmup=warmup, poll_seconds=0.01)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody can write."""
        with sqlite3.connect(self.path) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.rollback()
        other.close()

    @contextmanager
    def not_there(self) -> Iterator[None]:
        """Nothing to connect to."""
        self.path = self.path.parent / "nowhere" / "log.db"
        yield

    def close(self) -> None:
        for log in self._open:
            log.close()


class OverHttp(Embedded):
    """Published over HTTP to a real ingest endpoint, read from the log behind it."""

    tombstones = False  # HTTP knows no body other than an empty one
    keyless = False  # the endpoint gives every event a key

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._serving: list[tuple[uvicorn.Server, threading.Thread]] = []

    def publisher(self) -> Publisher:
        app = Endpoint(super().publisher(), max_body=1_000_000).app()
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        self._serving.append((server, thread))
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        return HttpPublisher(f"http://127.0.0.1:{port}/", max_retries=1, pipeline=self.pipeline, sleep=no_sleep)

    pipeline = 1

    def close(self) -> None:
        for server, thread in self._serving:
            server.should_exit = True
            thread.join()
        super().close()


class OverPipelinedHttp(OverHttp):
    """As the sidecar does it: several requests under way on a connection."""

    pipeline = 8


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


class OverKafka:
    """A real broker; every test has a topic of its own."""

    client: str
    tombstones = True
    keyless = True
    shared_groups = True
    large = 900_000
    unreachable = "nowhere.invalid:9092"

    def __init__(self, address: str, broker: Any) -> None:
        self._broker, self._topic = broker, f"payloads-{uuid.uuid4().hex[:12]}"
        self._options = KafkaOptions(address, self.client, max_record=1_000_000, timeout=2.0)
        self._admin: Client | None = None
        self._sources: list[KafkaSource] = []
        self._senders: list[Sender] = []

    def connected(self) -> Client:
        if self._admin is None:
            self._admin = connect(self._options)
        return self._admin

    async def create(self, partitions: int) -> None:
        self.connected().create(self._topic, TopicLayout(partitions, 1))
        while self.connected().partitions(self._topic) != partitions:
            await asyncio.sleep(0.02)

    def publisher(self) -> Publisher:
        sender = Sender(lambda: self.connected().producer(), self._options.timeout)
        self._senders.append(sender)
        return Renaming(KafkaPublisher(sender, self._topic, self._options.max_record))

    def source(self, group: str = "workers", warmup: int = 0) -> Source:
        states = States("", lambda records: [], lambda offset: None, 1)
        source = KafkaSource(
            self.connected(), self._topic, f"{group}-{self._topic}", states, warmup=warmup, session=6.0, timeout=2.0
        )
        self._sources.append(source)
        return RenamingSource(source, self._topic)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The broker keeps its connections, and answers nothing."""
        if self._broker is None:
            pytest.skip("the broker of OFFPATH_TEST_KAFKA cannot be stopped from here")
        self._broker.freeze()
        try:
            yield
        finally:
            self._broker.thaw()

    @contextmanager
    def not_there(self) -> Iterator[None]:
        self._admin, self._options = None, self._options._replace(bootstrap=self.unreachable)
        yield

    def close(self) -> None:
        for source in self._sources:
            asyncio.run(source.close())
        for sender in self._senders:
            asyncio.run(sender.close())
        if self._admin is not None:
            self._admin.close()


class Renaming:
    """Publishes; here only to stand where the other publishers do."""

    def __init__(self, publisher: Publisher) -> None:
        self.publish, self.close = publisher.publish, publisher.close


class RenamingSource:
    """Calls the test's own topic ``payloads``, as all transports of this suite do."""

    def __init__(self, source: KafkaSource, topic: str) -> None:
        self._source, self._topic = source, topic
        self.pause, self.close = source.pause, source.close

    def _told(self, signal: Any) -> Any:
        if isinstance(signal, Block):
            name = signal.partition.replace(self._topic, "payloads")
            return signal._replace(
                partition=name, deliveries=tuple(d._replace(partition=name) for d in signal.deliveries)
            )
        if isinstance(signal, (Assigned, Revoked)):
            return signal._replace(partition=signal.partition.replace(self._topic, "payloads"))
        if isinstance(signal, Quiet):
            return signal._replace(partitions=tuple(p.replace(self._topic, "payloads") for p in signal.partitions))
        return signal

    async def __aiter__(self) -> AsyncIterator[Any]:
        async with aclosing(self._source.__aiter__()) as signals:
            async for signal in signals:
                yield self._told(signal)

    async def commit(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        await self._source.commit({name.replace("payloads", self._topic): c for name, c in checkpoints.items()})

    async def still_ours(self, partitions: Collection[str]) -> Collection[str]:
        ours = await self._source.still_ours({name.replace("payloads", self._topic) for name in partitions})
        return {name.replace(self._topic, "payloads") for name in ours}


class OverConfluent(OverKafka):
    client = "confluent-kafka"


class OverKafkaPython(OverKafka):
    client = "kafka-python"


HARNESSES = {"embedded": Embedded, "http": OverHttp, "pipelined": OverPipelinedHttp}
KAFKA_HARNESSES = {"confluent-kafka": OverConfluent, "kafka-python": OverKafkaPython}


pytestmark = kafka_broker.LENIENT


@pytest.fixture(params=[*HARNESSES, *KAFKA_HARNESSES])
def transport(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(log_file, "BUSY_SECONDS", 0.05)
    harness: Any
    if request.param in KAFKA_HARNESSES:
        kafka_broker.need_client(request.param)
        address = request.getfixturevalue("kafka")
        own = None if os.environ.get("OFFPATH_TEST_KAFKA") else request.getfixturevalue("kafka_server")
        harness = KAFKA_HARNESSES[request.param](address, own)
    else:
        harness = HARNESSES[request.param](tmp_path)
    yield harness
    harness.close()


def record(number: int, key: str | None = "income", value: bytes | None = None, **headers: str) -> Record:
    told = {
        "ce_id": str(number),
        "ce_source": "http://localhost:9081/",
        "ce_type": "org.kubeflow.serving.inference.request",
        "ce_specversion": "1.0",
        "content-type": "application/json",
        **headers,
    }
    if key is not None:
        told["ce_partitionkey"] = key
    return Record(key, told, b'{"n": %d}' % number if value is None else value, 1000.0 + number)


async def read(source: Source, wanted: int) -> list[Delivery]:
    """The next deliveries; fails if the transport is idle before they have come."""
    found: list[Delivery] = []
    idle = 0
    async with aclosing(source.__aiter__()) as signals:
        async for signal in signals:
            if isinstance(signal, Block):
                found.extend(signal.deliveries)
            if isinstance(signal, Idle):
                idle += 1
            if len(found) >= wanted or idle > 20:
                break
    assert len(found) >= wanted, f"only {len(found)} of {wanted} came"
    return found


async def first_signals(source: Source, wanted: Callable[[Any], bool]) -> list[Any]:
    """All signals up to the first that is wanted."""
    seen = []
    async with aclosing(source.__aiter__()) as signals:
        async for signal in signals:
            if isinstance(signal, Waiting):
                continue  # not a member of the group yet
            seen.append(signal)
            if wanted(signal):
                return seen
    raise AssertionError("the source ended")


async def joined(source: Source) -> Source:
    """The source, when its partitions are its own: nobody else's commits are taken."""
    await first_signals(source, lambda signal: isinstance(signal, Assigned))
    return source


def is_idle(signal: Any) -> bool:
    return isinstance(signal, Idle)


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test, 30)

    asyncio.run(bounded())


def ids(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.record.headers["ce_id"]) for delivery in deliveries]


def test_order_of_a_key_is_kept_and_keys_stay_in_one_partition(transport: Any) -> None:
    async def test() -> None:
        await transport.create(3)
        publisher = transport.publisher()
        sent = [record(number, f"model-{number % 5}") for number in range(60)]
        for start in range(0, 60, 7):
            await publisher.publish(sent[start : start + 7])
        found = await read(transport.source(), 60)
        await publisher.close()
        for key in range(5):
            of_key = [delivery for delivery in found if delivery.record.key == f"model-{key}"]
            assert ids(of_key) == list(range(key, 60, 5))
            assert len({delivery.partition for delivery in of_key}) == 1
        assert len({delivery.partition for delivery in found}) > 1

    run(test())


def test_offsets_of_a_partition_rise_by_one(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(10)])
        found = await read(transport.source(), 10)
        await publisher.close()
        assert [(delivery.partition, delivery.offset) for delivery in found] == [("payloads/0", n) for n in range(10)]

    run(test())


def test_a_record_arrives_as_it_was_sent(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        sent = record(1, "größe/€", b"\x00\xff\r\n", ce_metadata='{"X-Tenant":["acmé %20 \\""]}', ce_subject="日本語 x")
        await publisher.publish([sent])
        (found,) = await read(transport.source(), 1)
        await publisher.close()
        assert (found.record.key, found.record.value) == (sent.key, sent.value)
        assert found.record.headers == sent.headers

    run(test())


def test_tombstones_and_keyless_records(transport: Any) -> None:
    if not (transport.tombstones and transport.keyless):
        pytest.skip("HTTP carries neither tombstones nor records without a key")

    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([Record("k", {}, None, 0.0), Record("k", {}, b"", 0.0), Record(None, {}, b"x", 0.0)])
        found = await read(transport.source(), 3)
        assert [delivery.record[:3] for delivery in found] == [("k", {}, None), ("k", {}, b""), (None, {}, b"x")]

    run(test())


def test_a_large_record_passes_a_larger_one_is_rejected_and_the_rest_is_taken(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        batch = [record(0), record(1, value=b"x" * 1_000_001), record(2, value=b"y" * transport.large), record(3)]
        with pytest.raises(Rejected, match="larger"):
            await publisher.publish(batch)
        found = await read(transport.source(), 3)
        await publisher.close()
        assert ids(found) == [0, 2, 3]
        assert found[1].record.value == b"y" * transport.large

    run(test())


def test_every_partition_is_assigned_before_the_first_block(transport: Any) -> None:
    async def test() -> None:
        await transport.create(3)
        publisher = transport.publisher()
        await publisher.publish([record(number, f"model-{number % 5}") for number in range(20)])
        seen = await first_signals(transport.source(), is_idle)
        await publisher.close()
        assert {signal.partition for signal in seen[:3] if isinstance(signal, Assigned)} == {
            "payloads/0",
            "payloads/1",
            "payloads/2",
        }
        assert all(signal.checkpoint is None and signal.start == 0 for signal in seen[:3])
        assert not any(isinstance(signal, Assigned) for signal in seen[3:])
        for block in seen[3:-1]:
            if isinstance(block, Quiet):
                continue
            assert block.end_offset >= block.deliveries[-1].offset + 1
            assert {delivery.partition for delivery in block.deliveries} == {block.partition}

    run(test())


def test_a_committed_place_and_its_state_come_back(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(10)])
        source = transport.source()
        await read(source, 10)
        await source.commit({"payloads/0": Checkpoint(4, '{"window": "größe"}')})
        await source.close()
        again = transport.source()
        seen = await first_signals(again, lambda signal: isinstance(signal, Block))
        await publisher.close()
        assert seen[0] == Assigned("payloads/0", Checkpoint(4, '{"window": "größe"}'), 4)
        assert ids(seen[1].deliveries)[0] == 4

    run(test())


def test_what_is_not_committed_is_delivered_again(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(5)])
        source = transport.source()
        assert ids(await read(source, 5)) == [0, 1, 2, 3, 4]
        await source.close()
        assert ids(await read(transport.source(), 5)) == [0, 1, 2, 3, 4]
        await publisher.close()

    run(test())


def test_a_warm_up_begins_before_the_commit_but_not_before_the_log(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(10)])
        source = await joined(transport.source())
        await source.commit({"payloads/0": Checkpoint(7)})
        await source.close()
        for warmup, start in ((3, 4), (100, 0)):
            source = transport.source(warmup=warmup)
            seen = await first_signals(source, lambda signal: isinstance(signal, Block))
            await source.close()
            assert seen[0] == Assigned("payloads/0", Checkpoint(7), start)
            assert seen[1].deliveries[0].offset == start
        await publisher.close()

    run(test())


def test_groups_do_not_see_each_other(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(4)])
        one, other = await joined(transport.source("one")), transport.source("other")
        await one.commit({"payloads/0": Checkpoint(4)})
        assert ids(await read(other, 4)) == [0, 1, 2, 3]
        await publisher.close()

    run(test())


def test_a_second_consumer_of_the_group_is_told_until_the_first_is_closed(transport: Any) -> None:
    if transport.shared_groups:
        pytest.skip("the consumers of a group share its partitions: see tests/integration/test_kafka_group.py")

    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(1)])
        source = transport.source()
        with pytest.raises(Unavailable, match=r"workers.*held by process"):
            await read(transport.source(), 1)
        await source.close()
        assert ids(await read(transport.source(), 1)) == [1]
        await publisher.close()

    run(test())


def test_idle_comes_only_when_all_was_read_and_new_records_end_it(transport: Any) -> None:
    async def test() -> None:
        await transport.create(2)
        publisher = transport.publisher()
        await publisher.publish([record(number, f"model-{number}") for number in range(9)])
        count = idle = 0
        async for signal in transport.source():
            if isinstance(signal, Block):
                count += len(signal.deliveries)
            if isinstance(signal, Idle):
                assert count in (9, 10)
                idle += 1
                if idle == 1:
                    await publisher.publish([record(9)])
                if count == 10:
                    break
        await publisher.close()

    run(test())


def test_a_partition_without_records_is_told_of_while_others_are_busy(transport: Any) -> None:
    async def test() -> None:
        await transport.create(2)
        publisher = transport.publisher()
        busy: list[str] = []
        source = transport.source()
        async for signal in source:
            if isinstance(signal, (Block, Idle)):
                await publisher.publish([record(len(busy), "one key")])
            if isinstance(signal, Block):
                busy.append(signal.partition)
            if isinstance(signal, Quiet) and busy:
                assert {*signal.partitions, *busy} == {"payloads/0", "payloads/1"}
                assert not {*signal.partitions} & {*busy}
                assert abs(signal.now - time.time()) < 60
                break
        await source.close()
        await publisher.close()

    run(test())


def test_nothing_is_delivered_during_a_pause_and_nothing_is_lost(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher = transport.publisher()
        await publisher.publish([record(number) for number in range(3)])
        source = transport.source()
        await source.pause(3600)
        reading = asyncio.ensure_future(read(source, 3))
        done, _ = await asyncio.wait([reading], timeout=0.2)
        assert not done
        await source.pause(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert ids(await read(source, 3)) == [0, 1, 2]
        await publisher.close()

    run(test())


def test_close_ends_the_iteration(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        source = transport.source()
        signals = 0
        async for signal in source:
            signals += not isinstance(signal, Waiting)
            if isinstance(signal, Idle):
                await source.close()
        assert signals == 2

    run(test())


def test_unavailable_at_start(transport: Any) -> None:
    async def test() -> None:
        with transport.not_there():
            with pytest.raises(Unavailable, match="nowhere"):
                await read(transport.source(), 1)
            with pytest.raises(Unavailable, match="nowhere"):
                await transport.publisher().publish([record(1)])

    run(test())


def test_unavailable_later_and_back_again(transport: Any) -> None:
    async def test() -> None:
        await transport.create(1)
        publisher, source = transport.publisher(), await joined(transport.source())
        await publisher.publish([record(0)])
        with transport.away():
            with pytest.raises(Unavailable):
                await publisher.publish([record(1)])
            with pytest.raises(Unavailable):
                await source.commit({"payloads/0": Checkpoint(1)})
        await publisher.publish([record(1)])
        for patience in range(20):
            try:
                await source.commit({"payloads/0": Checkpoint(1, "kept")})
                break
            except Unavailable:  # a coordinator that was away reads its own log first
                assert patience < 19
                await asyncio.sleep(0.5)
        found = ids(await read(source, 1))
        assert set(found) == {1}, "perhaps twice: what was not acknowledged may have arrived all the same"
        await publisher.close()

    run(test())
