"""The tap: bounded, never waiting, and honest about what it dropped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.capture.frames import CLIENT, CLOSE, DATA, EOF, GAP, HEADER, LOSS, UPSTREAM, Frame, FrameReader
from monitor.capture.metrics import Counters, sample
from monitor.capture.tap import Tap, Tapped

FULL = sample("dropped_frames_total", reason="queue_full")


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The few things the tap asks of an event loop, done by hand."""

    def __init__(self) -> None:
        self.writer: Callable[[], None] | None = None
        self.due: list[Callable[[], None]] = []

    def call_later(self, _: float, callback: Callable[[], None]) -> Timer:
        self.due.append(callback)
        return Timer()

    def add_writer(self, _: int, callback: Callable[[], None]) -> None:
        assert self.writer is None
        self.writer = callback

    def remove_writer(self, _: int) -> None:
        self.writer = None


class Bench:
    """A tap, its loop, and the shipper's end of the socket."""

    def __init__(self, limit: int) -> None:
        self.loop, self.counters = Loop(), Counters()
        self.tap = Tap(self.loop, limit, self.counters)  # type: ignore[arg-type]
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.reader = FrameReader()

    def read(self) -> list[Frame]:
        """Everything that arrives while the loop turns."""
        frames: list[Frame] = []
        while True:
            due, self.loop.due = self.loop.due, []
            for callback in due:
                callback()
            try:
                data = self.theirs.recv(1 << 20)
            except BlockingIOError:
                if self.loop.writer is None:
                    return frames
                self.loop.writer()
                continue
            if not data:
                return frames
            frames += self.reader.feed(data)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(10_000)
    yield made
    made.close()


def told(frames: list[Frame]) -> list[tuple[int, int, int, bytes]]:
    return [(f.kind, f.side, f.connection, f.payload) for f in frames]


def test_copies_arrive_in_order(bench: Bench) -> None:
    bench.tap.attach(bench.ours)
    one, two = Tapped(1), Tapped(2)
    bench.tap.data(one, CLIENT, b"a")
    bench.tap.data(two, CLIENT, b"b")
    bench.tap.data(one, UPSTREAM, b"c")
    bench.tap.eof(one, UPSTREAM)
    bench.tap.close(one)
    assert told(bench.read()) == [
        (DATA, CLIENT, 1, b"a"),
        (DATA, CLIENT, 2, b"b"),
        (DATA, UPSTREAM, 1, b"c"),
        (EOF, UPSTREAM, 1, b""),
        (CLOSE, CLIENT, 1, b""),
    ]
    assert bench.tap.held == 0


def test_what_comes_before_the_shipper_waits_for_it(bench: Bench) -> None:
    bench.tap.data(Tapped(1), CLIENT, b"early")
    bench.tap.attach(bench.ours)
    assert [f.payload for f in bench.read()] == [b"early"]


def test_a_full_queue_drops_counts_and_says_so(bench: Bench) -> None:
    link = Tapped(1)
    for number in range(20):
        bench.tap.data(link, CLIENT, b"%04d" % number + bytes(996))
    taken = 10_000 // (1000 + HEADER.size)
    assert bench.counters[FULL] == 20 - taken
    assert bench.counters[sample("dropped_bytes_total")] == (20 - taken) * 1000
    assert bench.tap.held <= 10_000
    bench.tap.attach(bench.ours)
    assert [f.kind for f in bench.read()] == [DATA] * taken
    bench.tap.data(link, UPSTREAM, b"after")
    gap, data = bench.read()
    assert (gap.kind, gap.side, LOSS.unpack(gap.payload)) == (GAP, CLIENT, (20 - taken, (20 - taken) * 1000))
    assert data.payload == b"after"
    assert bench.counters[sample("gaps_total")] == 1


def test_a_gap_ends_only_when_half_the_queue_is_free(bench: Bench) -> None:
    link = Tapped(1)
    for _ in range(12):
        bench.tap.data(link, CLIENT, bytes(900))
    before = bench.counters[FULL]
    bench.tap.held = 6_000
    bench.tap.data(link, CLIENT, b"x")
    assert bench.counters[FULL] == before + 1
    bench.tap.held = 4_000
    bench.tap.data(link, CLIENT, b"x")
    assert bench.counters[FULL] == before + 1


def test_a_connection_of_which_nothing_was_taken_needs_no_close(bench: Bench) -> None:
    tap = bench.tap
    tap.data(Tapped(1), CLIENT, bytes(9_900))
    held = tap.held
    for number in range(2, 1000):
        link = Tapped(number)
        tap.data(link, CLIENT, bytes(200))
        tap.close(link)
    assert tap.held < held + 100 * 1000
    tap.attach(bench.ours)
    frames = bench.read()
    assert [f.kind for f in frames].count(CLOSE) == [f.kind for f in frames].count(GAP) == 998


def test_the_socket_is_tried_again_only_when_it_is_writable(bench: Bench) -> None:
    bench.tap = Tap(bench.loop, 10_000_000, bench.counters)  # type: ignore[arg-type]
    bench.tap.attach(bench.ours)
    link = Tapped(1)
    while bench.loop.writer is None:
        bench.tap.data(link, CLIENT, bytes(60_000))
    sends = 0
    real = bench.ours

    class Watched:
        def __getattr__(self, name: str) -> object:
            nonlocal sends
            sends += name == "send"
            return getattr(real, name)

    bench.tap._socket = Watched()  # type: ignore[assignment]
    bench.loop.due.clear()
    for _ in range(50):
        bench.tap.data(link, CLIENT, bytes(60_000))
    assert sends == 0
    assert bench.loop.due == []
    bench.tap._socket = real
    assert sum(len(f.payload) for f in bench.read()) % 60_000 == 0
    assert bench.tap.held == 0


def test_a_dead_shipper_takes_what_waited_along(bench: Bench) -> None:
    link = Tapped(1)
    bench.tap.attach(bench.ours)
    bench.tap.data(link, CLIENT, b"one")
    bench.read()
    bench.tap.data(link, UPSTREAM, b"two")
    assert bench.tap.detach() == 2
    bench.tap.interrupt(link)
    bench.tap.data(link, CLIENT, b"three")
    bench.tap.attach(bench.ours)
    assert told(bench.read()) == [(GAP, UPSTREAM, 1, LOSS.pack(0, 0)), (DATA, CLIENT, 1, b"three")]


def test_a_send_to_the_dead_is_no_error(bench: Bench) -> None:
    bench.tap.attach(bench.ours)
    bench.theirs.close()
    bench.tap.data(Tapped(1), CLIENT, bytes(70_000 // 8))
    for callback in bench.loop.due:
        callback()
    bench.tap.finish()
    assert bench.tap.detach() == 1


def test_finish_ends_the_stream_after_the_last_byte(bench: Bench) -> None:
    bench.tap.attach(bench.ours)
    bench.tap.data(Tapped(1), CLIENT, b"last")
    bench.tap.finish()
    assert [f.payload for f in bench.read()] == [b"last"]
    assert bench.theirs.recv(1) == b""


@given(
    st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=50)), max_size=30),
    st.lists(st.integers(1, 50), min_size=1, max_size=10),
)
def test_frames_come_out_as_they_went_in(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(HEADER.pack(DATA, CLIENT, len(data), number, 0.5) + data for number, data in frames)
    reader, out, start, turn = FrameReader(), [], 0, 0
    while start < len(wire):
        size = cuts[turn % len(cuts)]
        out += [(f.connection, f.payload) for f in reader.feed(wire[start : start + size])]
        start, turn = start + size, turn + 1
    assert out == frames
