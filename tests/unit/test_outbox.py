"""Events to their receiver, with and without the disk in between: order, counts, bounds, damage."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.capture import orphans as orphans_module
from monitor.capture import outbox as outbox_module
from monitor.capture import shelf as shelf_module
from monitor.capture.delivering import deliver
from monitor.capture.metrics import METRICS, Counters, sample
from monitor.capture.orphans import Adoption, orphans
from monitor.capture.outbox import Outbox
from monitor.capture.plan import MOST_WORKERS
from monitor.capture.quiet import Quiet
from monitor.capture.shelf import Shelf
from monitor.capture.spool import RECORD_BYTES, Spool
from monitor.settings import CaptureSettings
from monitor.transport.base import Record, Rejected, Unavailable
from monitor.transport.log import EmbeddedLog


class Receiver:
    """A publisher that is away, or refuses, when told so. ``tells``: it says which records it is about."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.away = False
        self.tells = True
        self.refused: frozenset[str] = frozenset()
        self.busy_with: frozenset[str] = frozenset()
        self.attempts = 0
        self.retry_after = 0.0
        self.gate: asyncio.Event | None = None
        self.closed = asyncio.Event()

    async def publish(self, records: Sequence[Record]) -> None:
        self.attempts += 1
        if self.gate is not None:
            waits = [asyncio.ensure_future(event.wait()) for event in (self.gate, self.closed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if self.away or self.closed.is_set():
            raise Unavailable("away", retry_after=self.retry_after)
        names = [(r, r.headers["ce_id"]) for r in records]
        left = [r for r, name in names if name in self.busy_with]
        refused = [r for r, name in names if name in self.refused]
        self.got += [name for _, name in names if name not in self.refused | self.busy_with]
        if left:
            raise Unavailable("busy", left=left, refused=refused)
        if refused:
            raise Rejected("refused", refused=refused if self.tells else None)

    async def close(self) -> None:
        self.closed.set()


def record(number: int, size: int = 10, timestamp: float = 0.0) -> Record:
    return Record("m", {"ce_id": str(number)}, bytes(size), timestamp)


def dropped(counters: Counters, reason: str) -> int:
    return counters[sample("dropped_events_total", reason=reason)]


class Scene:
    """An outbox with all that belongs to it."""

    def __init__(self, folder: Path, limit: int, spool_limit: int, **spool: Any) -> None:
        self.path = folder / "spool.db"
        self.receiver, self.counters, self.settled = Receiver(), Counters(), list[int]()
        self.shelf = Shelf(self.path, lambda lost: Spool(self.path, spool_limit, lost=lost, **spool), self.counters)
        self.outbox = Outbox(self.receiver, self.shelf, self.counters, limit=limit, settled=self.settled.append)

    async def put(self, *numbers: int, size: int = 10) -> None:
        for number in range(*numbers):
            self.outbox.put(record(number, size))
            await asyncio.sleep(0)

    def accounted(self, accepted: int) -> None:
        """Everything is published, dropped and counted, or waits."""
        lost = sum(value for name, value in self.counters.items() if "dropped_events" in name)
        assert self.counters[sample("published_total")] + lost + len(self.shelf) == accepted
        assert self.settled == sorted(self.settled)
        assert set(self.counters) <= {name for metric in METRICS for name in metric.samples}


Act = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(outbox_module, "LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(outbox_module, "SLOW_SECONDS", 0.02)
    monkeypatch.setattr(outbox_module, "SPILL_SECONDS", 0.005)
    monkeypatch.setattr(shelf_module, "PAUSE", 0.02)

    def run(act: Act, limit: int = 10_000_000, spool_limit: int = 10_000_000, **spool: Any) -> None:
        async def main() -> None:
            scene = Scene(tmp_path, limit, spool_limit, **spool)
            try:
                await asyncio.wait_for(act(scene), 60)
            finally:
                scene.shelf.close()

        asyncio.run(main())

    return run


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def names(*numbers: int) -> list[str]:
    return [str(number) for number in range(*numbers)]


def test_records_are_published_in_order(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.outbox.start()
        for number in range(1000):
            scene.outbox.put(record(number))
        await scene.outbox.close(60)
        assert scene.receiver.got == names(1000)
        assert scene.counters[sample("published_total")] == 1000
        assert scene.counters[sample("spooled_total")] == 0
        assert scene.settled[-1] == 1000

    play(act)


def test_an_absent_receiver_gets_everything_later(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.away = True
        scene.outbox.start()
        await scene.put(300)
        await until(lambda: len(scene.shelf) == 300)
        assert scene.counters[sample("spool_events")] == 300
        assert scene.settled[-1] == 300
        scene.receiver.away = False
        await until(lambda: len(scene.receiver.got) == 300)
        scene.outbox.put(record(300))
        await scene.outbox.close(60)
        assert scene.receiver.got == names(301)
        assert scene.counters[sample("spooled_total")] == 300
        assert scene.counters[sample("spool_events")] == 0
        scene.accounted(301)

    play(act)


def test_a_slow_receiver_fills_the_disk_not_the_memory(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        scene.outbox.put(record(0))
        await until(lambda: scene.receiver.attempts == 1)
        for number in range(1, 400):
            scene.outbox.put(record(number))
        assert scene.outbox._bytes <= 50 * RECORD_BYTES
        assert len(scene.shelf) > 300
        scene.receiver.gate.set()
        await scene.outbox.close(60)
        assert scene.receiver.got == names(400)
        scene.accounted(400)

    play(act, limit=50 * RECORD_BYTES)


def test_what_is_under_way_for_long_is_on_disk_and_leaves_it_when_it_is_taken(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        await scene.put(5)
        await until(lambda: len(scene.shelf) == 5)
        assert scene.settled[-1] == 5, "a shipper that dies now loses nothing"
        scene.receiver.gate.set()
        await until(lambda: len(scene.shelf) == 0)
        assert scene.receiver.got == names(5), "once each"
        scene.accounted(5)
        await scene.outbox.close(60)

    play(act)


def test_beyond_the_spool_the_oldest_go_and_are_counted(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.away = True
        scene.outbox.start()
        await scene.put(500, size=1000)
        await until(lambda: scene.counters[sample("spooled_total")] == 500)
        scene.receiver.away = False
        await scene.outbox.close(60)
        went = dropped(scene.counters, "spool_full")
        assert went > 0
        assert scene.receiver.got == names(went, 500)
        scene.accounted(500)

    play(act, spool_limit=200_000)


def test_what_goes_for_want_of_room_while_it_is_published_is_counted_once(play: Callable[..., None]) -> None:
    """The batch under way is trimmed from the spool; that it arrives all the same must not cost younger ones."""

    async def act(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        await scene.put(100, size=1000)
        await until(lambda: len(scene.shelf) == 100)
        for number in range(100, 400):
            scene.outbox.put(record(number, 1000))
        scene.outbox._spill()
        assert dropped(scene.counters, "spool_full") > 0
        scene.receiver.gate.set()
        await scene.outbox.close(60)
        went = dropped(scene.counters, "spool_full")
        assert len(scene.receiver.got) == len(set(scene.receiver.got)) == 400 - went
        assert names(399, 400) == scene.receiver.got[-1:]
        scene.accounted(400)

    play(act, spool_limit=200_000)


def test_the_same_when_the_receiver_does_not_take_the_batch(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        await scene.put(100, size=1000)
        await until(lambda: len(scene.shelf) == 100)
        for number in range(100, 400):
            scene.outbox.put(record(number, 1000))
        scene.outbox._spill()
        scene.receiver.away = True
        scene.receiver.gate.set()
        await until(lambda: scene.receiver.attempts > 3)
        scene.accounted(400)
        scene.receiver.away = False
        await scene.outbox.close(60)
        assert scene.receiver.got == names(dropped(scene.counters, "spool_full"), 400)
        scene.accounted(400)

    play(act, spool_limit=200_000)


def test_what_is_too_old_goes_and_is_counted(play: Callable[..., None]) -> None:
    now = [1000.0]

    async def act(scene: Scene) -> None:
        scene.receiver.away = True
        scene.outbox.start()
        for number in range(300):
            scene.outbox.put(record(number, timestamp=1000.0 + number))
        await until(lambda: len(scene.shelf) == 300)
        assert dropped(scene.counters, "expired") == 0
        now[0] = 1000.0 + 60 + 290
        await until(lambda: dropped(scene.counters, "expired") == 290)
        assert len(scene.shelf) == 10
        scene.receiver.away = False
        await scene.outbox.close(60)
        assert scene.receiver.got == names(290, 300)
        scene.accounted(300)

    play(act, age=60.0, clock=lambda: now[0])


@pytest.mark.parametrize("tells", [True, False])
def test_refused_records_hold_up_nothing(play: Callable[..., None], tells: bool) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.refused, scene.receiver.tells = frozenset({"3", "7"}), tells
        for number in range(10):
            scene.outbox.put(record(number))
        scene.outbox.start()
        await scene.outbox.close(60)
        assert set(scene.receiver.got) == set(names(10)) - {"3", "7"}
        assert tells == (len(scene.receiver.got) == 8), "twice only where the publisher does not say which"
        assert dropped(scene.counters, "rejected") == 2
        scene.accounted(10)

    play(act)


def test_a_record_that_is_never_taken_holds_up_nothing(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.busy_with, scene.receiver.refused = frozenset({"3"}), frozenset({"5"})
        scene.outbox.start()
        await scene.put(600)
        await until(lambda: len(scene.receiver.got) == 598)
        assert sorted(scene.receiver.got) == sorted(set(names(600)) - {"3", "5"}), "once each"
        scene.accounted(600)
        scene.receiver.busy_with = frozenset()
        await scene.outbox.close(60)
        assert scene.receiver.got[-1] == "3"
        assert len(scene.shelf) == 0
        scene.accounted(600)

    play(act)


def test_a_receiver_is_left_alone_as_long_as_it_asks(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.away, scene.receiver.retry_after = True, 30.0
        scene.outbox.start()
        await scene.put(10)
        await until(lambda: len(scene.shelf) == 10)
        await scene.put(10, 20)
        await until(lambda: len(scene.shelf) == 20)
        assert scene.receiver.attempts == 1
        await scene.outbox.close(0.05)
        assert len(scene.shelf) == 20

    play(act)


def test_what_is_left_at_the_end_waits_on_disk(play: Callable[..., None]) -> None:
    async def first(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()  # it hangs
        scene.outbox.start()
        for number in range(20):
            scene.outbox.put(record(number))
        await scene.outbox.close(0.05)
        assert len(scene.shelf) == 20
        scene.accounted(20)

    async def second(scene: Scene) -> None:
        scene.outbox.start()
        scene.outbox.put(record(20))
        await scene.outbox.close(60)
        assert scene.receiver.got == names(21)

    play(first)
    play(second)


def test_without_a_spool_memory_is_the_bound() -> None:
    async def main() -> None:
        receiver, counters = Receiver(), Counters()
        receiver.away = True
        outbox = Outbox(receiver, None, counters, limit=20 * RECORD_BYTES)
        outbox.start()
        for number in range(100):
            outbox.put(record(number))
            await asyncio.sleep(0)
        await outbox.close(0.01)
        assert dropped(counters, "spool_unavailable") > 0
        assert dropped(counters, "shutdown") > 0
        assert dropped(counters, "spool_unavailable") + dropped(counters, "shutdown") == 100

    asyncio.run(main())


def test_a_disk_that_takes_nothing_leaves_memory_and_counts(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("no space is left on its disk")

    async def act(scene: Scene) -> None:
        scene.receiver.away = True
        monkeypatch.setattr(EmbeddedLog, "append", full)
        scene.outbox.start()
        await scene.put(100)
        await until(lambda: dropped(scene.counters, "spool_unavailable") > 0)
        assert scene.outbox._bytes <= 20 * RECORD_BYTES
        scene.receiver.away = False
        await scene.outbox.close(60)
        went = dropped(scene.counters, "spool_unavailable")
        assert scene.receiver.got == names(went, 100)
        scene.accounted(100)
        said = [entry.message for entry in caplog.records if "no space" in entry.message]
        assert len(said) == 1, "not once an event"

    play(act, limit=20 * RECORD_BYTES)


def test_a_disk_that_comes_back_is_used_again(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    append = EmbeddedLog.append

    def full(*_: object) -> None:
        raise Unavailable("no space is left on its disk")

    async def act(scene: Scene) -> None:
        scene.receiver.away = True
        monkeypatch.setattr(EmbeddedLog, "append", full)
        scene.outbox.start()
        await scene.put(10)
        await until(lambda: scene.shelf.resting)
        monkeypatch.setattr(EmbeddedLog, "append", append)
        await until(lambda: len(scene.shelf) == 10)
        scene.receiver.away = False
        await scene.outbox.close(60)
        assert scene.receiver.got == names(10)

    play(act)


def test_a_damaged_spool_is_set_aside(
    play: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And so is the next one, elsewhere."""
    contents = (bytes(9000), b"SQLite format 3\0" + b"\xff" * 5000)
    asides = (tmp_path / "spool.db.damaged", tmp_path / "spool.db.damaged.1")
    for content, aside in zip(contents, asides, strict=True):
        (tmp_path / "spool.db").write_bytes(content)

        async def act(scene: Scene) -> None:
            scene.receiver.away = True
            scene.outbox.start()
            await scene.put(10)
            await until(lambda: len(scene.shelf) == 10)
            scene.receiver.away = False
            await scene.outbox.close(60)
            assert scene.receiver.got == names(10)

        play(act)
        assert f"is damaged (file is not a database): it is now {aside}, and a new one is begun" in caplog.text
        assert "move it away" not in caplog.text
    assert [aside.read_bytes() for aside in asides] == list(contents)


def test_not_every_damaged_spool_is_kept(play: Callable[..., None], tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.outbox.start()
        await scene.outbox.close(60)

    for number in range(12):
        (tmp_path / "spool.db").write_bytes(b"SQLite format 3\0" + b"%2d" % number * 2000)
        play(act)
    kept = {path.name: path.read_bytes()[16:18] for path in tmp_path.glob("*.damaged*")}
    assert len(kept) == 10
    assert (kept["spool.db.damaged"], kept["spool.db.damaged.8"], kept["spool.db.damaged.9"]) == (b" 0", b" 8", b"11")


def test_a_file_of_somebody_elses_is_left_alone(play: Callable[..., None], tmp_path: Path) -> None:
    """What waits then, waits in memory."""
    content = b"root:x:0:0:root:/root:/bin/bash\n" * 40
    (tmp_path / "spool.db").write_bytes(content)

    async def act(scene: Scene) -> None:
        scene.outbox.start()
        await scene.put(10)
        await scene.outbox.close(60)
        assert scene.receiver.got == names(10)

    play(act)
    assert (tmp_path / "spool.db").read_bytes() == content
    assert not list(tmp_path.glob("*.damaged"))


def test_a_spool_that_is_damaged_while_it_is_used(play: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        await scene.put(10)
        await until(lambda: len(scene.shelf) == 10)
        await scene.put(10, 600)
        await until(lambda: len(scene.shelf) == 600)
        with sqlite3.connect(scene.path) as other:
            other.execute("DELETE FROM records_1 WHERE offset BETWEEN 300 AND 400")
        other.close()
        scene.receiver.gate.set()
        await scene.put(600, 700)
        await scene.outbox.close(60)
        assert dropped(scene.counters, "spool_damaged") > 100
        assert scene.path.with_name("spool.db.damaged").exists()
        scene.accounted(700)
        assert len(set(scene.receiver.got)) == scene.counters[sample("published_total")]

    play(act)


def test_a_file_of_something_else_is_left_alone(play: Callable[..., None], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "spool.db") as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()

    async def act(scene: Scene) -> None:
        scene.outbox.start()
        await scene.put(10)
        await scene.outbox.close(60)
        assert scene.receiver.got == names(10)

    play(act)
    with sqlite3.connect(tmp_path / "spool.db") as other:
        assert other.execute("SELECT count(*) FROM precious").fetchone() == (0,)
    other.close()


def test_settled_counts_the_oldest_only(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        monkeypatch.setattr(EmbeddedLog, "append", lambda *_: (_ for _ in ()).throw(Unavailable("full")))
        scene.receiver.gate = asyncio.Event()
        scene.outbox.start()
        scene.outbox.put(record(0))
        await until(lambda: scene.receiver.attempts == 1)
        await scene.put(1, 50)
        assert scene.settled == [], "younger ones are dropped, but the first is still on its way"
        scene.receiver.gate.set()
        await scene.outbox.close(60)
        assert scene.settled[-1] == 50
        scene.accounted(50)

    play(act, limit=10 * RECORD_BYTES)


def test_one_process_a_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, 1000)
    with pytest.raises(Unavailable, match=r"the spool .* is held by process"):
        Spool(path, 1000)
    counters = Counters()
    now = [0.0]
    shelf = Shelf(path, lambda lost: Spool(path, 100_000, lost=lost), counters, clock=lambda: now[0])
    assert not shelf.add([record(1)])
    assert "is held by process" in caplog.text
    spool.close()
    now[0] += 2 * shelf_module.PAUSE
    caplog.set_level(logging.INFO)
    assert shelf.add([record(1)])
    assert "can be used again" in caplog.text
    shelf.close()


def test_messages_that_would_come_too_often(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    quiet = Quiet(logging.getLogger("test"), seconds=10, clock=lambda: now[0])
    for _ in range(5):
        quiet.say(logging.ERROR, "a", "trouble")
    quiet.say(logging.ERROR, "b", "other trouble")
    now[0] = 11.0
    quiet.say(logging.ERROR, "a", "trouble")
    assert [entry.message for entry in caplog.records] == [
        "trouble",
        "other trouble",
        "trouble (4 more of this kind since the last one)",
    ]
    assert (quiet.again("a"), quiet.again("a")) == (True, False)


def test_one_by_one_stops_where_the_receiver_goes() -> None:
    async def main() -> None:
        receiver = Receiver()
        receiver.tells, receiver.refused = False, frozenset({"1"})
        records = [record(number) for number in range(5)]

        class Going(Receiver):
            async def publish(self, records: Sequence[Record]) -> None:
                if len(records) == 1 and records[0].headers["ce_id"] == "3":
                    raise Unavailable("gone")
                await receiver.publish(records)

        outcome = await deliver(Going(), records)
        assert (outcome.left, outcome.refused) == (records[3:], [records[1]])

    asyncio.run(main())


class Account:
    """A spool, and where every record that was added is."""

    def __init__(self, path: Path) -> None:
        self.path, self.now, self.added = path, 1000.0, 0
        self.lost: Counters = Counters()
        self.taken: list[str] = []
        self.out: list[Record] = []
        self.spool = self.begin()

    def begin(self) -> Spool:
        def tell(reason: str, count: int) -> None:
            self.lost[reason] += count

        return Spool(self.path, 12_000, age=50.0, lost=tell, clock=lambda: self.now)

    def add(self, number: int) -> None:
        self.spool.add([record(self.added + i, 500, self.now) for i in range(number)])
        self.added += number

    def hand_out(self, number: int) -> None:
        if not self.out:
            self.out = self.spool.oldest(number, number * (RECORD_BYTES + 300))

    def settle(self, bits: int) -> None:
        left = {index for index in range(len(self.out)) if bits >> index & 1}
        self.taken += [r.headers["ce_id"] for index, r in enumerate(self.out) if index not in left]
        if self.out:
            self.spool.settle(left)
        self.out = []

    def later(self, seconds: int) -> None:
        self.now += seconds

    def check(self) -> None:
        assert len(self.taken) == len(set(self.taken))
        if not self.out:  # what went while it was handed out is counted when it comes back
            assert len(self.taken) + sum(self.lost.values()) + len(self.spool) == self.added


steps = st.lists(
    st.tuples(st.just("add"), st.integers(1, 8))
    | st.tuples(st.just("hand_out"), st.integers(1, 6))
    | st.tuples(st.just("settle"), st.integers(0, 63))
    | st.tuples(st.just("later"), st.integers(1, 30)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_spool_accounts_for_everything(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int]]
) -> None:
    """Whatever is done to it: each record is taken, lost and counted, or waits, and never two of them."""
    account = Account(tmp_path_factory.mktemp("spool") / "spool.db")
    for step, number in script:
        getattr(account, step)(number)
        account.check()
    account.settle(0)
    seen = set(account.taken)
    account.spool.close()
    account.spool = account.begin()  # what was handed out of order and taken may come again, nothing else
    while batch := account.spool.oldest(100, 10**9):
        seen |= {r.headers["ce_id"] for r in batch}
        account.spool.settle(())
    assert len(account.spool) == 0
    assert len(seen) + sum(account.lost.values()) >= account.added
    account.spool.close()


def left_behind(folder: Path, name: str, numbers: range, timestamp: float = 0.0) -> Path:
    """The spool of a relay process that is no more."""
    path = folder / name
    spool = Spool(path, 10_000_000)
    spool.add([record(number, timestamp=timestamp) for number in numbers])
    spool.close()
    return path


def adoption(scene: Scene, *paths: Path, **spool: Any) -> Adoption:
    def opener(path: Path) -> Shelf:
        return Shelf(path, lambda lost: Spool(path, 10_000_000, lost=lost, **spool), scene.counters)

    return Adoption(list(paths), opener, scene.outbox)


class TestAdoption:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(orphans_module, "PAUSE", 0.01)
        monkeypatch.setattr(orphans_module, "MOMENT", 0.001)

    def test_which_spools_are_nobodys(self, tmp_path: Path) -> None:
        for name in ("spool.db", "spool.1.db", "spool.2.db", "spool.63.db", "spool.2.db.damaged", "other.3.db"):
            (tmp_path / name).touch()
        spool = str(tmp_path / "spool.db")
        assert [path.name for path in orphans(spool, 2)] == ["spool.2.db", "spool.63.db"]
        assert [path.name for path in orphans(spool, 1)] == ["spool.1.db", "spool.2.db", "spool.63.db"]
        assert orphans(spool, 64) == []
        CaptureSettings(workers=MOST_WORKERS)
        with pytest.raises(ValueError, match="workers"):
            CaptureSettings(workers=MOST_WORKERS + 1)

    def test_what_waits_is_published_once_and_the_file_goes(self, play: Callable[..., None], tmp_path: Path) -> None:
        paths = left_behind(tmp_path, "spool.1.db", range(600)), left_behind(tmp_path, "spool.2.db", range(600, 700))

        async def act(scene: Scene) -> None:
            adopting = adoption(scene, *paths)
            assert scene.counters[sample("spool_events")] == 700, "it is seen while it waits"
            scene.outbox.start()
            await adopting.run()
            assert scene.receiver.got == names(700)
            assert scene.counters[sample("spool_events")] == scene.counters[sample("spool_bytes")] == 0
            await scene.outbox.close(60)
            adopting.close()
            scene.accounted(700)

        play(act)
        assert sorted(path.name for path in tmp_path.glob("spool.[12]*")) == ["spool.1.db.lock", "spool.2.db.lock"]

    def test_while_the_receiver_is_away_it_stays_where_it_is(self, play: Callable[..., None], tmp_path: Path) -> None:
        path = left_behind(tmp_path, "spool.1.db", range(2000))

        async def act(scene: Scene) -> None:
            scene.receiver.away = True
            adopting = adoption(scene, path)
            scene.outbox.start()
            task = asyncio.ensure_future(adopting.run())
            await until(lambda: scene.receiver.attempts > 3)
            assert len(scene.shelf) <= 256, "one batch, which was under way"
            assert scene.counters[sample("spool_events")] == 2000
            scene.receiver.away = False
            await task
            assert sorted(scene.receiver.got, key=int) == names(2000)
            await scene.outbox.close(60)

        play(act)
        assert not path.exists()

    def test_a_stop_in_between_loses_nothing(self, play: Callable[..., None], tmp_path: Path) -> None:
        path = left_behind(tmp_path, "spool.1.db", range(600))
        got: list[str] = []

        async def act(scene: Scene) -> None:
            adopting = adoption(scene, path)
            scene.receiver.gate = asyncio.Event()
            scene.outbox.start()
            task = asyncio.ensure_future(adopting.run())
            await until(lambda: scene.receiver.attempts == 1)
            task.cancel()
            await scene.outbox.close(0.2)
            adopting.close()
            got.extend(scene.receiver.got)

        async def again(scene: Scene) -> None:
            adopting = adoption(scene, path)
            scene.outbox.start()
            await adopting.run()
            await scene.outbox.close(60)
            assert scene.receiver.got == names(600), (
                "the first batch is in the outbox's own spool, the rest in its file"
            )

        play(act)
        assert got == []
        play(again)

    def test_a_spool_that_another_process_holds_waits_for_it(
        self, play: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = left_behind(tmp_path, "spool.1.db", range(3))

        async def act(scene: Scene) -> None:
            holder = Spool(path, 10_000_000)
            adopting = adoption(scene, path)
            scene.outbox.start()
            task = asyncio.ensure_future(adopting.run())
            await asyncio.sleep(0.1)
            assert path.exists()
            assert scene.receiver.got == []
            holder.close()
            await task
            assert scene.receiver.got == names(3)
            await scene.outbox.close(60)

        play(act)
        assert "is held by process" in caplog.text

    def test_a_damaged_one_is_set_aside(self, play: Callable[..., None], tmp_path: Path) -> None:
        path = tmp_path / "spool.1.db"
        path.write_bytes(b"SQLite format 3\0" + b"not a database at all" * 1000)

        async def act(scene: Scene) -> None:
            scene.outbox.start()
            await adoption(scene, path).run()
            await scene.outbox.close(60)

        play(act)
        assert not path.exists()
        assert path.with_name("spool.1.db.damaged").read_bytes()[16:].startswith(b"not a database")

    def test_what_waited_too_long_is_counted(self, play: Callable[..., None], tmp_path: Path) -> None:
        path = left_behind(tmp_path, "spool.1.db", range(5), timestamp=1.0)

        async def act(scene: Scene) -> None:
            scene.outbox.start()
            await adoption(scene, path, age=10.0, clock=lambda: 100.0).run()
            assert dropped(scene.counters, "expired") == 5
            await scene.outbox.close(60)

        play(act)
        assert not path.exists()
