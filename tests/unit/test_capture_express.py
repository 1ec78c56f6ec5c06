"""The short way from bytes to records: it is taken, and it leads where the long way leads."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.capture.conversation import Conversation
from monitor.capture.express import Express
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.http1_forms import FIRST_CREDIT, MOST_FORMS, MOST_STARTS, Forms
from monitor.capture.metrics import Counters
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.transport.base import Record
from monitor.transport.cloudevent_http import decode_value
from monitor.transport.http_request import Endpoint, Requests
from sinks.records import Patterned

Script = list[tuple[int, bytes]]

PATH = "/v1/models/income:predict"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def hear(kind: type[Recorder], script: Script, **plan: Any) -> tuple[list[Record], Counters]:
    records: list[Record] = []
    counters = Counters()
    recorder = kind(Shipping("http://here", **plan), records.append, counters, lambda: 1_700_000_000.0)
    conversation = Conversation(recorder, counters)
    for number, (side, data) in enumerate(script):
        conversation.data(side, data, number / 8)
    assert conversation.open_messages >= 0
    conversation.close()
    assert recorder.memory.take(Shipping("").held), "bytes held after the end"
    return records, counters


def comparable(records: list[Record], script: Script) -> list[tuple[dict[str, str], bytes | None, str | None, float]]:
    """All but what is made by chance: event ids, and request ids where the client gave none."""
    said = b"".join(data for _, data in script)
    told = []
    for record in records:
        headers = dict(record.headers)
        del headers["ce_id"]
        if headers["ce_requestid"].encode() not in said:
            assert headers.get("ce_partitionkey") == record.key
            headers["ce_requestid"] = "made"
            if record.key == record.headers["ce_requestid"]:
                headers["ce_partitionkey"] = "made"
        told.append((headers, record.value, headers["ce_partitionkey"], record.timestamp))
    return told


def same(script: Script, **plan: Any) -> list[Record]:
    short, long = hear(Express, script, **plan), hear(Recorder, script, **plan)
    assert comparable(short[0], script) == comparable(long[0], script)
    assert short[1] == long[1]
    assert len({record.headers["ce_id"] for record in short[0]}) == len(short[0])
    return short[0]


def request(*lines: str, body: bytes = b"{}", path: str = PATH, length: str | None = None) -> tuple[int, bytes]:
    told = f"content-length: {len(body)}" if length is None else length
    return CLIENT, "\r\n".join((f"POST {path} HTTP/1.1", *lines, told, "", "")).encode("latin-1") + body


def response(*lines: str, body: bytes = b"[]", start: str = "HTTP/1.1 200 OK") -> tuple[int, bytes]:
    return UPSTREAM, "\r\n".join((start, *lines, f"Content-Length: {len(body)}", "", "")).encode("latin-1") + body


def test_what_is_like_before_takes_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = [
        request("Host: a", "Content-Type: application/json", "X-Request-Id: r-1"),
        response("Content-Type: application/json", "Date: today"),
    ]
    script = [
        *usual,
        request("Host: b", "Content-Type: application/json", "X-Request-Id: r-2", body=b"[1, 2]"),
        response("Content-Type: application/json", "Date: tomorrow", body=b""),
        *pieces(request("Host: c", "Content-Type: application/json", "X-Request-Id: r-3", body=b"[3, 4]"), 100),
        *pieces(response("Content-Type: application/json", "Date: never", body=b"[5, 6]"), 98),
    ]
    same(script)
    fed = []

    class Spy:
        def __init__(self, of: Any, callbacks: Any) -> None:
            self._parser = of(callbacks)

        def feed_data(self, data: bytes) -> None:
            fed.append(data)
            self._parser.feed_data(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._parser, name)

    for name in ("HttpRequestParser", "HttpResponseParser"):
        real = getattr(httptools, name)
        monkeypatch.setattr(httptools, name, lambda callbacks, real=real: Spy(real, callbacks))
    records, _ = hear(Express, script)
    assert fed == [data for _, data in usual]
    assert [record.value for record in records[2:]] == [b"[1, 2]", b"", b"[3, 4]", b"[5, 6]"]


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"key": "request"},
        {"types": "seldon", "endpoint": "canary", "namespace": "ns"},
        {"mode": "request"},
        {"combined": True},
        {"sample": 0.5},
        {"headers": ("host",)},
        {"include": ("/other", "inference"), "exclude": ("/v1/models/secret*",)},
        {"max_body": 4},
    ],
)
def test_every_plan(plan: dict[str, Any]) -> None:
    same(
        [
            step
            for number in range(4)
            for path in (PATH, PATH + "?a=1", "/v1/models/secret:predict", "/other", "/api/v1.0/feedback", "/none")
            for step in (
                request("Host: a", f"X-Request-Id: r-{number}", body=b"12345" * number, path=path),
                response("Content-Type: text/plain", body=b"6789" * number),
            )
        ],
        **plan,
    )


def pieces(step: tuple[int, bytes], at: int) -> Script:
    """A chunk in two: ``at`` so many percent, 100 for the end of its head."""
    side, data = step
    cut = data.index(b"\r\n\r\n") + 4 if at == 100 else len(data) * at // 100
    return [(side, data[:cut]), (side, data[cut:])]


OFFER = (CLIENT, b"GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")

LINES = st.sampled_from(
    [
        "Host: a",
        "Host: another",
        "X-Request-Id: r-1",
        "X-Request-Id: " + "r" * 300,
        "X-Request-Id: a b ",
        "x-request-id: é",
        "Ce-Id: e-1",
        "X-Request-Id:",
        "X-Request-Id:no-space",
        f"Traceparent: {TRACE}",
        "Tracestate: a=1,b=2",
        "Content-Type: application/json",
        "Content-Type: text/plain; charset=x",
        "Content-Encoding: gzip",
        "Inference-Header-Content-Length: 12",
        "Seldon-Skip-Logging: true",
        "Seldon-Skip-Logging: false",
        "Connection: keep-alive",
        "Connection: close",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "Content-Length: 2",
        "Content-Length: 1",
        "X-Odd: \x01",
        "X-Odd: a\nb",
        "X Odd: a",
        " folded",
        "X-Odd: \x80\xff\t",
    ]
)
HEAD = st.lists(LINES, max_size=4).map(tuple)
STARTS = st.sampled_from(
    ["HTTP/1.1 200 OK", "HTTP/1.1 500 No", "HTTP/1.1 204 No", "HTTP/1.0 200 OK", "HTTP/1.1 100 Go on", "HTTP/1.1 304 X"]
)
PATHS = st.sampled_from([PATH, "/v2/models/m/infer", "/v2/models/m/infer?x=é", "/none"])


@st.composite
def conversations(draw: st.DrawFn) -> Script:
    """Some kinds of exchanges, each several times, in whole chunks or in pieces, paired or pipelined."""
    asked = st.builds(request_of, HEAD, PATHS, st.binary(max_size=4))
    answered = st.builds(response_of, HEAD, STARTS, st.binary(max_size=4))
    kinds = draw(st.lists(st.tuples(asked, answered), min_size=1, max_size=3))
    script: Script = []
    for _ in range(draw(st.integers(1, 6))):
        one, other = draw(st.sampled_from(kinds))
        steps = draw(st.sampled_from([[one, other], [one, one, other, other], [other], [one]]))
        for side, data in steps:
            cut = draw(st.integers(0, len(data)))
            pieces = [data] if draw(st.booleans()) else [data[:cut], data[cut:]]
            script += [(side, piece) for piece in pieces if piece]
    return script


def request_of(lines: tuple[str, ...], path: str, body: bytes) -> tuple[int, bytes]:
    return request(*lines, path=path, body=body)


def response_of(lines: tuple[str, ...], start: str, body: bytes) -> tuple[int, bytes]:
    return response(*lines, start=start, body=body)


@settings(deadline=None)  # a form's first message takes longer
@given(conversations())
@example([request(), response(), request("Connection: close"), response(), request(), response()])
@example([request(), response(), request(), response("Connection: close"), request(), response()])
@example([request(), response(), OFFER, request(), response(start="HTTP/1.1 404 No"), response()])
@example([request(), response(), OFFER, response(start="HTTP/1.1 404 No"), request(), response()])
@example([request(), response(start="HTTP/1.0 200 OK"), request(), response()] * 2)
@example([request(), response(), (CLIENT, request()[1] * 2), response(), response()])
@example([request(), response(), request(), response(start="HTTP/1.1 103 Early"), response()])
@example([request(), response(), *pieces(request(), 3), *pieces(response(), 2), *pieces(request(), 90)])
@example([request(), response(), pieces(request(), 100)[0], response(), pieces(request(), 100)[1], response()])
@example([request(), response(), request(), pieces(response(), 50)[0], request(), pieces(response(), 50)[1]])
@example([request(), response(), (CLIENT, pieces(request(), 100)[0][1]), (CLIENT, b"{}" + request()[1]), response()])
@example([request(f"Traceparent: {TRACE}", "Tracestate: a=1"), response()] * 3)
@example([request("Tracestate: a=1"), response()] * 3)
@example([request(), response(), (CLIENT, b"HEAD /v1 HTTP/1.1\r\n\r\n"), response(body=b"")] * 2)
@example([request(), response(), (CLIENT, b"CONNECT a:1 HTTP/1.1\r\n\r\n"), response(body=b"")] * 2)
def test_both_ways_lead_to_the_same(script: Script) -> None:
    same(script)


def test_learning_is_bounded() -> None:
    """By paths, by forms of one path, and by how many there may be in a time."""
    forms = Forms(frozenset())
    for number in range(int(FIRST_CREDIT) * 2):
        forms.learn(CLIENT, request(path=f"/{number}")[1])
    assert sum(map(len, forms._forms.values())) < FIRST_CREDIT
    assert len(forms._forms) <= MOST_STARTS
    forms = Forms(frozenset())
    for number in range(20):
        forms.learn(CLIENT, request(f"X-{number}: a")[1])
    assert [len(known) for known in forms._forms.values()] == [MOST_FORMS]
    assert forms.find(request("X-19: b")[1])
    assert not forms.find(request("X-0: b")[1])


@settings(deadline=None)
@given(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20),
    st.sampled_from(["text/plain", 'a/b; c="d%e"', "é"]),
    st.sampled_from(["http://here/%41", "http://here"]),
)
def test_both_write_the_same_request(identity: str, content_type: str, source: str) -> None:
    lines = (f"X-Request-Id: {identity}", f"Content-Type: {content_type}", f"Traceparent: {TRACE}")
    records: list[Record] = []
    recorder = Express(Shipping(source), records.append, Counters(), lambda: 1_700_000_000.0)
    conversation = Conversation(recorder, Counters())
    for _ in range(2):
        conversation.data(*request(*lines), 1.0)
        conversation.data(*response(*lines[1:]), 1.5)
    requests = Requests(Endpoint.parse("http://broker/100%25"))
    for record in records:
        short, long = requests.encode(record), requests.encode(record._replace(headers=dict(record.headers)))
        assert sorted(short.split(b"\r\n")) == sorted(long.split(b"\r\n"))
        assert short.split(b"\r\n\r\n", 1)[1] == record.value
        assert b"\r\nce-id: " in short


def test_a_pattern_does_not_hide_what_was_added() -> None:
    records: list[Record] = []
    conversation = Conversation(Express(Shipping("s"), records.append, Counters(), lambda: 0.0), Counters())
    for _ in range(2):
        conversation.data(*request(), 1.0)
        conversation.data(*response(), 1.5)
    headers = records[-1].headers
    assert isinstance(headers, Patterned)
    headers["ce_dataref"] = "sha256/x"
    written = Requests(Endpoint.parse("http://broker/")).encode(records[-1])
    fields = dict(line.split(b": ", 1) for line in written.split(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    assert decode_value(fields[b"ce-dataref"]) == "sha256/x"
