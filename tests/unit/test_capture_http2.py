"""HTTP/2 and gRPC bytes, split anywhere, to exchanges."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.capture.conversation import LOST, OPAQUE, TALKING, Conversation
from monitor.capture.exchange import WANTED, Exchange, Memory, Message, UnparsableError
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.grpc_methods import model_in_message
from monitor.capture.header_blocks import LARGEST_LIST, LARGEST_TABLE, HeaderBlocks
from monitor.capture.http2 import MAX_STREAMS, Http2
from monitor.capture.http2_frames import CONTINUATION, DATA, LONGEST, PREFACE
from monitor.capture.metrics import METRICS, Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.capture.rules import RedactRule, SampleRule
from monitor.capture.sampling import place
from monitor.capture.selection import select
from sinks.base import Record

V1, V2 = "/v1/models/m:predict", "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
COMPRESSED = gzip.compress(b"\x0a\x01m", mtime=0)
MEMORY = 1_000_000

Script = list[tuple[int, bytes]]


class Heard:
    """A recorder that captures everything but ``/skip``."""

    def __init__(self, max_body: int = 20_000, memory: int = MEMORY) -> None:
        self.memory, self.max_body, self.limit = Memory(memory), max_body, memory
        self.told: list[tuple[Any, ...]] = []
        self.wanted = WANTED

    def begin(self, exchange: Exchange) -> None:
        exchange.kind = None if exchange.path == "/skip" else "inference"
        exchange.request.wanted = exchange.response.wanted = exchange.kind is not None
        exchange.request_id = "r"

    def named(self, exchange: Exchange) -> None:
        assert exchange.naming, "once"
        exchange.naming = False

    def request(self, exchange: Exchange) -> None:
        assert exchange.request.done
        assert not exchange.naming
        message = exchange.request
        self.told.append(("request", exchange.request_id, exchange.path, exchange.model, message.body.take()))

    def response(self, exchange: Exchange) -> None:
        assert exchange.response.done
        assert not exchange.naming
        message = exchange.response
        self.told.append(("response", exchange.request_id, exchange.status, message.headers, message.body.take()))

    def capped(self, exchange: Exchange, message: Message) -> None:
        assert not message.done
        message.done = True
        (self.request if message is exchange.request else self.response)(exchange)

    def discard(self, exchange: Exchange, reason: str) -> None:
        request, response = exchange.request, exchange.response
        if request.wanted and not request.done:
            self.told.append(("discard", "request", reason))
        if response.wanted and response.started and not response.done:
            self.told.append(("discard", "response", reason))

    def of(self, what: str) -> list[tuple[Any, ...]]:
        return [told[1:] for told in self.told if told[0] == what]

    @property
    def holds_nothing(self) -> bool:
        return self.memory.take(self.limit) and self.memory.give(self.limit) is None


class Peers:
    """A client and a server that speak HTTP/2 with each other, and what each said."""

    def __init__(self, table: int | None = None) -> None:
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.script: Script = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.client.increment_flow_control_window(2**29)
        self.server.increment_flow_control_window(2**29)
        if table is not None:
            self.server.update_settings({SettingCodes.HEADER_TABLE_SIZE: table})
        self.talk()

    def talk(self) -> None:
        """Carry over what is to be said, until both are silent."""
        while True:
            said, answered = self.client.data_to_send(), self.server.data_to_send()
            for side, data, receiver in ((CLIENT, said, self.server), (UPSTREAM, answered, self.client)):
                if data:
                    self.script.append((side, data))
                    receiver.receive_data(data)
            if not (said or answered):
                return

    def ask(self, path: str, body: bytes | None, headers: Sequence[tuple[str, str]] = (), end: bool = True) -> int:
        stream = self.client.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        self.client.send_headers(stream, [*pseudo, *headers], end_stream=body is None)
        if body is not None:
            self.send(self.client, stream, body, end)
        self.talk()
        return stream

    def answer(
        self,
        stream: int,
        body: bytes | None,
        headers: Sequence[tuple[str, str]] = (),
        trailers: Sequence[tuple[str, str]] = (),
        status: int = 200,
        end: bool = True,
    ) -> None:
        self.server.send_headers(stream, [(":status", str(status)), *headers], end_stream=body is None)
        if body is not None:
            self.send(self.server, stream, body, end and not trailers)
        if trailers:
            self.server.send_headers(stream, trailers, end_stream=True)
        self.talk()

    def send(self, peer: H2Connection, stream: int, body: bytes, end: bool) -> None:
        while len(body) > 9000:
            peer.send_data(stream, body[:9000])
            body = body[9000:]
            self.talk()
            receiver = self.server if peer is self.client else self.client
            receiver.acknowledge_received_data(9000, stream)
            self.talk()
        peer.send_data(stream, body, end_stream=end)

    def unary(self, path: str, request: bytes, response: bytes, **extra: str) -> None:
        stream = self.ask(path, message(request), [*GRPC, *extra.items()])
        self.answer(stream, message(response), GRPC[:1], [("grpc-status", "0"), ("grpc-message", "")])


def message(data: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">?I", compressed, len(data)) + data


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hear(script: Script, **limits: int) -> tuple[Heard, Conversation, Counters]:
    heard, counters = Heard(**limits), Counters()
    conversation = Conversation(heard, counters)
    for now, (side, data) in enumerate(script, start=1):
        conversation.data(side, data, float(now))
    assert set(counters) <= {name for metric in METRICS for name in metric.samples}
    return heard, conversation, counters


def cut(script: Script, sizes: Sequence[int]) -> Script:
    """Every message in pieces, as often as ``sizes`` goes round."""
    pieces: Script = []
    turn = 0
    for side, data in script:
        start = 0
        while start < len(data):
            size = sizes[turn % len(sizes)]
            pieces.append((side, data[start : start + size]))
            start, turn = start + size, turn + 1
    return pieces


def everything() -> Script:
    """A little of all."""
    peers = Peers()
    plain = peers.ask(
        V1 + "?q=1", b'{"instances": [[1]]}', [("content-type", "application/json"), ("x-request-id", "a")]
    )
    call = peers.ask(V2, message(b"\x0a\x01m ask"), [*GRPC, ("grpc-encoding", "gzip")])
    peers.ask("/skip", b"skipped")
    peers.answer(call, message(b"reply"), GRPC[:1], [("grpc-status", "0")])
    peers.server.send_headers(plain, [(":status", "103"), ("content-type", "none")])
    peers.answer(plain, b"[1]", [("content-type", "text/plain")], [("content-type", "late")])
    failed = peers.ask(V2, message(COMPRESSED, True), [*GRPC, ("grpc-encoding", "gzip")])
    peers.answer(failed, None, [*GRPC[:1], ("grpc-status", "3"), ("grpc-message", "no%20such")])
    stream = peers.ask(STREAM, message(b"1"), GRPC, end=False)
    peers.server.send_headers(stream, [(":status", "200"), *GRPC[:1]])
    for number in (b"2", b"3"):
        peers.server.send_data(stream, message(b"re" + number))
        peers.client.send_data(stream, message(number), pad_length=7)
        peers.talk()
    peers.client.end_stream(stream)
    peers.server.send_data(stream, message(b"last") + message(b"", False))
    peers.server.send_headers(stream, [("grpc-status", "13"), ("grpc-message", "broken")], end_stream=True)
    peers.talk()
    peers.ask(V1, None)
    peers.answer(peers.ask(V1, b"x" * 12_000), b"y" * 12_000, status=503)
    return peers.script


def test_a_little_of_all() -> None:
    heard, conversation, counters = hear(everything())
    assert [told[3] for told in heard.of("request")] == [
        b'{"instances": [[1]]}',
        b"\x0a\x01m ask",
        COMPRESSED,
        b"1",
        b"2",
        b"3",
        b"",
        b"x" * 12_000,
    ]
    assert [told[2] for told in heard.of("request")][1:3] == ["m", "m"], "of the compressed message too"
    proto = {"content-type": "application/x-protobuf"}
    assert heard.of("response") == [
        ("r", 200, proto | {"grpc-status": "0"}, b"reply"),
        ("r", 200, {"content-type": "text/plain"}, b"[1]"),
        ("r", 400, proto | {"grpc-status": "3", "grpc-message": "no such"}, b""),
        ("r", 200, proto, b"re2"),
        ("r-2", 200, proto, b"re3"),
        ("r-3", 200, proto, b"last"),
        ("r-4", 200, proto, b""),
        ("r-5", 500, proto | {"grpc-status": "13", "grpc-message": "broken"}, b""),
        ("r", 503, {}, b"y" * 12_000),
    ]
    assert [told[0] for told in heard.of("request")] == ["r", "r", "r", "r", "r-2", "r-3", "r", "r"]
    assert conversation.state == TALKING
    assert conversation.open_messages == 0
    assert heard.holds_nothing
    assert not counters
    assert not heard.of("discard")


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        (V2, "inference", None),
        (STREAM, "inference", None),
        ("/seldon.protos.Seldon/Predict", "inference", None),
        ("/seldon.protos.Model/Predict", "inference", None),
        ("/seldon.protos.Model/SendFeedback", "feedback", None),
        ("/tensorflow.serving.PredictionService/Predict", "inference", None),
        ("/grpc.health.v1.Health/Check", None, "probe"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None, "probe"),
        ("/inference.GRPCInferenceService/ModelReady", None, "probe"),
        ("/inference.GRPCInferenceService/ServerLive", None, "probe"),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", None, "path"),
        ("/x" + V2, None, "path"),
    ],
)
def test_which_calls_are_inference(path: str, kind: str | None, reason: str | None) -> None:
    assert select("POST", path) == (kind, reason)


@pytest.mark.parametrize(
    ("protocol", "message", "encoding", "model"),
    [
        ("v2", b"\x0a\x04iris\x1a\x01i", "", "iris"),
        ("v2", gzip.compress(b"\x0a\x04iris" + bytes(10_000)), "gzip", "iris"),
        ("v2", zlib.compress(b"\x0a\x04iris"), "deflate", "iris"),
        ("tensorflow", b"\x0a\x08\x0a\x04iris\x1a\x00", "", "iris"),
        ("v2", b"\x0a\x04iri", "", ""),
        ("v2", b"\x1a\x01i", "", ""),
        ("v2", b"no gzip", "gzip", ""),
        ("v2", b"\x0a\x04iris", "snappy", ""),
        ("v2", b"", "", ""),
        ("seldon", b"\x0a\x04iris", "", ""),
    ],
)
def test_the_model_that_a_message_names(protocol: str, message: bytes, encoding: str, model: str) -> None:
    assert model_in_message(protocol, message, encoding) == model


EVERYTHING = everything()
WHOLE = hear(EVERYTHING)[0].told


@settings(deadline=None)  # some thousand pieces
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_split_anywhere_it_is_the_same(sizes: list[int]) -> None:
    heard, conversation, _ = hear(cut(EVERYTHING, sizes))
    assert heard.told == WHOLE
    assert conversation.open_messages == 0


@pytest.mark.parametrize("end", range(0, sum(len(data) for _, data in EVERYTHING), 997))
def test_cut_off_anywhere_everything_is_told_or_discarded(end: int) -> None:
    """What a whole connection tells is told before the end, or given up at it, and memory is free again."""
    script, left = [], end
    for side, data in EVERYTHING:
        script.append((side, data[:left]))
        left -= len(script[-1][1])
    heard, conversation, _ = hear([part for part in script if part[1]])
    begun = conversation.open_messages
    conversation.close()
    told, lost = len(heard.of("request")) + len(heard.of("response")), len(heard.of("discard"))
    assert lost <= begun <= lost + 1, "a response that waited for its status is told now"
    assert told <= len(WHOLE)
    assert {discard[1] for discard in heard.of("discard")} <= {"incomplete"}
    assert heard.holds_nothing
    assert conversation.open_messages == 0


@pytest.mark.parametrize("size", [0, 100, 4096, 65536])
def test_any_header_table_and_long_blocks(size: int) -> None:
    """The encoder uses the table that it was allowed; blocks longer than a frame continue."""
    peers = Peers(size)
    for number in range(60):
        extra = {f"x-{number}-{i}": "v" * 90 for i in range(number)} | {"x-request-id": f"id {number}"}
        peers.unary(V2, b"\x0a\x01m", b"reply", **extra)
    heard, conversation, _ = hear(cut(peers.script, [1000]))
    assert len(heard.of("request")) == len(heard.of("response")) == 60
    assert conversation.state == TALKING


names = st.sampled_from(["x-request-id", "content-type", "x-other", "authorization", ":path", "traceparent"])
values = st.one_of(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=200), st.just("r"))


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(names, values, st.booleans()), max_size=8),
            st.booleans(),
            st.sampled_from([None, 0, 70, 4096, 60_000]),
        ),
        max_size=12,
    )
)
def test_header_blocks_are_read_as_the_library_reads_them(lists: Any) -> None:
    encoder, library, blocks = Encoder(), Decoder(), HeaderBlocks()
    library.max_allowed_table_size = LARGEST_TABLE
    for fields, huffman, size in lists:
        if size is not None:
            encoder.header_table_size = size
        told = [NeverIndexedHeaderTuple(n, v) if secret else HeaderTuple(n, v) for n, v, secret in fields]
        block = encoder.encode(told, huffman=huffman)
        expected = dict(library.decode(block))
        head = blocks.decode(block)
        assert head.path == expected.pop(":path", "").partition("?")[0]
        assert head.headers == {n: v for n, v in expected.items() if n.encode() in WANTED}


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.binary(max_size=6).map(lambda b: b"\x40\x01x\x02" + b)), max_size=6)
)
def test_any_block_is_read_as_the_library_reads_it_or_refused(written: list[bytes]) -> None:
    library, blocks = Decoder(LARGEST_LIST), HeaderBlocks(frozenset({b"x"}))
    library.max_allowed_table_size = LARGEST_TABLE
    for block in written:
        try:
            expected = {name: value.decode("latin-1") for name, value in library.decode(block, raw=True)}
        except HPACKError:
            expected = None
        try:
            head = blocks.decode(block)
        except UnparsableError:
            assert expected is None
            return
        if expected is None:  # the value of a field that nobody wants is not looked into
            return
        assert head.headers.get("x") == expected.get(b"x")


def test_a_server_that_speaks_first() -> None:
    peers = Peers()
    peers.unary(V2, b"", b"")
    first = next(i for i, (side, _) in enumerate(peers.script) if side == UPSTREAM)
    script = [peers.script[first], *peers.script[:first], *peers.script[first + 1 :]]
    for split in (script, cut(script[:1], [1]) + cut(script[1:], [5])):
        heard, conversation, counters = hear(split)
        assert (len(heard.of("request")), len(heard.of("response"))) == (1, 1)
        assert conversation.state == TALKING
        assert not counters


@pytest.mark.parametrize(
    "script",
    [
        [(UPSTREAM, b"220 smtp")],
        [(UPSTREAM, frame(4, 0, 0, b"")), (CLIENT, b"GET / HTTP/1.1\r\n\r\n")],
        [(UPSTREAM, frame(4, 0, 0, b""))] * 8000,
    ],
)
def test_a_server_that_speaks_first_and_no_http2(script: Script) -> None:
    _, conversation, counters = hear(script)
    assert conversation.state == OPAQUE
    assert counters == {sample("unparsed_connections_total", reason="server_first"): 1}


def test_a_reset_ends_what_is_open() -> None:
    peers = Peers()
    streams = [
        peers.ask(V1, b"x", end=False),
        peers.ask(V2, message(b"1"), GRPC),
        peers.ask(V2, b"\0\0", GRPC, end=False),
    ]
    peers.answer(streams[1], message(b"whole")[:-1], GRPC[:1], end=False)
    peers.client.reset_stream(streams[0])
    peers.talk()
    peers.server.reset_stream(streams[1])
    peers.server.reset_stream(streams[2])
    peers.talk()
    peers.unary(V2, b"2", b"3")
    heard, conversation, _ = hear(peers.script)
    assert heard.told == [
        ("request", "r", V2, "", b"1"),
        ("discard", "request", "reset"),
        ("discard", "response", "reset"),
        ("discard", "request", "reset"),
        ("request", "r", V2, "", b"2"),
        (
            "response",
            "r",
            200,
            {"content-type": "application/x-protobuf", "grpc-status": "0"},
            b"3",
        ),
    ]
    assert conversation.open_messages == 0
    assert heard.holds_nothing


def test_goaway_gives_up_what_the_server_will_not_answer() -> None:
    peers = Peers()
    kept, refused = peers.ask(V1, b"1"), peers.ask(V1, b"2", end=False)
    peers.script.append((UPSTREAM, frame(7, 0, 0, struct.pack(">II", kept, 0))))
    peers.answer(kept, b"answer")
    heard, conversation, _ = hear(peers.script)
    assert refused > kept
    assert [told[0] for told in heard.told] == ["request", "discard", "response"]
    assert conversation.open_messages == 0


def test_an_answer_before_the_request_is_whole() -> None:
    peers = Peers()
    stream = peers.ask(V1, b"x", end=False)
    peers.answer(stream, b"no", status=413)
    peers.client.reset_stream(stream)
    peers.talk()
    heard, _, _ = hear(peers.script)
    assert heard.told == [("response", "r", 413, {}, b"no"), ("discard", "request", "reset")]


def test_a_pushed_response_is_nobodys() -> None:
    peers = Peers()
    stream = peers.ask("/skip", None)
    peers.server.push_stream(stream, 2, [(":method", "GET"), (":path", V1), (":scheme", "http"), (":authority", "x")])
    peers.answer(2, b"pushed", [("x-request-id", "pushed")])
    peers.answer(stream, b"skipped")
    peers.unary(V2, b"1", b"2", **{"x-request-id": "pushed"})
    heard, _, _ = hear(peers.script)
    assert [told[0] for told in heard.told] == ["request", "response"]


def test_a_proxys_answer_to_a_call_is_taken_as_it_is() -> None:
    peers = Peers()
    peers.answer(peers.ask(V2, message(b"1"), GRPC), b"<html>", [("content-type", "text/html")], status=502)
    heard, _, _ = hear(peers.script)
    assert heard.of("response") == [("r", 502, {"content-type": "text/html"}, b"<html>")]


def test_more_calls_than_are_followed() -> None:
    encoder = Encoder()
    block = encoder.encode([(":method", "POST"), (":path", V1)])
    repeated = encoder.encode([(":method", "POST"), (":path", V1)])
    frames = b"".join(frame(1, 4, 2 * i + 1, repeated if i else block) for i in range(MAX_STREAMS + 5))
    heard, conversation, _ = hear([(CLIENT, PREFACE + frames)])
    assert heard.told == [("discard", "request", "streams")] * 5
    assert conversation.open_messages == MAX_STREAMS
    conversation.close()
    assert len(heard.told) == MAX_STREAMS + 5


def test_more_unanswered_messages_than_are_remembered() -> None:
    """Requests and responses still find each other by their number."""
    peers = Peers()
    stream = peers.ask(STREAM, b"".join(message(b"%d" % i) for i in range(200)), GRPC)
    peers.answer(stream, b"".join(message(b"%d" % i) for i in range(200)), GRPC[:1], [("grpc-status", "0")])
    heard, _, _ = hear(peers.script)
    asked = {told[0]: told[3] for told in heard.of("request")}
    assert len(asked) == 200
    assert asked == {told[0]: told[3] for told in heard.of("response")}


def test_long_messages_are_cut() -> None:
    peers = Peers()
    peers.unary(V2, b"a" * 30_000, b"b" * 30_000)
    heard, _, _ = hear(peers.script, max_body=100)
    assert [told[-1] for told in heard.told] == [b"a" * 100, b"b" * 100]
    assert heard.holds_nothing


def test_a_stream_without_a_length_is_told_when_it_is_full() -> None:
    peers = Peers()
    stream = peers.ask(V1, b"{}")
    peers.answer(stream, b"data: 1\n\n" * 30, [("content-type", "text/event-stream")], end=False)
    heard, conversation, _ = hear(peers.script, max_body=100)
    assert [told[-1] for told in heard.told] == [b"{}", (b"data: 1\n\n" * 30)[:100]]
    conversation.close()
    assert len(heard.told) == 2


def test_a_failing_recorder_costs_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers()
    peers.unary(V2, b"1", b"2")
    heard, counters = Heard(), Counters()
    heard.begin = lambda _: 1 / 0  # type: ignore[assignment,method-assign]
    conversation = Conversation(heard, counters)
    for side, data in peers.script:
        conversation.data(side, data, 1.0)
    assert conversation.state == OPAQUE
    assert counters == {sample("unparsed_connections_total", reason="internal"): 1}
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("unpaired", [False, True])
def test_one_event_of_both_messages(unpaired: bool) -> None:
    """Combined, a message without its counterpart becomes an event alone: lost, not answered, or not asked."""
    peers = Peers()
    peers.unary(V2, b"q", b"a")
    peers.ask(V2, message(b"unanswered"), GRPC)
    stream = peers.ask(STREAM, message(b"q1") + message(b"q2"), GRPC)
    peers.answer(stream, b"".join(message(b"a%d" % i) for i in (1, 2, 3)), GRPC[:1], [("grpc-status", "0")])
    lost = peers.ask(V2, message(b"q"), GRPC)
    peers.answer(lost, message(b"lost"), GRPC[:1], [("grpc-status", "0")])
    script = with_holes(peers.script, [False] * 6 + [True]) if unpaired else peers.script
    records, counters = record(script, combined=True)
    bodies = []
    for told in records:
        parts = json.loads(told.value or b"")
        bodies.append(
            tuple(base64.b64decode(parts[side]["data_base64"]) for side in ("request", "response") if side in parts)
        )
    expected = [(b"q", b"a"), (b"q1", b"a1"), (b"q2", b"a2"), (b"a3",), (b"unanswered",)]
    lost_answer = [(b"q",)] if unpaired else [(b"q", b"lost")]
    assert sorted(bodies) == sorted(expected + lost_answer)
    assert counters[sample("discarded_messages_total", reason="gap")] == unpaired


def named_call(peers: Peers, model: bytes, request_id: str, answer: bytes = b"a") -> None:
    """A unary call whose message names the model, as V2's do."""
    name = b"\x0a" + bytes([len(model)]) + model
    peers.unary(V2, name + b"\x1a\x01q", answer, **{"x-request-id": request_id, "x-user": "grace"})


