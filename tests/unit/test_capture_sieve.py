"""While the queue is full, HTTP/2 connections lose DATA and nothing else, and what is lost is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_capture_http2 import EVERYTHING, V1, V2, Heard, Peers, Script, cut, frame, with_holes
from test_capture_tap import Bench

from monitor.capture.conversation import LOST, TALKING, Conversation
from monitor.capture.frames import CLIENT, CLOSE, DATA, GAP, HOLE, MISSING, UPSTREAM, Frame
from monitor.capture.metrics import Counters, sample
from monitor.capture.sieve import Sieve
from monitor.capture.tap import Tapped

SIFTED, BYTES = sample("dropped_frames_total", reason="http2_data"), sample("dropped_bytes_total")
PATIENT = settings(deadline=None)


class Path:
    """A tap, and the conversation behind it."""

    def __init__(self, limit: int) -> None:
        self.bench, self.link = Bench(limit), Tapped(1)
        self.bench.tap.attach(self.bench.ours)
        self.heard, self.counters = Heard(50_000), Counters()
        self.conversation = Conversation(self.heard, self.counters)
        self.copied = 0
        self.stuck = True

    def say(self, script: Script) -> None:
        for side, data in script:
            self.bench.tap.data(self.link, side, data)
            if not self.stuck:
                self.hear()

    def hear(self) -> None:
        """The shipper reads everything."""
        for told in self.bench.read():
            self.take(told)

    def take(self, told: Frame) -> None:
        if told.kind == DATA:
            self.copied += len(told.payload)
            self.conversation.data(told.side, told.payload, told.moment)
        elif told.kind == HOLE:
            self.conversation.hole(told.side, MISSING.unpack(told.payload)[0], told.moment)
        elif told.kind == GAP:
            self.conversation.gap(told.side)
        elif told.kind == CLOSE:
            self.conversation.close()

    @property
    def dropped(self) -> int:
        return self.bench.counters[BYTES]


@pytest.fixture
def path() -> Iterator[Path]:
    made = Path(30_000)
    made.bench.tap._blocked = True  # the shipper is stopped
    yield made
    made.bench.close()


def calls(count: int, size: int, peers: Peers | None = None) -> Peers:
    peers = peers or Peers()
    for number in range(count):
        peers.unary(V2, b"q" * size, b"a" * size, **{"x-request-id": f"{number} and some more of it"})
        peers.answer(peers.ask(V1, b"Q" * size, [("x-other", f"{number}")]), b"A" * size)
    return peers


def release(path: Path) -> None:
    path.bench.tap._blocked = False
    path.bench.tap._flush()
    path.hear()


def size(script: Script) -> int:
    return sum(len(data) for _, data in script)


def test_a_shipper_that_stops_costs_data_and_no_connection(path: Path) -> None:
    peers = calls(40, 500)
    path.say(peers.script)
    assert path.bench.counters[SIFTED] > 20
    assert path.bench.tap.held <= 45_000
    release(path)
    told = len(path.heard.of("request")) + len(path.heard.of("response"))
    lost = path.heard.of("discard")
    assert told + len(lost) == 160
    assert {reason for _, reason in lost} == {"gap"}
    assert path.conversation.state == TALKING
    assert path.copied + path.dropped == size(peers.script)
    before, known = path.dropped, len(peers.script)
    path.stuck = False
    path.say(calls(5, 500, peers).script[known:])
    assert path.dropped == before
    assert len(path.heard.of("request")) + len(path.heard.of("response")) == told + 20
    assert path.conversation.open_messages == 0
    assert path.heard.holds_nothing
    assert path.bench.counters[sample("gaps_total")] == 0


@PATIENT
@given(st.lists(st.tuples(st.sampled_from([0, 1, 300, 3_000, 12_000]), st.booleans()), min_size=1, max_size=12))
def test_whatever_is_said_is_told_or_counted(parts: list[tuple[int, bool]]) -> None:
    path = Path(8_000)
    try:
        peers = Peers()
        for turn, (length, reads) in enumerate(parts):
            known = len(peers.script) if turn else 0
            path.bench.tap._blocked = True
            path.say(calls(1, length, peers).script[known:])
            if reads:
                release(path)
        path.bench.tap.close(path.link)
        release(path)
        assert path.copied + path.dropped == size(peers.script)
        if not path.bench.counters[sample("gaps_total")]:
            assert len(path.heard.told) == 4 * len(parts)
            assert {reason for _, reason in path.heard.of("discard")} <= {"gap"}
        assert path.heard.holds_nothing
    finally:
        path.bench.close()


def test_headers_too_have_a_bound(path: Path) -> None:
    """A flood of them ends in a gap, and the connection is given up, with everything counted."""
    peers = Peers()
    for number in range(600):
        peers.answer(peers.ask("/skip", None, [("x-other", f"{number}" * 40)]), b"")
    path.say(peers.script)
    assert path.bench.tap.held < 50_000
    release(path)
    path.say([(CLIENT, b"x")])
    release(path)
    assert path.bench.counters[sample("gaps_total")] == 1
    assert path.conversation.state == LOST
    assert path.counters[sample("unparsed_connections_total", reason="http2_gap")] == 1


def test_http1_is_dropped_as_ever(path: Path) -> None:
    path.say([(CLIENT, b"POST / HTTP/1.1\r\n\r\n" + bytes(900))] * 100)
    assert path.bench.counters[SIFTED] == 0
    assert path.bench.counters[sample("dropped_frames_total", reason="queue_full")] > 60


def test_a_connection_in_the_middle_of_a_message_is_lost(path: Path) -> None:
    peers = Peers()
    path.say(cut(peers.script, [10_000]))
    path.say([(CLIENT, frame(0, 0, 1, bytes(200_000))[:100])])  # a long DATA frame begins
    path.say([(CLIENT, b"\1" * 9_000)] * 12)
    release(path)
    path.say([(CLIENT, b"more")])
    release(path)
    assert path.conversation.state == LOST


@PATIENT
@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.sampled_from([CLIENT, UPSTREAM]))
def test_split_anywhere_only_data_is_missing(sizes: Sequence[int], side: int) -> None:
    """Once the frames are known, chunks may end anywhere."""
    said = [data for spoke, data in EVERYTHING if spoke == side]
    sieve = Sieve()
    assert sieve.follow(side, said[0])
    holes: list[int] = []
    kept = b""
    for _, data in cut([(side, b"".join(said[1:]))], sizes):
        parts = sieve.sift(side, data)
        assert parts is not None
        for part in parts:
            if isinstance(part, int):
                holes.append(part)
            else:
                kept += part
    expected = with_holes([(side, data) for data in said[1:]], [True])
    assert kept == b"".join(part for _, part in expected if isinstance(part, bytes))
    assert sum(holes) == sum(part for _, part in expected if isinstance(part, int))


@given(st.lists(st.binary(max_size=60)))
def test_any_bytes_are_followed_or_not(parts: list[bytes]) -> None:
    sieve = Sieve()
    for data in parts:
        sieve.follow(CLIENT, data)
        sifted = sieve.sift(UPSTREAM, data)
        if sifted is not None:
            assert sum(part if isinstance(part, int) else len(part) for part in sifted) == len(data)
