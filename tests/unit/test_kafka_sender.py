"""The sending thread and the polling thread, with clients that are none: bounds, and what a fault costs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.events import Delivery, Record
from monitor.transport.base import Idle, Waiting
from monitor.transport.kafka import pump as pump_module
from monitor.transport.kafka import sender as sender_module
from monitor.transport.kafka.checkpoints import INLINE_BYTES, States, pack, unpack
from monitor.transport.kafka.port import Outcome, Refused, Sent
from monitor.transport.kafka.publisher import KafkaPublisher
from monitor.transport.kafka.pump import Pump
from monitor.transport.kafka.sender import Sender
from monitor.transport.kafka.signals import Signals
from sinks.base import Rejected, Unavailable


def record(n: int, size: int = 10) -> Record:
    return Record("k", {"n": str(n)}, b"x" * size, 0.0)


class FakeProducer:
    """Takes everything while ``open``; a batch with a record above ``limit`` is refused as a whole, as brokers do."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit, self.batches = limit, []  # type: ignore[var-annotated]
        self.open = threading.Event()
        self.open.set()

    def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        self.open.wait(10)
        if any(len(r.value or b"") > self.limit for r in records):
            return [Refused("too large")] * len(records)
        self.batches.append([r.headers["n"] for r in records])
        return [Sent(0, i) for i in range(len(records))]

    def close(self) -> None: ...


def test_what_comes_during_a_batch_goes_with_the_next() -> None:
    async def test() -> None:
        producer = FakeProducer()
        sender = Sender(lambda: producer, 1.0)
        publisher = KafkaPublisher(sender, "t", 1000)
        producer.open.clear()
        calls = [asyncio.ensure_future(publisher.publish([record(n)])) for n in range(20)]
        await asyncio.sleep(0.05)
        producer.open.set()
        await asyncio.gather(*calls)
        await sender.close()
        assert [n for batch in producer.batches for n in batch] == [str(n) for n in range(20)]
        assert len(producer.batches) <= 3

    asyncio.run(test())