def record(script: Holes | Script, **plan: Any) -> tuple[list[Record], Counters]:
    records: list[Record] = []
    counters = Counters()
    recorder = Recorder(Shipping("http://s", **plan), records.append, counters, lambda: 0.0, b"k" * 16)
    conversation = Conversation(recorder, counters)
    for side, data in script:
        if isinstance(data, int):
            conversation.hole(side, data, 1.0)
        else:
            conversation.data(side, data, 1.0)
    conversation.close()
    assert recorder.memory.take(Shipping("").held), "nothing is held"
    return records, counters


@pytest.mark.parametrize("combined", [False, True])
def test_rates_of_the_model_that_a_message_names(combined: bool) -> None:
    peers = Peers()
    for number in range(40):
        named_call(peers, b"fraud" if number % 2 else b"spam", f"r-{number}")
    rules = (SampleRule("spam", "", 0.0), SampleRule("fraud", "", 0.5))
    records, counters = record(peers.script, sample=1.0, sample_rules=rules, combined=combined)
    kept = [number for number in range(1, 40, 2) if place(f"r-{number}") < 0.5]
    events = 1 if combined else 2
    assert [told.headers["ce_requestid"] for told in records] == [f"r-{n}" for n in kept for _ in range(events)]
    assert {(told.headers["ce_modelid"], told.headers["ce_samplerate"]) for told in records} == {("fraud", "0.5")}
    assert counters[sample("skipped_total", reason="sampled")] == 40 - len(kept)
    side = "exchange" if combined else "request"
    assert counters[sample("sampled_out_total", side=side)] == 40 - len(kept)


