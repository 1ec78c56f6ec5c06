"""What is captured: paths, sides, samples, and request and response as one event."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.capture.conversation import Conversation
from monitor.capture.exchange import Exchange, Memory
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import METRICS, Counters, sample
from monitor.capture.plan import Address, Plan, Shipping
from monitor.capture.record import Recorder
from monitor.capture.rules import RedactRule, SampleRule
from monitor.capture.sampling import place
from monitor.capture.selection import selector
from monitor.codecs.combined import split
from monitor.events import Delivery, InvalidEvent, payload_event
from sinks.base import Record

PREDICT = "/v1/models/income:predict"
LENGTH = "Inference-Header-Content-Length"


class Capturing:
    """A connection's bytes to records, with a plan of one's own."""

    def __init__(self, **plan: Any) -> None:
        self.records: list[Record] = []
        self.counters = Counters()
        self.recorder = Recorder(Shipping("http://here", **plan), self.records.append, self.counters, lambda: 1e9)
        self.conversation = Conversation(self.recorder, self.counters)

    def request(self, path: str = PREDICT, head: str = "", body: bytes = b"{}", method: str = "POST") -> None:
        start = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}\r\n"
        self.conversation.data(CLIENT, start.encode("latin-1") + body, 0.25)

    def response(self, head: str = "", body: bytes = b"[]", status: int = 200) -> None:
        start = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n"
        self.conversation.data(UPSTREAM, start.encode("latin-1") + body, 0.5)

    def exchange(self, path: str = PREDICT, head: str = "", method: str = "POST") -> list[Record]:
        before = len(self.records)
        self.request(path, head, method=method)
        self.response()
        assert set(self.counters) <= {name for metric in METRICS for name in metric.samples}
        return self.records[before:]

    def skipped(self, reason: str) -> int:
        return self.counters[sample("skipped_total", reason=reason)]


def side(record: Record) -> str:
    return record.headers["ce_type"].rpartition(".")[2]


class TestPaths:
    @pytest.mark.parametrize(
        ("include", "exclude", "path", "method", "told"),
        [
            (["inference"], ["/v1/models/test-*"], PREDICT, "POST", ("inference", None)),
            (["inference"], ["/v1/models/test-*"], "/v1/models/test-1:predict", "POST", (None, "excluded")),
            (["inference"], ["*"], "/metrics", "GET", (None, "probe")),
            (["inference", "/score"], [], "/score", "PUT", ("inference", None)),
            (["inference", "/score"], [], "/score", "GET", (None, "method")),
            (["inference", "/score"], [], "/Score", "POST", (None, "path")),
            (["inference", "/score"], ["/score"], "/score", "POST", (None, "excluded")),
            (["/score"], [], PREDICT, "POST", (None, "path")),
            (["*:explain"], [], "/v1/models/m:explain", "POST", ("inference", None)),
            (["*"], [], "/a/b/c", "PATCH", ("inference", None)),
            (["*"], [], "/api/v1.0/feedback", "POST", ("feedback", None)),
            (["/v?/models/[ab]*"], [], "/v2/models/b1/infer", "POST", ("inference", None)),
            (["/v?/models/[ab]*"], [], "/v2/models/c1/infer", "POST", (None, "path")),
        ],
    )
    def test_patterns(self, include: list[str], exclude: list[str], path: str, method: str, told: Any) -> None:
        assert selector(include, exclude)(method, path) == told

    def test_what_is_excluded_is_counted(self) -> None:
        capturing = Capturing(exclude=("*income*",))
        assert capturing.exchange() == []
        assert capturing.counters == {sample("skipped_total", reason="excluded"): 1}
        assert len(capturing.exchange("/v1/models/movie:predict")) == 2

    def test_a_skip_header_goes_before_a_pattern(self) -> None:
        capturing = Capturing(include=("*",))
        assert capturing.exchange("/x", "Seldon-Skip-Logging: true\r\n") == []
        assert capturing.skipped("header") == 1


class TestSampling:
    def test_the_documented_algorithm(self) -> None:
        bits = int.from_bytes(hashlib.sha256(b"r-1").digest(), "big") >> (256 - 53)
        assert place("r-1") == bits / 2**53

    @given(st.text(max_size=50))
    def test_every_place_is_between_0_and_1(self, request_id: str) -> None:
        assert 0.0 <= place(request_id) < 1.0

    @given(st.floats(0.05, 0.95), st.sampled_from(["{}", "req-{:08d}", "4bf92f35-77b3-{:04x}"]), st.integers(0, 10**6))
    @settings(max_examples=40)
    def test_the_share_is_the_rate(self, rate: float, form: str, start: int) -> None:
        """Of 2,000 ids as people make them; five standard deviations of a binomial share, and one id."""
        taken = sum(place(form.format(start + i)) < rate for i in range(2000))
        assert abs(taken / 2000 - rate) < 5 * (rate * (1 - rate) / 2000) ** 0.5 + 1 / 2000

    @given(st.lists(st.text("abcdef0123456789-", min_size=1), max_size=20), st.floats(0, 1), st.floats(0, 1))
    def test_sides_and_replicas_agree(self, ids: list[str], one: float, other: float) -> None:
        rules = (SampleRule("income", "response", other),)
        replicas = [Capturing(sample=one, sample_rules=rules) for _ in range(2)]
        for request_id in ids:
            kept = [[side(r) for r in c.exchange(head=f"X-Request-Id: {request_id}\r\n")] for c in replicas]
            assert kept[0] == kept[1]
            expected = (("request", one), ("response", other))
            assert kept[0] == [name for name, rate in expected if rate >= 1 or place(request_id) < rate]

    def test_what_is_left_out_is_counted(self) -> None:
        capturing = Capturing(sample=0.5, sample_rules=(SampleRule("*", "response", 0.25),))
        for i in range(200):
            capturing.exchange(head=f"X-Request-Id: {i}\r\n")
        kept = {name: [r for r in capturing.records if side(r) == name] for name in ("request", "response")}
        for name, rate in (("request", "0.5"), ("response", "0.25")):
            assert len(kept[name]) + capturing.counters[sample("sampled_out_total", side=name)] == 200
            assert {r.headers["ce_samplerate"] for r in kept[name]} == {rate}
            assert {r.headers["ce_sampledrate"] for r in kept[name]} == {str(round(1 / float(rate)))}
        assert capturing.skipped("sampled") == 200 - len(kept["request"])
        assert not {r.headers["ce_requestid"] for r in kept["response"]} - {
            r.headers["ce_requestid"] for r in kept["request"]
        }

    def test_models_have_their_own_rates(self) -> None:
        rules = (SampleRule("movie*", "", 0.0), SampleRule("*", "", 1.0))
        capturing = Capturing(sample=0.5, sample_rules=rules)
        assert capturing.exchange("/v2/models/movie-1/infer") == []
        (request, _) = capturing.exchange()
        assert "ce_samplerate" not in request.headers

    def test_what_is_left_out_holds_no_memory_and_is_no_loss(self) -> None:
        capturing = Capturing(sample=0.0, held=10)
        capturing.request(body=b"x" * 10)
        assert capturing.recorder.memory.take(10)
        capturing.conversation.close()
        assert sum(n for name, n in capturing.counters.items() if "discarded" in name) == 0

    def test_mode_and_sampling_together(self) -> None:
        capturing = Capturing(mode="response", sample=0.0)
        assert capturing.exchange() == []
        assert capturing.counters == {
            sample("sampled_out_total", side="response"): 1,
            sample("skipped_total", reason="sampled"): 1,
        }


class TestCombined:
    def one(self, **plan: Any) -> tuple[Capturing, Record]:
        capturing = Capturing(combined=True, **plan)
        capturing.request(head="Content-Type: application/json\r\nX-Request-Id: r\r\n", body=b'{"instances": [[1]]}')
        assert capturing.records == []
        assert capturing.conversation.open_messages == 1, "lost, if the shipper dies now"
        capturing.response("Content-Type: text/plain\r\nContent-Encoding: br\r\n", b"\x00\xff", 500)
        (record,) = capturing.records
        assert capturing.conversation.open_messages == 0
        return capturing, record

    def test_one_event(self) -> None:
        capturing, record = self.one()
        assert record.value == (
            b'{"request":{"datacontenttype":"application/json","data":{"instances": [[1]]}},'
            b'"response":{"datacontenttype":"text/plain","contentencoding":"br","data_base64":"AP8="}}'
        )
        told = {key: record.headers[key] for key in ("ce_type", "content-type", "ce_status", "ce_latencyms", "ce_time")}
        assert told == {
            "ce_type": "io.offpath.inference.exchange",
            "content-type": "application/json",
            "ce_status": "500",
            "ce_latencyms": "250.000",
            "ce_time": "2001-09-09T01:46:40.500000Z",
        }
        assert capturing.counters == {sample("events_total", side="exchange"): 1}
        assert capturing.recorder.memory.take(capturing.recorder.memory._left)

    def test_split_gives_both_back(self) -> None:
        event = payload_event(Delivery("t/0", 7, self.one()[1]))
        assert event.side == "exchange"
        request, response = split(event)
        assert (request.side, request.status, request.data) == ("request", 0, b'{"instances":[[1]]}')
        assert (response.side, response.status, response.data) == ("response", 500, b"\x00\xff")
        assert (response.content_type, response.content_encoding) == ("text/plain", "br")
        assert request.request_id == response.request_id == "r"
        assert request.headers["content-type"] == "application/json"

    def test_binary_tensors_keep_their_header(self) -> None:
        capturing = Capturing(combined=True)
        capturing.request("/v2/models/m/infer", f"{LENGTH}: 2\r\n", b"{}\x01\x02")
        capturing.response()
        request, _ = split(payload_event(Delivery("t/0", 0, capturing.records[0])))
        assert (request.data, request.headers[LENGTH.lower()]) == (b"{}\x01\x02", "2")

    def test_a_cut_body_is_marked_in_its_part(self) -> None:
        capturing = Capturing(combined=True, max_body=4)
        capturing.request(body=b"[1, 2, 3]")
        capturing.response(body=b"[1]")
        request, response = split(payload_event(Delivery("t/0", 0, capturing.records[0])))
        assert capturing.records[0].headers["ce_truncated"] == "true"
        assert (request.headers.get("ce_truncated"), response.headers.get("ce_truncated")) == ("true", None)

    def test_a_request_without_an_answer_is_an_event_and_the_answer_is_counted(self) -> None:
        capturing = Capturing(combined=True)
        capturing.request(body=b"[1]")
        capturing.conversation.data(UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0.5)
        capturing.conversation.close()
        (record,) = capturing.records
        assert orjson.loads(record.value or b"") == {"request": {"data": [1]}}
        assert "ce_status" not in record.headers
        assert capturing.counters[sample("discarded_messages_total", reason="incomplete")] == 1
        assert capturing.recorder.memory.take(capturing.recorder.memory._left)

    def test_an_early_answer_waits_for_its_request(self) -> None:
        capturing = Capturing(combined=True)
        capturing.conversation.data(CLIENT, f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 4\r\n\r\n[1".encode(), 0.25)
        capturing.response(status=413)
        assert capturing.records == []
        capturing.conversation.data(CLIENT, b"2]", 0.75)
        (record,) = capturing.records
        assert orjson.loads(record.value or b"") == {"request": {"data": [12]}, "response": {"data": []}}

    def test_feedback_stays_an_event_of_its_own(self) -> None:
        (record,) = Capturing(combined=True).exchange("/api/v1.0/feedback")
        assert record.headers["ce_type"] == "io.seldon.serving.feedback"

    def test_sampling_takes_both_or_none(self) -> None:
        capturing = Capturing(combined=True, sample=0.5)
        for i in range(100):
            capturing.exchange(head=f"X-Request-Id: {i}\r\n")
        assert len(capturing.records) + capturing.counters[sample("sampled_out_total", side="exchange")] == 100
        assert all(place(r.headers["ce_requestid"]) < 0.5 for r in capturing.records)

    @given(st.binary(), st.sampled_from(["application/json", "text/plain", "application/x+json; charset=utf-8", ""]))
    def test_every_body_comes_back(self, body: bytes, content_type: str) -> None:
        capturing = Capturing(combined=True)
        capturing.request(head=f"Content-Type: {content_type}\r\n" if content_type else "", body=body)
        capturing.response()
        request, _ = split(payload_event(Delivery("t/0", 0, capturing.records[0])))
        try:
            expected = orjson.loads(body)
        except orjson.JSONDecodeError:
            assert request.data == body
        else:
            assert request.data == body or orjson.loads(request.data) == expected

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "empty_body"),
            (b"[]", "invalid_json"),
            (b"{}", "invalid_json"),
            (b'{"request": []}', "invalid_json"),
            (b'{"request": {"data_base64": "!"}}', "invalid_base64"),
            (b'{"request": {"data": ' + b"[" * 400 + b"]" * 400 + b"}}", "invalid_json"),
        ],
    )
    def test_what_is_no_combined_event(self, body: bytes, reason: str) -> None:
        headers = {"ce_type": "io.offpath.inference.exchange", "ce_id": "1", "ce_source": "s"}
        event = payload_event(Delivery("t/0", 0, Record(None, headers, body, 0.0)))
        with pytest.raises(InvalidEvent) as raised:
            split(event)
        assert raised.value.reason == reason

    def test_base64_is_the_standard_one(self) -> None:
        _, record = self.one()
        assert base64.b64decode(orjson.loads(record.value or b"")["response"]["data_base64"]) == b"\x00\xff"


def test_the_plan_travels() -> None:
    here = Address("h", 1)
    rules = (SampleRule("m", "response", 0.5),)
    plan = Plan(here, here, here, Shipping("s", include=("/a", "*"), exclude=("/b",), sample=0.1, sample_rules=rules))
    assert Plan.from_json(plan.to_json()) == plan


class TestStreams:
    SSE = "Content-Type: text/event-stream; charset=utf-8\r\n"

    def begin(self, head: str, **plan: Any) -> Capturing:
        capturing = Capturing(**plan)
        capturing.request()
        capturing.conversation.data(UPSTREAM, f"HTTP/1.1 200 OK\r\n{head}\r\n".encode(), 0.5)
        return capturing

    def chunk(self, capturing: Capturing, data: bytes, now: float = 1.0) -> None:
        capturing.conversation.data(UPSTREAM, b"%x\r\n%b\r\n" % (len(data), data), now)

    @pytest.mark.parametrize("head", ["Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n" + SSE])
    def test_one_without_end_holds_its_cap_and_becomes_an_event_there(self, head: str) -> None:
        capturing = self.begin(head, max_body=100, held=150)
        for i in range(50):
            self.chunk(capturing, b"data: %04d\n\n" % i, 1.0 + i)
        assert [side(r) for r in capturing.records] == ["request", "response"]
        event = capturing.records[1]
        assert (len(event.value or b""), event.headers["ce_truncated"]) == (100, "true")
        assert event.headers["ce_latencyms"] == "8750.000", "up to the cap"
        assert capturing.recorder.memory.take(150), "nothing is held any more"
        assert capturing.conversation.open_messages == 0
        capturing.conversation.data(UPSTREAM, b"0\r\n\r\n", 99.0)
        capturing.conversation.close()
        assert len(capturing.records) == 2
        assert capturing.counters[sample("truncated_total", reason="max_body")] == 1
        assert sum(n for name, n in capturing.counters.items() if "discarded" in name) == 0

    def test_one_that_the_client_leaves(self) -> None:
        capturing = self.begin("Transfer-Encoding: chunked\r\n" + self.SSE)
        self.chunk(capturing, b"data: 1\n\n", 2.25)
        assert capturing.conversation.open_messages == 1
        capturing.conversation.close()
        event = capturing.records[1]
        assert (event.value, event.headers["ce_truncated"]) == (b"data: 1\n\n", "true")
        assert event.headers["ce_latencyms"] == "2000.000"
        assert capturing.counters[sample("truncated_total", reason="incomplete")] == 1
        assert capturing.counters[sample("discarded_messages_total", reason="incomplete")] == 0

    def test_half_of_another_answer_is_none(self) -> None:
        capturing = self.begin("Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n")
        self.chunk(capturing, b"[1,")
        capturing.conversation.close()
        assert [side(r) for r in capturing.records] == ["request"]
        assert capturing.counters[sample("discarded_messages_total", reason="incomplete")] == 1

    def test_a_body_of_known_length_is_an_event_at_its_end(self) -> None:
        capturing = self.begin("Content-Length: 6\r\n", max_body=3)
        capturing.conversation.data(UPSTREAM, b"12345", 1.0)
        assert len(capturing.records) == 1
        capturing.conversation.data(UPSTREAM, b"6", 2.25)
        assert capturing.records[1].headers["ce_latencyms"] == "2000.000"

    def test_a_request_without_end(self) -> None:
        capturing = Capturing(max_body=3, combined=True)
        start = f"POST {PREDICT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        capturing.conversation.data(CLIENT, start + b"5\r\n12345\r\n", 0.25)
        assert (capturing.records, capturing.conversation.open_messages) == ([], 1)
        capturing.response()
        (record,) = capturing.records
        capturing.conversation.data(CLIENT, b"0\r\n\r\n", 0.75)
        capturing.conversation.close()
        assert capturing.records == [record]
        assert orjson.loads(record.value or b"")["request"] == {"truncated": "true", "data": 123}

    def test_combined(self) -> None:
        capturing = self.begin("Transfer-Encoding: chunked\r\n" + self.SSE, combined=True)
        self.chunk(capturing, b"data: 1\n\n")
        capturing.conversation.close("shutdown")
        (record,) = capturing.records
        response = orjson.loads(record.value or b"")["response"]
        assert base64.b64decode(response["data_base64"]) == b"data: 1\n\n"
        assert response["truncated"] == "true"

    def test_a_redacted_stream_that_is_cut_is_withheld(self) -> None:
        rule = RedactRule("pointer", "/a", "mask")
        capturing = self.begin("Transfer-Encoding: chunked\r\n" + self.SSE, redact=(rule,))
        self.chunk(capturing, b"data: secret\n\n")
        capturing.conversation.close()
        assert capturing.records[1].value == b""
        assert capturing.records[1].headers["ce_redacted"] == "withheld"


def test_a_message_may_name_its_model_itself() -> None:
    """gRPC's paths name none: the model, with its rules, is known when the first message is."""
    rule = RedactRule("pointer", "/a", "mask", "income")
    capturing = Capturing(include=("*",), redact=(rule,))
    for model in ("income", "other", ""):
        exchange = Exchange(Memory(1000))
        exchange.method, exchange.path = "POST", "/inference.GRPCInferenceService/ModelInfer"
        capturing.recorder.begin(exchange)
        exchange.request.body.add(b'{"a":1}', 100)
        exchange.request.done, exchange.model = True, model
        capturing.recorder.request(exchange)
    income, other, unnamed = capturing.records
    assert (income.headers["ce_modelid"], income.key, income.value) == ("income", "default/income", b'{"a":null}')
    assert (other.headers["ce_modelid"], other.value) == ("other", b'{"a":1}')
    assert "ce_modelid" not in unnamed.headers
