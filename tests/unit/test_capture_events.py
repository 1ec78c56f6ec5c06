"""Exchanges to events, and what the two processes tell each other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from monitor.capture.conversation import Conversation
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import METRICS, Counters, Ledger, sample
from monitor.capture.plan import Address, Plan, Shipping, read_plan, write_plan
from monitor.capture.record import Recorder
from monitor.capture.selection import select
from monitor.events import Delivery, payload_event
from monitor.transport.base import Record

PREDICT = "/v1/models/income:predict"


class Recording:
    """A connection's bytes to records."""

    def __init__(self, **plan: Any) -> None:
        self.records: list[Record] = []
        self.counters = Counters()
        shipping = Shipping("http://here", **plan)
        recorder = Recorder(shipping, self.records.append, self.counters, lambda: 1_700_000_000.0)
        self.conversation = Conversation(recorder, self.counters)

    def exchange(
        self, path: str = PREDICT, head: str = "", body: bytes = b"{}", method: str = "POST", status: int = 200
    ) -> list[Record]:
        """The records of one request and its response."""
        before = len(self.records)
        request = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode("latin-1")
        self.conversation.data(CLIENT, request + body, 0.25)
        response = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]".encode()
        self.conversation.data(UPSTREAM, response, 0.5)
        assert set(self.counters) <= {name for metric in METRICS for name in metric.samples}
        return self.records[before:]


@pytest.mark.parametrize("combined", [False, True])
def test_keyed_by_request_a_models_events_spread_and_pairs_stay_together(combined: bool) -> None:
    recording = Recording(key="request", combined=combined)
    told = [*recording.exchange(head="X-Request-Id: r-1\r\n"), *recording.exchange(), *recording.exchange()]
    keys = [record.key for record in told]
    assert keys == [record.headers["ce_requestid"] for record in told]
    assert keys == [record.headers["ce_partitionkey"] for record in told]
    assert len(set(keys)) == 3
    assert keys[0] == "r-1"


def test_the_pair() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    head = f"Content-Type: text/csv\r\nContent-Encoding: gzip\r\nX-Request-Id: r-1\r\nTraceparent: {trace}\r\n"
    request, response = Recording(namespace="ns", endpoint="canary").exchange(PREDICT + "?x=1", head)
    shared = {
        "ce_specversion": "1.0",
        "ce_source": "http://here",
        "ce_partitionkey": "ns/income",
        "ce_namespace": "ns",
        "ce_modelid": "income",
        "ce_inferenceservicename": "income",
        "ce_endpoint": "canary",
        "ce_path": PREDICT,
        "ce_method": "POST",
        "ce_requestid": "r-1",
        "ce_traceparent": trace,
    }
    assert request.headers == shared | {
        "ce_type": "org.kubeflow.serving.inference.request",
        "ce_id": request.headers["ce_id"],
        "ce_time": "2023-11-14T22:13:20.250000Z",
        "content-type": "text/csv",
        "ce_contentencoding": "gzip",
    }
    assert response.headers == shared | {
        "ce_type": "org.kubeflow.serving.inference.response",
        "ce_id": response.headers["ce_id"],
        "ce_time": "2023-11-14T22:13:20.500000Z",
        "content-type": "application/json",
        "ce_status": "200",
        "ce_latencyms": "250.000",
    }
    assert request.headers["ce_id"] != response.headers["ce_id"]
    assert (request.key, request.value, response.key, response.value) == ("ns/income", b"{}", "ns/income", b"[]")
    assert all(re.fullmatch("ce_[a-z0-9]+|[a-z-]+", name) for name in request.headers | response.headers)


def test_the_worker_reads_what_the_sidecar_writes() -> None:
    for record in Recording(model="m").exchange("/api/v1.0/predictions", status=400):
        event = payload_event(Delivery("payloads/0", 0, record))
        assert event.derived == ()
        assert (event.model, event.namespace, event.path) == ("m", "default", "/api/v1.0/predictions")
        assert event.time == record.timestamp
        assert event.status == (400 if event.side == "response" else 0)