def test_a_rate_of_one_side_of_a_named_model() -> None:
    peers = Peers()
    named_call(peers, b"fraud", "r-1")
    named_call(peers, b"spam", "r-2")
    records, _ = record(peers.script, sample_rules=(SampleRule("fraud", "response", 0.0),))
    told = [(one.headers["ce_requestid"], one.headers["ce_type"].rpartition(".")[2]) for one in records]
    assert told == [("r-1", "request"), ("r-2", "request"), ("r-2", "response")]


def test_a_streaming_call_is_sampled_as_a_whole() -> None:
    peers = Peers()
    asked = b"".join(message(b"\x0a\x04spam" + body) for body in (b"1", b"2", b"3"))
    peers.answer(peers.ask(STREAM, asked, GRPC), message(b"a") * 3, GRPC[:1], [("grpc-status", "0")])
    records, counters = record(peers.script, sample_rules=(SampleRule("spam", "", 0.0),))
    assert records == []
    assert counters == {
        sample("skipped_total", reason="sampled"): 1,
        sample("sampled_out_total", side="request"): 1,
        sample("sampled_out_total", side="response"): 1,
    }


def test_an_answer_before_the_model_is_named_has_the_rate_of_all() -> None:
    peers = Peers()
    stream = peers.ask(V2, message(b"\x0a\x04spam")[:7], GRPC, end=False)
    peers.answer(stream, None, [*GRPC[:1], ("grpc-status", "16"), ("grpc-message", "who are you")])
    rules = (SampleRule("spam", "", 0.0),)
    records, _ = record(peers.script, sample_rules=rules)
    assert [told.headers["ce_grpcstatus"] for told in records] == ["16"]
    assert record(peers.script, sample=0.0, sample_rules=(SampleRule("spam", "", 1.0),))[0] == []


