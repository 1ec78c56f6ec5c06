"""The CloudEvents endpoint: what is answered, and that 202 means stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.events import Record
from monitor.ingest import Endpoint as Ingest
from monitor.ingest import Tokens
from monitor.ingest.recent import Recent
from monitor.ingest.room import Full, Room
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

    def __init__(self, **told: Any) -> None:
        self.store = Store()
        told = {"max_body": 100, "remember": 10, **told}
        self.app = Ingest(self.store, ready=self.store.ready, clock=lambda: 5.0, **told).app()

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
    body = b'{"id": "1", "source": "s", "type": "io.seldon.serving.feedback", "specversion": "1.0", "data": [1]}'
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
    endpoint = Endpoint(tokens=Tokens("secret"))
    for shown in ("", "Bearer wrong", "secret", "Bearer secret2"):
        answer = endpoint.post(authorization=shown)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert not endpoint.store.records
    assert endpoint.post(authorization="Bearer secret").status_code == 202
    assert endpoint.call("GET", "/healthz").status_code == 200
    assert endpoint.count("unauthorized") == 4


def test_other_methods_are_405(endpoint: Endpoint) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = endpoint.call(method)
        assert (answer.status_code, answer.headers["allow"], answer.json()["reason"]) == (405, "POST", "method")
        assert "POST" in answer.json()["error"]


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


@pytest.mark.parametrize("kind", ["com.example.order", "io.seldon.serving.inference.drift", "dev.knative.kafka.event"])
def test_a_type_that_no_worker_can_use_is_refused(endpoint: Endpoint, kind: str) -> None:
    answer = endpoint.post(ce_type=kind)
    assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_type")
    assert not endpoint.store.records


def test_a_kafka_source_that_wraps_seldons_record_is_stored_as_it_came(endpoint: Endpoint) -> None:
    told = {"ce_type": "dev.knative.kafka.event", "ce_kafkaheadertype": "io.seldon.serving.inference.request"}
    told |= {"ce_kafkaheadermodelid": "clf", "ce_kafkaheadernamespace": "ns"}
    assert endpoint.post(**told).status_code == 202
    (record,) = endpoint.store.records
    assert told.items() <= record.headers.items()
    assert record.key == "ns/clf", "the events of a model stay in order, although the wrapper names none"


def test_a_transport_that_asks_to_wait_is_heard(endpoint: Endpoint) -> None:
    endpoint.store.failure = Unavailable("busy", retry_after=7.2)
    assert endpoint.post().headers["retry-after"] == "8"


def test_what_does_not_fit_beside_what_is_under_way_is_429() -> None:
    endpoint = Endpoint(waiting=64 * 1024, max_body=10_000)

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(endpoint.app)
        release, arrived = asyncio.Event(), asyncio.Semaphore(0)
        publish = endpoint.store.publish

        async def slowly(records: Sequence[Record]) -> None:
            arrived.release()
            await release.wait()
            await publish(records)

        endpoint.store.publish = slowly  # type: ignore[method-assign]
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:

            def call(number: int) -> Coroutine[Any, Any, httpx.Response]:
                return client.post("/", headers={**HEADERS, "ce-id": str(number)}, content=b"x" * 10_000)

            calls = [asyncio.create_task(call(number)) for number in range(2)]
            for _ in calls:
                await arrived.acquire()
            answers = [await call(2)]  # two hold 2 * (16 KiB + 10,000): a third does not fit
            release.set()
            answers += await asyncio.gather(*calls)
            answers.append(await call(2))
        return answers

    refused, *taken = asyncio.run(go())
    assert (refused.status_code, refused.headers["retry-after"], refused.json()["reason"]) == (429, "1", "busy")
    assert [answer.status_code for answer in taken] == [202] * 3, "there is room again"
    assert (endpoint.count("busy"), len(endpoint.store.records)) == (1, 3)


def test_a_body_that_does_not_come_is_408() -> None:
    endpoint = Endpoint(timeout=0.05)

    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
             "headers": [(n.encode(), v.encode()) for n, v in HEADERS.items()]}  # fmt: skip
    pieces = [{"type": "http.request", "body": b"{", "more_body": True}]
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            return pieces.pop()
        await asyncio.sleep(30)
        raise AssertionError("it is not waited for so long")

    async def send(message: Any) -> None:
        told.append(message)

    asyncio.run(endpoint.app(scope, receive, send))  # type: ignore[arg-type]
    assert told[0]["status"] == 408
    assert endpoint.count("timeout") == 1
    assert "offpath_ingest_waiting_bytes 0.0" in endpoint.call("GET", "/metrics").text


class TestRecent:
    def run(self, failures: int, callers: int) -> tuple[list[Any], int]:
        """What so many callers of one key at once get, where the first so many attempts fail; and the attempts."""
        recent, attempts = Recent(10), 0

        async def store() -> None:
            nonlocal attempts
            attempts += 1
            mine = attempts
            await asyncio.sleep(0)
            if mine <= failures:
                raise Unavailable("away")

        async def go() -> list[Any]:
            calls = [recent.once(("s", "1", "t"), store) for _ in range(callers)]
            return await asyncio.gather(*calls, return_exceptions=True)

        return asyncio.run(go()), attempts

    def test_the_same_event_at_once_is_stored_once(self) -> None:
        assert self.run(failures=0, callers=3) == ([True, False, False], 1)

    def test_after_a_failure_another_one_stores_it(self) -> None:
        (first, second, third), attempts = self.run(failures=1, callers=3)
        assert isinstance(first, Unavailable)
        assert (second, third, attempts) == (True, False, 2)

    def test_parts_do_not_run_into_each_other(self) -> None:
        recent = Recent(10)

        async def store() -> None: ...

        async def go() -> list[bool]:
            return [await recent.once(key, store) for key in (("a", "bc"), ("ab", "c"), ("a", "bc"), ("a", "b", "c"))]

        assert asyncio.run(go()) == [True, True, False, True]


def test_room_is_given_back_whatever_happens() -> None:
    room = Room(100_000)
    with room.request() as place:
        place.grow(50_000)
        with pytest.raises(Full):
            place.grow(50_000)
    assert room.held == 0


class TestTokens:
    def test_lines_of_a_file_are_tokens_and_changes_are_seen(self, tmp_path: Path) -> None:
        file = tmp_path / "tokens"
        file.write_text("old\n\n  new \n")
        tokens = Tokens("own", file)
        assert [tokens.admits(f"Bearer {t}".encode()) for t in ("old", "new", "own", "", "other")] == [True] * 3 + [
            False
        ] * 2
        (tmp_path / "next").write_text("newest")
        (tmp_path / "next").replace(file)
        assert [tokens.admits(f"bearer {t}".encode()) for t in ("new", "newest", "own")] == [False, True, True]

    def test_while_the_file_is_away_or_empty_the_last_tokens_stay(self, tmp_path: Path) -> None:
        file = tmp_path / "tokens"
        file.write_text("one")
        tokens = Tokens(file=file)
        file.unlink()
        assert tokens.admits(b"Bearer one")
        file.write_text("\n")
        assert tokens.admits(b"Bearer one")
        assert not tokens.admits(b"Bearer ")

    def test_at_the_start_a_file_without_a_token_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"ingest\.token_file: .*tokens: No such file"):
            Tokens(file=tmp_path / "tokens")
        (tmp_path / "tokens").touch()
        with pytest.raises(ValueError, match="holds no token"):
            Tokens(file=tmp_path / "tokens")

    def test_without_any_everybody_may_send(self) -> None:
        assert not Tokens()
