"""HTTP/1 bytes, split anywhere, to exchanges."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.capture.conversation import LOST, OPAQUE, TALKING, Conversation
from monitor.capture.exchange import WANTED, Body, Exchange, Memory, Message
from monitor.capture.frames import CLIENT, NOBODY, UPSTREAM
from monitor.capture.http1 import LONGEST_HEAD
from monitor.capture.http1_messages import LONGEST_TEXT, MOST_PIPELINED
from monitor.capture.metrics import METRICS, Counters, sample

PREDICT = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Heard:
    """A recorder that captures everything."""

    def __init__(self, max_body: int = 10_000, memory: int = 1_000_000) -> None:
        self.memory, self.max_body, self.wanted = Memory(memory), max_body, WANTED
        self.told: list[tuple[Any, ...]] = []
        self.short = None

    def begin(self, exchange: Exchange) -> None:
        exchange.kind = "inference"
        exchange.request.wanted = exchange.response.wanted = True

    def request(self, exchange: Exchange) -> None:
        message = exchange.request
        self.told.append(("request", exchange.method, exchange.path, message.headers, message.body.take()))

    def response(self, exchange: Exchange) -> None:
        message = exchange.response
        self.told.append(
            ("response", exchange.path, exchange.status, message.headers, message.body.cut, message.body.take())
        )

    def capped(self, exchange: Exchange, message: Message) -> None: ...

    def discard(self, exchange: Exchange, reason: str) -> None:
        self.told.append(("discard", exchange.path, reason))


Script = list[tuple[int, bytes]]


def hear(script: Script, **limits: int) -> tuple[Heard, Conversation, Counters]:
    heard, counters = Heard(**limits), Counters()
    conversation = Conversation(heard, counters)
    for now, (side, data) in enumerate(script, start=1):
        conversation.data(side, data, float(now))
    assert set(counters) <= {name for metric in METRICS for name in metric.samples}
    return heard, conversation, counters


def simple(body: bytes, answer: bytes) -> Script:
    request = PREDICT + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return [
        (CLIENT, request),
        (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer),
    ]


CHUNKED: Script = [
    (
        CLIENT,
        PREDICT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nContent-Type: trailer\r\n\r\n",
    ),
    (
        UPSTREAM,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\nContent-Type: late\r\n\r\n",
    ),
]
CONTINUE: Script = [
    (CLIENT, PREDICT + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 100 Continue\r\nContent-Type: none\r\n\r\n"),
    (CLIENT, b"{}"),
    (UPSTREAM, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"),
]
HEAD: Script = [
    (CLIENT, b"HEAD /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
]
EMPTY: Script = [
    (CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 204 No Content\r\n\r\n"),
    (CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
]
DECLINED_UPGRADE: Script = [
    (CLIENT, b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (UPSTREAM, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"),
    (
        CLIENT,
        PREDICT
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nContent-Length: 2\r\n\r\nhi",
    ),
    (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
]
EVERYTHING: Script = [
    *simple(b"{}", b"[1]"),
    *CHUNKED,
    *CONTINUE,
    *HEAD,
    *EMPTY,
    *DECLINED_UPGRADE,
    *simple(b"x" * 300, b"y" * 500),
]


def split(script: Script, cuts: list[int]) -> Script:
    """Every message in pieces, as often as ``cuts`` goes round."""
    pieces: Script = []
    turn = 0
    for side, data in script:
        start = 0
        while start < len(data):
            size = cuts[turn % len(cuts)]
            pieces.append((side, data[start : start + size]))
            start += size
            turn += 1
    return pieces


def test_everything_in_whole_messages() -> None:
    heard, conversation, _ = hear(EVERYTHING)
    requests = [t for t in heard.told if t[0] == "request"]
    responses = [t for t in heard.told if t[0] == "response"]
    assert [t[4] for t in requests] == [b"{}", b"abcde", b"{}", b"", b"", b"", b"", b"hi", b"x" * 300]
    assert [t[2] for t in responses] == [200, 200, 200, 204, 304, 404, 200, 200]  # that to HEAD has no body to record
    assert [t[5] for t in responses] == [b"[1]", b"wxyz", b"1", b"", b"", b"no", b"no", b"y" * 500]
    assert requests[1][3] == {"content-type": "application/json"}, "a trailer is no header"
    assert responses[1][3] == {}
    assert responses[2][3] == {}, "an interim response's headers are not the response's"
    assert conversation.state == TALKING
    assert conversation.open_messages == 0


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_head_requests_among_pipelined_ones(first: int, second: int) -> None:
    """All at once, and the answers in three pieces: what HEAD leaves out is not taken from the next response."""
    exchanges = [simple(b"{}", b"[1]"), HEAD, HEAD, EMPTY[:2], simple(b"ab", b"[22]"), HEAD, simple(b"c", b"[333]")]
    asked = b"".join(exchange[0][1] for exchange in exchanges)
    answers = b"".join(exchange[1][1] for exchange in exchanges)
    low, high = sorted((first % len(answers), second % len(answers)))
    pieces = [piece for piece in (answers[:low], answers[low:high], answers[high:]) if piece]
    heard, conversation, _ = hear([(CLIENT, asked), *((UPSTREAM, piece) for piece in pieces)])
    assert [told[-1] for told in heard.told if told[0] == "response"] == [b"[1]", b"", b"[22]", b"[333]"]
    assert [told[0] for told in heard.told].count("request") == 7
    assert conversation.state == TALKING
    assert conversation.open_messages == 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_split_anywhere_it_is_the_same(cuts: list[int]) -> None:
    whole, _, _ = hear(EVERYTHING)
    pieces, conversation, _ = hear(split(EVERYTHING, cuts))
    assert pieces.told == whole.told
    assert conversation.open_messages == 0
    assert pieces.memory.take(1_000_000), "no body is held any more"


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.integers(2, 6))
def test_pipelined_requests_are_paired_in_order(cuts: list[int], depth: int) -> None:
    messages = [simple(b"q%d" % i, b"a%d" % i) for i in range(depth)]
    requests = b"".join(message[0][1] for message in messages)
    answers = b"".join(message[1][1] for message in messages)
    heard, _, _ = hear(split([(CLIENT, requests), (UPSTREAM, answers)], cuts))
    assert [t[-1] for t in heard.told if t[0] == "request"] == [b"q%d" % i for i in range(depth)]
    assert [t[-1] for t in heard.told if t[0] == "response"] == [b"a%d" % i for i in range(depth)]


def test_gzip_passes_as_it_is() -> None:
    body = gzip.compress(b'{"instances": [[1]]}')
    head = PREDICT + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    heard, _, _ = hear([(CLIENT, head + body)])
    assert heard.told[0][3]["content-encoding"] == "gzip"
    assert heard.told[0][4] == body


def test_a_response_without_length_ends_with_the_connection() -> None:
    script = [(CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n"), (UPSTREAM, b"HTTP/1.0 200 OK\r\n\r\nall of ")]
    heard, conversation, _ = hear([*script, (UPSTREAM, b"it")])
    conversation.eof(UPSTREAM, 9.0)
    assert heard.told[-1][-1] == b"all of it"
    conversation.close()
    assert len(heard.told) == 2


def test_a_response_cut_by_a_reset_is_none() -> None:
    script = [(CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n"), (UPSTREAM, b"HTTP/1.0 200 OK\r\n\r\nhalf of")]
    heard, conversation, _ = hear(script)
    conversation.close()
    assert heard.told[-1] == ("discard", "/v1/models/m:predict", "incomplete")
    assert heard.memory.take(1_000_000)


def test_an_end_in_a_sized_body_is_no_completion() -> None:
    script = [
        (CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n"),
        (UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    ]
    heard, conversation, _ = hear(script)
    conversation.eof(UPSTREAM, 9.0)
    conversation.close()
    assert heard.told[-1] == ("discard", "/v1/models/m:predict", "incomplete")


def test_an_early_answer_does_not_lose_the_request() -> None:
    heard, conversation, _ = hear(
        [
            (CLIENT, PREDICT + b"Content-Length: 10\r\n\r\n12345"),
            (UPSTREAM, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
        ]
    )
    assert heard.told == [("response", "/v1/models/m:predict", 413, {}, "", b"")]
    assert conversation.open_messages == 1
    conversation.close()
    assert heard.told[-1] == ("discard", "/v1/models/m:predict", "incomplete")


def test_bodies_are_cut_at_the_cap() -> None:
    heard, _, _ = hear(split(simple(b"", b"0123456789"), [7]), max_body=4)
    assert heard.told[-1][-2:] == ("max_body", b"0123")


def test_bodies_are_cut_when_all_together_hold_too_much() -> None:
    heard, _, _ = hear(split(simple(b"", b"0123456789"), [5]), memory=7)
    kind, reason, body = heard.told[-1][0], heard.told[-1][-2], heard.told[-1][-1]
    assert (kind, reason) == ("response", "memory")
    assert b"0123456789".startswith(body)
    assert len(body) < 10


def test_websockets_end_the_parsing() -> None:
    script = [
        (CLIENT, b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (UPSTREAM, b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi"),
        (CLIENT, b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    ]
    heard, conversation, counters = hear(script)
    assert conversation.state == OPAQUE
    assert counters[sample("unparsed_connections_total", reason="upgrade")] == 1
    assert [t[:2] for t in heard.told if t[0] == "request"] == [("request", "GET")]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ((CLIENT, b"\x16\x03\x01\x02\x00\x01"), "tls"),
        ((CLIENT, b"\x00\x01garbage"), "unknown"),
        ((UPSTREAM, b"220 hello"), "server_first"),
    ],
)
def test_other_protocols_are_counted_and_left_alone(first: tuple[int, bytes], reason: str) -> None:
    for script in ([first], split([first], [1])):
        heard, conversation, counters = hear([*script, *simple(b"{}", b"{}")])
        assert conversation.state == OPAQUE
        assert heard.told == []
        assert counters == {sample("unparsed_connections_total", reason=reason): 1}


def test_a_method_that_begins_like_http2_is_http1() -> None:
    heard, _, _ = hear(split([(CLIENT, b"PROPFIND /x HTTP/1.1\r\n\r\n")], [1]))
    assert heard.told[0][:3] == ("request", "PROPFIND", "/x")


class TestGaps:
    def test_what_was_open_is_discarded_and_the_next_request_is_heard(self) -> None:
        heard, conversation, _ = hear(simple(b"1", b"1")[:1])
        conversation.gap(UPSTREAM)  # the answer was dropped
        for side, data in simple(b"2", b"2"):
            conversation.data(side, data, 1.0)
        assert [t[0] for t in heard.told] == ["request", "discard", "request", "response"]
        assert heard.told[-1][-1] == b"2"

    def test_the_middle_of_a_body_is_no_safe_point(self) -> None:
        heard, conversation, counters = hear(simple(b"1", b"1")[:1])
        conversation.gap(CLIENT)
        conversation.data(CLIENT, PREDICT + b"Content-Length: 0\r\n\r\n", 1.0)  # within a body, or pipelined
        conversation.data(UPSTREAM, b"HTTP/1.1 200 OK\r\n\r\n", 1.0)
        assert conversation.state == LOST
        assert counters[sample("dropped_frames_total", reason="resync")] == 2
        for side, data in simple(b"2", b"2"):
            conversation.data(side, data, 1.0)
        assert [t[-1] for t in heard.told if t[0] == "response"] == [b"2"]

    def test_a_response_in_progress_is_not_taken_for_the_next_one(self) -> None:
        heard, conversation, _ = hear([])
        conversation.gap(UPSTREAM)
        conversation.data(CLIENT, simple(b"2", b"")[0][1], 1.0)
        conversation.data(UPSTREAM, b"the rest of an answer to what was lost", 1.0)
        assert conversation.state == LOST
        assert [t[0] for t in heard.told] == ["request", "discard"]

    def test_a_connection_that_pipelines_stays_lost(self) -> None:
        first, second = simple(b"1", b"1"), simple(b"2", b"2")
        heard, conversation, _ = hear([(CLIENT, first[0][1] + second[0][1]), first[1]])
        conversation.gap(UPSTREAM)
        before = len(heard.told)
        for side, data in simple(b"3", b"3"):
            conversation.data(side, data, 1.0)
        assert conversation.state == LOST
        assert len(heard.told) == before

    def test_a_connection_that_begins_with_a_gap(self) -> None:
        heard, conversation, _ = hear([])
        conversation.gap(NOBODY)
        for _ in range(2):
            for side, data in simple(b"1", b"1"):
                conversation.data(side, data, 1.0)
        assert [t[0] for t in heard.told] == ["request", "response"]

    def test_malformed_bytes_lose_one_exchange_only(self) -> None:
        heard, conversation, _ = hear([(CLIENT, b"POST /v1/models/m:predict HTTP/1.1\r\nbad header\r\n\r\n")])
        assert heard.told == [("discard", "", "malformed")]
        conversation.data(UPSTREAM, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 1.0)
        for side, data in simple(b"1", b"1"):
            conversation.data(side, data, 1.0)
        assert [t[0] for t in heard.told[1:]] == ["request", "response"]


@given(st.lists(st.tuples(st.sampled_from([CLIENT, UPSTREAM]), st.binary(min_size=1, max_size=60))))
def test_no_bytes_break_it(script: Script) -> None:
    heard, conversation, _ = hear(script)
    conversation.close()
    assert conversation.open_messages == 0
    assert heard.memory.take(1_000_000)


@given(
    st.lists(st.one_of(st.tuples(st.integers(0, 25), st.integers(1, 400)), st.none()), min_size=1, max_size=40),
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_after_any_gaps_every_response_belongs_to_its_request(
    gaps: list[tuple[int, int] | None], cuts: list[int]
) -> None:
    """A client that does not pipeline; chunks are dropped at will; what is heard is never a wrong pair."""
    heard, counters = Heard(), Counters()
    conversation = Conversation(heard, counters)
    frame, lost, turn = 0, False, NOBODY
    for number in range(len(gaps)):
        for side, data in split(simple(b"n%d" % number, b"n%d" % number), cuts):
            drop = gaps[frame % len(gaps)] is not None and frame % 3 == 0
            frame += 1
            if drop:
                lost, turn = True, side
                continue
            if lost:
                conversation.gap(turn)
                lost = False
            turn = side
            conversation.data(side, data, 1.0)
    open_request = b""
    for told in heard.told:
        if told[0] == "request":
            open_request = told[4]
        elif told[0] == "response":
            assert told[5] == open_request


class TestBounds:
    """What hostile bytes may hold."""

    PIECE = b"a" * 4096

    @pytest.mark.parametrize(
        "start",
        [
            b"POST /",
            PREDICT + b"X-Long: ",
            PREDICT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: ",
            PREDICT + b"Transfer-Encoding: chunked\r\n\r\n3;ext=",
        ],
        ids=["target", "header", "trailer", "chunk extension"],
    )
    def test_a_head_without_end_is_given_up(self, start: bytes) -> None:
        heard, conversation, _ = hear([(CLIENT, start)])
        for _ in range(LONGEST_HEAD // len(self.PIECE) - 1):
            conversation.data(CLIENT, self.PIECE, 1.0)
        assert conversation.state == TALKING
        for _ in range(3):
            conversation.data(CLIENT, self.PIECE, 1.0)
        assert conversation.state == LOST
        assert heard.told[-1][-1] == "malformed"

    @pytest.mark.parametrize("request_line", [b"POST / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/1.1\r\n\r\n"])
    def test_nor_is_a_response_waited_for(self, request_line: bytes) -> None:
        _, conversation, _ = hear([(CLIENT, request_line), (UPSTREAM, b"HTTP/1.1 200 OK\r\nX-Long: ")])
        for _ in range(LONGEST_HEAD // len(self.PIECE) + 2):
            conversation.data(UPSTREAM, self.PIECE, 1.0)
        assert conversation.state == LOST

    def test_a_body_is_no_head(self) -> None:
        heard, conversation, _ = hear([(CLIENT, PREDICT + b"Content-Length: 1000000\r\n\r\n")])
        for _ in range(1_000_000 // 4000):
            conversation.data(CLIENT, self.PIECE[:4000], 1.0)
        assert conversation.state == TALKING
        assert heard.told[-1][0] == "request"

    def test_texts_are_cut(self) -> None:
        path = b"/v1/models/" + b"m" * 5000
        heard, _, _ = hear([(CLIENT, b"POST " + path + b" HTTP/1.1\r\nX-Request-Id: " + b"r" * 5000 + b"\r\n\r\n")])
        _, _, told, headers, _ = heard.told[0]
        assert (len(told), len(headers["x-request-id"])) == (LONGEST_TEXT, LONGEST_TEXT)

    def test_requests_that_nobody_answers(self) -> None:
        heard, conversation, _ = hear([(CLIENT, (PREDICT + b"Content-Length: 0\r\n\r\n") * (MOST_PIPELINED + 1))])
        assert conversation.state == LOST
        assert conversation.open_messages == 0
        assert heard.told[-1][-1] == "pipelined"

    def test_small_pieces_hold_what_they_are(self) -> None:
        body = Body(Memory(10**6))
        tracemalloc.start()
        try:
            for i in range(50_000):
                body.add(b"%09d" % i, 10**6)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 1.3 * body.size
        assert body.take() == b"".join(b"%09d" % i for i in range(50_000))