@pytest.mark.parametrize("named", [True, False])
def test_rules_of_the_model_that_a_message_names(named: bool) -> None:
    """What names no model may be any: the rules of all hold."""
    rule = RedactRule("header", "x-user", "hash", "fraud")
    pointer = RedactRule("pointer", "/secret", "drop", "fraud")
    peers = Peers()
    named_call(peers, b"fraud", "r-1")
    if named:
        named_call(peers, b"spam", "r-2")
    else:
        peers.unary(V2, b"\x1a\x01q", b"a", **{"x-user": "grace"})
    records, _ = record(peers.script, redact=(rule, pointer), headers=("x-user",))
    hidden = [
        ("grace" not in one.headers.get("ce_metadata", ""), one.headers.get("ce_redacted", "")) for one in records
    ]
    assert hidden == [(True, "withheld")] * 2 + ([(False, ""), (True, "")] if named else [(True, "withheld")] * 2)


Holes = list[tuple[int, "bytes | int"]]


def with_holes(script: Script, left_out: Sequence[bool]) -> Holes:
    """The script without some of its DATA: numbers are bytes that are missing."""
    made: Holes = []
    turn = 0
    for side, data in script:
        at = len(PREFACE) if data.startswith(PREFACE) else 0
        kept = data[:at]
        while at < len(data):
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + 9 + length
            kept += data[at : at + 9]
            gone = data[at + 3] == DATA and length and left_out[turn % len(left_out)]
            turn += data[at + 3] == DATA
            if gone:
                made += [(side, kept), (side, length)]
                kept = b""
            else:
                kept += data[at + 9 : end]
            at = end
        if kept:
            made.append((side, kept))
    return made


