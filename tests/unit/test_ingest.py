"""The CloudEvents endpoint: what is answered, and that 202 means stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from monitor.events import Record
from monitor.ingest import create_app
from monitor.transport.base import Rejected, Unavailable

HEADERS = {
    "ce-id": "1",
    "ce-source": "http://localhost:9081/",
    "ce-specversion": "1.0",
    "ce-type": "org.kubeflow.serving.inference.request",
    "content-type": "application/json",
}


class Store:
    """A publisher that keeps records, or fails as told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failure: Exception | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        if self.failure:
            raise self.failure
        self.records.extend(records)

    async def close(self) -> None: ...

    def ready(self) -> None:
        if self.failure:
            raise self.failure


class Endpoint:
    """The application and calls to it."""

    def __init__(self, token: str | None = None, seen: int = 10) -> None:
        self.store = Store()
        self.app = create_app(
            self.store, max_body=100, token=token, seen=seen, ready=self.store.ready, clock=lambda: 5.0
        )

    def call(self, method: str, path: str = "/", **request: object) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
                return await client.request(method, path, **request)  # type: ignore[arg-type]

        return asyncio.run(go())

    def post(self, content: bytes | AsyncIterator[bytes] = b"{}", path: str = "/", **changed: str) -> httpx.Response:
        headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return self.call("POST", path, content=content, headers={n: v for n, v in headers.items() if v})

    def count(self, outcome: str) -> float:
        text = self.call("GET", "/metrics").text
        (line,) = [
            line for line in text.splitlines() if line.startswith(f'offpath_ingest_events_total{{outcome="{outcome}"}}')
        ]
        return float(line.split()[-1])


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.mark.parametrize("path", ["/", "/some/path", "/v1/models/m:predict"])
def test_an_event_is_stored_and_answered_202_with_an_empty_body(endpoint: Endpoint, path: str) -> None:
    answer = endpoint.post(b'{"instances": [[1]]}', path)
    assert (answer.status_code, answer.content) == (202, b"")
    (record,) = endpoint.store.records
    assert (record.value, record.timestamp) == (b'{"instances": [[1]]}', 5.0)
    assert record.headers["ce_id"] == "1"
    assert endpoint.count("accepted") == 1


def test_a_structured_event(endpoint: Endpoint) -> None:
    body = b'{"id": "1", "source": "s", "type": "t", "specversion": "1.0", "data": [1]}'
    answer = endpoint.call("POST", content=body, headers={"content-type": "application/cloudevents+json"})
    assert answer.status_code == 202
    assert endpoint.store.records[0].value == b"[1]"


def test_the_same_event_again_is_taken_once(endpoint: Endpoint) -> None:
    assert [endpoint.post().status_code for _ in range(3)] == [202] * 3
    assert len(endpoint.store.records) == 1
    assert (endpoint.count("accepted"), endpoint.count("duplicate")) == (1, 2)


def test_kserves_pair_shares_an_id_and_both_are_stored(endpoint: Endpoint) -> None:
    endpoint.post()
    endpoint.post(ce_type="org.kubeflow.serving.inference.response")
    endpoint.post(ce_source="http://localhost:9082/")
    assert len(endpoint.store.records) == 3


def test_memory_of_events_is_bounded(endpoint: Endpoint) -> None:
    for number in range(11):
        endpoint.post(ce_id=str(number))
    endpoint.post(ce_id="0")  # forgotten
    endpoint.post(ce_id="10")  # remembered
    assert [record.headers["ce_id"] for record in endpoint.store.records] == [*map(str, range(11)), "0"]


def test_an_event_that_was_not_stored_is_not_remembered(endpoint: Endpoint) -> None:
    endpoint.store.failure = Unavailable("disk full")
    answer = endpoint.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert endpoint.call("GET", "/readyz").status_code == 503
    endpoint.store.failure = None
    assert endpoint.call("GET", "/readyz").status_code == 200
    assert endpoint.post().status_code == 202
    assert len(endpoint.store.records) == 1
    assert (endpoint.count("unavailable"), endpoint.count("accepted")) == (1, 1)


@pytest.mark.parametrize("missing", ["ce_id", "ce_source", "ce_type"])
def test_what_can_never_be_processed_is_400_and_says_why(endpoint: Endpoint, missing: str) -> None:
    answer = endpoint.post(**{missing: ""})
    assert answer.status_code == 400
    assert missing.replace("_", "-") in answer.json()["error"]
    assert answer.json()["reason"] == "missing_attribute"
    assert not endpoint.store.records
    assert endpoint.count("invalid") == 1


def test_a_batch_is_415(endpoint: Endpoint) -> None:
    answer = endpoint.post(b"[]", content_type="application/cloudevents-batch+json")
    assert answer.status_code == 415
    assert "one event a request" in answer.json()["error"]
    assert endpoint.count("unsupported") == 1


def test_a_record_that_the_transport_rejects_is_400(endpoint: Endpoint) -> None:
    endpoint.store.failure = Rejected("too large for the topic")
    answer = endpoint.post()
    assert (answer.status_code, answer.json()["error"]) == (400, "too large for the topic")


def test_large_bodies_are_413_with_and_without_a_length(endpoint: Endpoint) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 10

    assert endpoint.post(b"x" * 100).status_code == 202
    assert endpoint.post(b"x" * 101, ce_id="2").status_code == 413
    assert endpoint.post(chunks(), ce_id="3").status_code == 413
    assert len(endpoint.store.records) == 1
    assert endpoint.count("too_large") == 2


def test_compressed_bodies_stay_compressed(endpoint: Endpoint) -> None:
    endpoint.post(b"\x1f\x8b", content_encoding="gzip")
    (record,) = endpoint.store.records
    assert (record.value, record.headers["ce_contentencoding"]) == (b"\x1f\x8b", "gzip")


def test_a_token_is_asked_for() -> None:
    endpoint = Endpoint(token="secret")
    for shown in ("", "Bearer wrong", "secret", "Bearer secret2"):
        answer = endpoint.post(authorization=shown)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert not endpoint.store.records
    assert endpoint.post(authorization="Bearer secret").status_code == 202
    assert endpoint.call("GET", "/healthz").status_code == 200
    assert endpoint.count("unauthorized") == 4


def test_other_methods_are_405(endpoint: Endpoint) -> None:
    assert {endpoint.call(method).status_code for method in ("GET", "PUT", "DELETE")} == {405}


def test_all_series_exist_from_the_start(endpoint: Endpoint) -> None:
    assert {endpoint.count(outcome) for outcome in ("accepted", "aborted", "too_large", "unavailable")} == {0}


def test_a_sender_that_goes_away_is_counted(endpoint: Endpoint) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(n.encode(), v.encode()) for n, v in HEADERS.items()],
    }

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None: ...

    asyncio.run(endpoint.app(scope, receive, send))
    assert endpoint.count("aborted") == 1
    assert not endpoint.store.records