def test_memory_is_bounded_while_the_brokers_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python grew by 572 MB: it knows no bound of its own."""
    monkeypatch.setattr(sender_module, "HELD_BYTES", 100_000)

    async def test() -> None:
        producer = FakeProducer()
        producer.open.clear()
        sender = Sender(lambda: producer, 0.05)
        publisher = KafkaPublisher(sender, "t", 100_000)
        calls = [asyncio.ensure_future(publisher.publish([record(n, 10_000)])) for n in range(50)]
        await asyncio.sleep(0.3)
        assert sender._held <= 100_000
        refused = [call for call in calls if call.done()]
        assert len(refused) > 35
        assert all(isinstance(call.exception(), Unavailable) for call in refused)
        producer.open.set()
        await asyncio.wait(calls)
        await sender.close()

    asyncio.run(test())


def test_one_record_that_is_too_large_is_found_in_its_batch() -> None:
    async def test() -> None:
        producer = FakeProducer(limit=100)
        sender = Sender(lambda: producer, 1.0)
        records = [record(0), record(1, 200), record(2)]
        with pytest.raises(Rejected) as raised:
            await KafkaPublisher(sender, "t", 1000).publish(records)
        await sender.close()
        assert raised.value.refused == [records[1]]
        assert producer.batches == [["0"], ["2"]]

    asyncio.run(test())


def test_a_producer_that_cannot_be_opened_is_tried_again() -> None:
    async def test() -> None:
        producer, attempts = FakeProducer(), []

        def opener() -> FakeProducer:
            attempts.append(1)
            if len(attempts) == 1:
                raise Unavailable("nobody there")
            return producer

        sender = Sender(opener, 1.0)
        publisher = KafkaPublisher(sender, "t", 1000)
        with pytest.raises(Unavailable, match="nobody there") as raised:
            await publisher.publish([record(0)])
        assert raised.value.left == [record(0)]
        await publisher.publish([record(1)])
        await sender.close()
        assert producer.batches == [["1"]]

    asyncio.run(test())


class FakeMember:
    """Has nothing to read, and says so at once, as kafka-python does where a broker is missing."""

    def __init__(self) -> None:
        self.polls = 0
        self.away = False

    def join(self, topic: str, rebalance: Any) -> None:
        rebalance.begin([0])

    def poll(self, seconds: float) -> list[tuple[int, list[Delivery]]]:
        self.polls += 1
        return []

    def positions(self) -> Mapping[int, int]:
        return {0: 5}

    def high(self, partition: int) -> int | None:
        return 5

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        if self.away and self.polls:
            raise Unavailable("no answer")
        return dict.fromkeys(partitions, 5)

    def starts(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 0)

    def committed(self, partitions: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        return {}

    def commit(self, places: Mapping[int, tuple[int, str]]) -> Future[None]:
        raise AssertionError

    def commit_now(self, places: Mapping[int, tuple[int, str]]) -> None: ...
    def seek(self, places: Mapping[int, int]) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


def signals_of(member: FakeMember, seconds: float) -> list[Any]:
    async def test() -> list[Any]:
        signals = Signals(1000)
        signals.attach(asyncio.get_running_loop())
        states = States("g/t", lambda records: [], lambda offset: None, 1000)
        pump = Pump(member, "t", states, signals, warmup=0, clock=lambda: 7.0)
        found = []

        async def take() -> None:
            while (signal := await signals.get()) is not None:
                found.append(signal)

        taking = asyncio.ensure_future(take())
        pump.start()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(pump.close, 5.0)
        await taking
        return found

    return asyncio.run(test())


def test_a_poll_that_answers_at_once_is_no_busy_loop() -> None:
    member = FakeMember()
    signals_of(member, 0.5)
    assert 1 <= member.polls <= 0.5 / pump_module.POLL_SECONDS + 2


def test_what_is_ours_may_change_while_another_thread_reads_it() -> None:
    pump = Pump(
        FakeMember(), "t", States("g/t", lambda records: [], lambda offset: None, 1000), Signals(1000), warmup=0
    )
    pump.begin([0, 1])
    reading = iter(pump.owned)
    next(reading)
    pump.begin([2])
    pump.leave([0], lost=True)
    assert len(list(reading)) == 1
    assert sorted(pump.names()) == ["t/1", "t/2"]


def test_idle_needs_the_brokers_word() -> None:
    member = FakeMember()
    assert Idle(7.0) in signals_of(member, 0.3)
    member = FakeMember()
    member.away = True
    found = signals_of(member, 0.3)
    assert Waiting() in found
    assert not any(isinstance(signal, Idle) for signal in found)


@given(st.text(max_size=3000))
def test_a_state_comes_back_from_the_text_of_a_commit(state: str) -> None:
    text = pack(json.dumps(state))
    assert text is None or (len(text) <= INLINE_BYTES and unpack(text) == json.dumps(state))


def test_a_large_state_is_stored_before_it_is_named_and_overwrites_nothing_that_a_commit_names() -> None:
    stored: dict[int, Record] = {}

    def write(records: Sequence[Record]) -> list[Outcome]:
        start = len(stored)
        stored.update({start + i: r for i, r in enumerate(records)})
        return [Sent(0, start + i) for i in range(len(records))]

    def compacted(offset: int) -> bytes | None:
        """As after a compaction: of every key, the last."""
        newest = {r.key: o for o, r in stored.items()}
        return stored[offset].value if newest[stored[offset].key] == offset else None

    def large(seed: int) -> str:
        import random

        return random.Random(seed).randbytes(20_000).hex()

    states = States("g/t", write, compacted, 4000)
    states.load(0, "")
    first = states.save(0, large(1))
    states.committed([0])
    states.save(0, large(2))  # not committed: killed before
    zombie, states = states, States("g/t", write, compacted, 4000)
    assert states.load(0, first) == large(1)
    zombie.save(0, large(3))  # thrown out of the group, and does not know it
    second = states.save(0, large(5))
    states.committed([0])
    assert States("g/t", write, compacted, 4000).load(0, second) == large(5)


class Picky(FakeProducer):
    """Refuses a batch with a bad record as a whole; is away from the ``calls``-th batch on."""

    def __init__(self, bad: set[int], calls: int = 10**9) -> None:
        super().__init__()
        self.bad, self.calls, self.taken, self.sends = bad, calls, [], 0  # type: ignore[var-annotated]

    def send(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        self.sends += 1
        numbers = [int(r.headers["n"]) for r in records]
        if self.sends > self.calls:
            return [Unavailable("away")] * len(records)
        if self.bad & set(numbers):
            return [Refused("bad")] * len(records)
        self.taken += numbers
        return [Sent(0, i) for i in range(len(records))]


def published(producer: Picky, records: Sequence[Record]) -> tuple[set[int], set[int]]:
    """Numbers of the records that are refused, and of those that are left."""

    async def go() -> tuple[set[int], set[int]]:
        sender = Sender(lambda: producer, 1.0)
        refused: Sequence[Record] = ()
        left: Sequence[Record] = ()
        try:
            await KafkaPublisher(sender, "t", 1000).publish(records)
        except Unavailable as error:
            refused, left = error.refused, error.left or ()
        except Rejected as error:
            refused = error.refused or ()
        await sender.close()
        return {int(r.headers["n"]) for r in refused}, {int(r.headers["n"]) for r in left}

    return asyncio.run(go())


@given(st.sets(st.integers(0, 19)), st.integers(1, 20), st.integers(1, 60))
def test_of_a_refused_batch_every_record_is_taken_once_refused_or_left(bad: set[int], n: int, calls: int) -> None:
    producer = Picky(bad, calls)
    refused, left = published(producer, [record(i) for i in range(n)])
    assert producer.taken == sorted(set(producer.taken)), "in order, none twice"
    assert refused <= bad
    assert not left & set(producer.taken)
    assert set(producer.taken) | refused | left == set(range(n))
    if calls > 2 * n:
        assert not left
        assert refused == bad & set(range(n))


def test_one_bad_record_among_a_thousand_costs_few_sends() -> None:
    producer = Picky({700})
    assert published(producer, [record(i) for i in range(1000)]) == ({700}, set())
    assert producer.taken == [i for i in range(1000) if i != 700]
    assert producer.sends <= 21


@pytest.mark.parametrize("text", ["z!!", "zabcde", "z\0", "s{}", 's{"at":["x"]}', "s", "s[1]"])
def test_a_note_that_cannot_be_read_is_told_and_ends_nothing(text: str, caplog: pytest.LogCaptureFixture) -> None:
    states = States("g/t", lambda records: [], lambda offset: [b"x"][offset], 1000)
    assert states.load(3, text) == ""
    assert "partition 3: windows begin anew at the committed offset" in caplog.text
    states.committed([3])
    assert states.save(3, '{"next":6}') == 'j{"next":6}'