def hear_holes(script: Holes) -> tuple[Heard, Conversation, Counters]:
    heard, counters = Heard(50_000), Counters()
    conversation = Conversation(heard, counters)
    for now, (side, data) in enumerate(script, start=1):
        if isinstance(data, int):
            conversation.hole(side, data, float(now))
        else:
            conversation.data(side, data, float(now))
    return heard, conversation, counters


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_without_some_data_the_rest_is_the_same(left_out: list[bool]) -> None:
    """Each message of a unary call is told as it was or counted as lost; one in two halves is lost once."""
    peers = Peers()
    sizes = (0, 1, 9, 8_000, 20_000)
    for number, size in enumerate(sizes):
        peers.unary(V2, b"%d" % number + b"q" * size, b"%d" % number + b"a" * size, **{"x-request-id": f"{number}"})
        peers.answer(peers.ask(V1, b"%d" % number + b"q" * size), b"%d" % number + b"a" * size)
    whole = hear(peers.script, max_body=50_000)[0].told
    heard, conversation, counters = hear_holes(with_holes(peers.script, left_out))
    told = [event for event in heard.told if event[0] != "discard"]
    bodies = {event[-1] for event in whole}
    assert all(event[-1] in bodies or len(event[-1]) == 20_000 for event in told)
    assert len(told) + len(heard.of("discard")) == len(whole) == 4 * len(sizes)
    assert {discard[1] for discard in heard.of("discard")} <= {"gap"}
    assert conversation.state == TALKING
    assert conversation.open_messages == 0
    assert not counters
    assert heard.holds_nothing


