"""One suite over every transport: what the worker may rely on, whatever stands behind Source and Publisher.

A transport joins with a harness in ``HARNESSES``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from monitor.events import Checkpoint, Delivery, Record
from monitor.ingest import create_app
from monitor.transport import log_file
from monitor.transport.base import Assigned, Block, Idle, Publisher, Rejected, Source, Unavailable
from monitor.transport.embedded import EmbeddedPublisher, EmbeddedSource
from monitor.transport.http import HttpPublisher
from monitor.transport.log import EmbeddedLog


class Embedded:
    """The log in a file; each role opens it for itself, as separate processes do."""

    tombstones = True
    keyless = True
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
        app = create_app(super().publisher(), max_body=1_000_000)
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


HARNESSES = {"embedded": Embedded, "http": OverHttp, "pipelined": OverPipelinedHttp}


@pytest.fixture(params=HARNESSES)
def transport(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(log_file, "BUSY_SECONDS", 0.05)
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
            if len(found) >= wanted or idle > 100:
                break
    assert len(found) >= wanted, f"only {len(found)} of {wanted} came"
    return found


async def first_signals(source: Source, wanted: Callable[[Any], bool]) -> list[Any]:
    """All signals up to the first that is wanted."""
    seen = []
    async with aclosing(source.__aiter__()) as signals:
        async for signal in signals:
            seen.append(signal)
            if wanted(signal):
                return seen
    raise AssertionError("the source ended")


def is_idle(signal: Any) -> bool:
    return isinstance(signal, Idle)


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test, 60)

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
        await publisher.publish([Record(None, {}, None, 0.0), Record("k", {}, b"", 0.0)])
        found = await read(transport.source(), 2)
        assert [delivery.record[:3] for delivery in found] == [(None, {}, None), ("k", {}, b"")]

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
        source = transport.source()
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
        one, other = transport.source("one"), transport.source("other")
        await one.commit({"payloads/0": Checkpoint(4)})
        assert ids(await read(other, 4)) == [0, 1, 2, 3]
        await publisher.close()

    run(test())


def test_a_second_consumer_of_the_group_is_told_until_the_first_is_closed(transport: Any) -> None:
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
            signals += 1
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
        publisher, source = transport.publisher(), transport.source()
        await publisher.publish([record(0)])
        with transport.away():
            with pytest.raises(Unavailable):
                await publisher.publish([record(1)])
            with pytest.raises(Unavailable):
                await source.commit({"payloads/0": Checkpoint(1)})
        await publisher.publish([record(1)])
        await source.commit({"payloads/0": Checkpoint(1, "kept")})
        assert ids(await read(source, 1)) == [1]
        await publisher.close()

    run(test())