def test_seldon_types_and_feedback() -> None:
    recording = Recording(types="seldon")
    kinds = [r.headers["ce_type"] for r in recording.exchange("/seldon/ns/movie/api/v1.0/predictions")]
    assert kinds == ["io.seldon.serving.inference.request", "io.seldon.serving.inference.response"]
    (feedback,) = recording.exchange("/seldon/ns/movie/api/v1.0/feedback")
    assert feedback.headers["ce_type"] == "io.seldon.serving.feedback"
    assert feedback.headers["ce_modelid"] == "movie"


@pytest.mark.parametrize(("mode", "sides"), [("all", 2), ("request", 1), ("response", 1)])
def test_modes(mode: str, sides: int) -> None:
    records = Recording(mode=mode).exchange()
    assert len(records) == sides
    assert all(mode in ("all", r.headers["ce_type"].rpartition(".")[2]) for r in records)


def test_request_ids() -> None:
    recording = Recording()
    ids = [[r.headers["ce_requestid"] for r in recording.exchange(head=head)] for head in ("", "", "Ce-Id: c\r\n")]
    assert all(first == second for first, second in ids)
    assert ids[0] != ids[1]
    assert ids[2] == ["c", "c"]
    (request, _) = recording.exchange(head="Ce-Id: c\r\nX-Request-Id: x\r\n")
    assert request.headers["ce_requestid"] == "x"
    (request, _) = recording.exchange(head="X-Request-Id: \xe9" + "y" * 5000 + "\r\n")
    assert len(request.headers["ce_requestid"]) == 256
    everything = [r.headers["ce_id"] for r in recording.records]
    assert len(set(everything)) == len(everything)


def test_bodies_are_cut_and_marked() -> None:
    recording = Recording(max_body=3)
    request, response = recording.exchange(body=b"12345")
    assert (request.value, request.headers["ce_truncated"]) == (b"123", "true")
    assert "ce_truncated" not in response.headers
    assert recording.counters[sample("truncated_total", reason="max_body")] == 1


@pytest.mark.parametrize(
    ("method", "path", "head", "reason"),
    [
        ("GET", "/v2/health/ready", "", "probe"),
        ("GET", "/metrics", "", "probe"),
        ("GET", "/v1/models/income", "", "method"),
        ("DELETE", PREDICT, "", "method"),
        ("POST", "/v1/models/income:explain", "", "path"),
        ("POST", "/v2/repository/index", "", "path"),
        ("POST", PREDICT, "Seldon-Skip-Logging: true\r\n", "header"),
    ],
)
def test_what_is_skipped_is_counted(method: str, path: str, head: str, reason: str) -> None:
    recording = Recording()
    assert recording.exchange(path, head, method=method, body=b"") == []
    assert recording.counters == {sample("skipped_total", reason=reason): 1}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m/versions/3:predict",
        "/v1/models/m:classify",
        "/v2/models/m/infer",
        "/v2/models/m/versions/1/infer",
        "http://host:80/v2/models/m/infer",
        "/api/v0.1/predictions",
        "/seldon/ns/name/v2/models/m/infer",
    ],
)
def test_inference_paths(path: str) -> None:
    assert select("POST", path) == ("inference", None)


def test_skipping_can_be_declined() -> None:
    assert len(Recording().exchange(head="Seldon-Skip-Logging: false\r\n")) == 2


def test_what_cannot_become_an_event_is_counted() -> None:
    recording = Recording()
    recording.conversation.data(CLIENT, f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 9\r\n\r\n123".encode(), 0.0)
    recording.conversation.close()
    assert recording.counters == {sample("discarded_messages_total", reason="incomplete"): 1}


def test_a_ledger_outlives_shippers() -> None:
    ledger = Ledger()
    published, waiting = sample("published_total"), sample("spool_events")
    ledger.report({published: 3, waiting: 7})
    ledger.shipper_gone()
    ledger.report({published: 2})
    assert (ledger[published], ledger[waiting]) == (5, 7)
    assert f"\n{published} 5\n" in ledger.text()
    assert ledger.text().count("# TYPE") == len(METRICS)


def test_a_plan_travels_by_descriptor() -> None:
    plan = Plan(Address("h", 1), Address("::1", 2), Address("h", 3), Shipping("here", model="ü"), queue=5)
    descriptor = write_plan(plan)
    assert read_plan(descriptor) == read_plan(descriptor) == plan


@pytest.mark.parametrize("text", ["", "host", "host:", ":x", "host:99999", "::1:80", "host:-1"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Address.parse(text)