def test_a_streaming_call_goes_on_behind_a_hole_but_pairs_no_more() -> None:
    peers = Peers()
    stream = peers.ask(STREAM, message(b"q1"), GRPC, end=False)
    peers.server.send_headers(stream, [(":status", "200"), *GRPC[:1]])
    for number in range(1, 6):
        peers.server.send_data(stream, message(b"a%d" % number))
        peers.client.send_data(stream, message(b"q%d" % (number + 1)))
        peers.talk()
    heard, _, _ = hear_holes(with_holes(peers.script, [False, False, False, True, False]))
    ids = {told[0]: told[3] for told in heard.of("request")}, {told[0]: told[3] for told in heard.of("response")}
    assert all(ids[0][i][1:] == ids[1][i][1:] for i in ids[0].keys() & ids[1].keys()), ids
    assert len(heard.told) == 11
    assert len(heard.of("discard")) == 2


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_holes_where_there_is_no_data(size: int) -> None:
    peers = Peers()
    peers.unary(V2, b"1", b"2")
    _, conversation, counters = hear_holes([*peers.script, (CLIENT, size)])
    assert conversation.state == OPAQUE
    assert counters == {sample("unparsed_connections_total", reason="malformed"): 1}
    assert hear_holes([(CLIENT, size), *peers.script])[1].state == LOST


def test_a_gap_is_the_end() -> None:
    peers = Peers()
    peers.ask(V2, message(b"1"), GRPC, end=False)
    heard, conversation, counters = hear(peers.script)
    conversation.gap(CLIENT)
    for side, data in [*peers.script, (CLIENT, b"POST / HTTP/1.1\r\n\r\n")]:
        conversation.data(side, data, 1.0)
    conversation.hole(CLIENT, 3, 1.0)
    assert conversation.state == LOST
    assert [told[0] for told in heard.told] == ["request"], "the request was whole; the response had not begun"
    assert counters[sample("unparsed_connections_total", reason="http2_gap")] == 1
    assert counters[sample("dropped_frames_total", reason="resync")] == len(peers.script) + 2


MALFORMED = {
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx",
    "block": PREFACE + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    "index": PREFACE + frame(1, 4, 1, b"\xfe"),
    "cut block": PREFACE + frame(1, 4, 1, b"\x40\x7f"),
    "table": PREFACE + frame(1, 4, 1, b"\x3f\xe1\xff\x1f"),
    "long frame": PREFACE + frame(1, 4, 1, bytes(LONGEST + 1)),
    "endless block": PREFACE + frame(1, 0, 1, b"") + frame(CONTINUATION, 0, 1, bytes(16_000)) * 5,
    "bomb": PREFACE + frame(1, 4, 1, b"\x40\x01x\x7f\x81\x1f" + b"a" * 4000 + b"\xbe" * 10_000),
    "continuation of nothing": PREFACE + frame(CONTINUATION, 4, 1, b""),
    "frame inside a block": PREFACE + frame(1, 0, 1, b"") + frame(DATA, 0, 1, b"x"),
    "padding of a block": PREFACE + frame(1, 4 | 8, 1, b"\x09\x82"),
    "no padding of a block": PREFACE + frame(1, 4 | 8, 1, b""),
    "padding of data": PREFACE + frame(DATA, 8, 1, b"\x09x"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_counted_and_left_alone(data: bytes) -> None:
    for script in ([(CLIENT, data)], cut([(CLIENT, data)], [7])):
        _, conversation, counters = hear([*script, (UPSTREAM, b"x"), (CLIENT, b"x")])
        assert conversation.state == OPAQUE
        assert counters == {sample("unparsed_connections_total", reason="malformed"): 1}


wild = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.integers(0, 9),
    st.one_of(st.binary(max_size=60), st.just(b"\x83\x44\x04/skp"), st.binary(max_size=20).map(message)),
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([CLIENT, UPSTREAM]), st.one_of(wild, st.binary(max_size=40)), st.booleans())),
    st.integers(0, len(EVERYTHING)),
)
def test_any_frames_and_bytes_raise_nothing_else(parts: list[tuple[int, bytes, bool]], known: int) -> None:
    """Behind the beginning of a good connection too; whatever comes, memory is given back."""
    heard = Heard()
    parser = Http2(heard)
    script = [*EVERYTHING[: max(known, 1)], *((side, data * (5 if often else 1)) for side, data, often in parts)]
    failed: UnparsableError | None = None
    try:
        for side, data in script:
            parser.feed(side, data, 1.0)
            assert parser.open_messages >= 0
    except UnparsableError as error:
        failed = error
    assert failed is None or (failed.lasting and failed.reason == "malformed")
    parser.abandon("gap")
    assert parser.open_messages == 0
    assert heard.holds_nothing
