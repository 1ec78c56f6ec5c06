"""Publishing over HTTP: order, retries, what is final, and what errors must not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from monitor.events import Record
from monitor.transport.base import Rejected, Unavailable
from monitor.transport.http import LAST_BACKOFF, HttpPublisher

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


def record(number: int, key: str | None = "k") -> Record:
    return Record(key, {"ce_id": str(number), "ce_source": "s", "ce_type": "t"}, b"%d" % number, 0.0)


def answer(status: int, text: str = "", **headers: str) -> httpx.Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=told, stream=httpx.ByteStream(text.encode()))


class Receiver:
    """Answers with the given statuses in turn, then 202; an exception is raised instead."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.naps: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        given = self.answers.pop(0) if self.answers else 202
        if isinstance(given, Exception):
            raise given
        return answer(given) if isinstance(given, int) else given

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    @property
    def ids(self) -> list[str]:
        return [request.headers["ce-id"] for request in self.requests]

    def publish(self, *records: Record, url: str = "http://broker/ns/default", token: str | None = None) -> None:
        async def go() -> None:
            publisher = HttpPublisher(
                url, max_retries=3, token=token, transport=httpx.MockTransport(self), sleep=self.sleep
            )
            try:
                await publisher.publish(records)
            finally:
                await publisher.close()

        asyncio.run(go())


def test_an_event_is_posted_in_binary_mode() -> None:
    receiver = Receiver()
    receiver.publish(record(7), token="secret")
    (request,) = receiver.requests
    assert (request.method, str(request.url), request.content) == ("POST", "http://broker/ns/default", b"7")
    told = dict(request.headers)
    assert (told["ce-id"], told["ce-specversion"], told["ce-partitionkey"]) == ("7", "1.0", "k")
    assert told["authorization"] == "Bearer secret"


def test_records_of_a_key_go_in_order() -> None:
    receiver = Receiver(503, 202, 500)
    receiver.publish(*(record(number) for number in range(4)))
    assert receiver.ids == ["0", "0", "1", "1", "2", "3"]


def test_different_keys_go_at_once_but_not_more_than_allowed() -> None:
    under_way = most = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        return answer(202)

    async def go() -> None:
        publisher = HttpPublisher("http://broker/", concurrency=3, transport=httpx.MockTransport(slow))
        await publisher.publish([record(number, f"k{number}") for number in range(9)])
        await publisher.close()

    asyncio.run(go())
    assert most == 3


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504, 599])
def test_what_knative_retries_is_retried(status: int) -> None:
    receiver = Receiver(status, status)
    receiver.publish(record(1))
    assert receiver.ids == ["1", "1", "1"]


def test_connection_errors_are_retried_with_growing_naps() -> None:
    receiver = Receiver(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone"))
    receiver.publish(record(1))
    assert len(receiver.requests) == 4
    assert [0.05 * 2**n <= nap <= 0.1 * 2**n for n, nap in enumerate(receiver.naps)] == [True] * 3


def test_a_receiver_may_ask_for_a_longer_nap_within_limits() -> None:
    receiver = Receiver(answer(503, retry_after="7"), answer(429, retry_after="9999"))
    receiver.publish(record(1))
    assert receiver.naps == [7.0, 30.0]


def test_in_the_end_it_is_unavailable_and_says_where_and_why() -> None:
    receiver = Receiver(*[503] * 9)
    with pytest.raises(Unavailable, match=r"http://broker/ns/default took no event in 4 attempts: status 503"):
        receiver.publish(record(1))
    assert len(receiver.requests) == 4
    assert max(receiver.naps) <= LAST_BACKOFF


def test_an_absent_receiver_ends_the_batch() -> None:
    receiver = Receiver(*[httpx.ConnectError("refused")] * 99)
    with pytest.raises(Unavailable, match="ConnectError refused"):
        receiver.publish(*(record(number) for number in range(10)))
    assert set(receiver.ids) == {"0"}


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405, 413, 415, 422])
def test_what_is_final_is_rejected_at_once_and_the_others_are_taken(status: int) -> None:
    receiver = Receiver(answer(status, "no such thing" + "x" * 1000))
    with pytest.raises(Rejected, match=rf"does not take event '0': status {status}: no such thing") as caught:
        receiver.publish(record(0), record(1))
    assert receiver.ids == ["0", "1"]
    assert len(str(caught.value)) < 400


def test_unavailable_outweighs_rejected() -> None:
    async def judge(request: httpx.Request) -> httpx.Response:
        return answer(400 if request.headers["ce-id"] == "0" else 503)

    async def go() -> None:
        publisher = HttpPublisher("http://broker/", max_retries=0, transport=httpx.MockTransport(judge), concurrency=1)
        with pytest.raises(Unavailable):
            await publisher.publish([record(0, "a"), record(1, "b")])
        await publisher.close()

    asyncio.run(go())


def test_errors_tell_no_secrets() -> None:
    url = "http://user:pa55word@broker/path?key=qu3ry"
    for given in (answer(400, "bad token t0ken"), httpx.ConnectError("cannot say t0ken")):
        receiver = Receiver(*[given] * 4)
        with pytest.raises((Rejected, Unavailable)) as caught:
            receiver.publish(record(1), url=url, token="t0ken")
        assert "http://broker/path" in str(caught.value)
        assert not [secret for secret in ("pa55word", "qu3ry", "t0ken") if secret in str(caught.value)]


@pytest.mark.parametrize("url", ["broker", "ftp://broker/", "http://", "http://host:port/", "/path"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        HttpPublisher(url)


def test_certificates_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Client:
        def __init__(self, **options: object) -> None:
            seen.update(options)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    HttpPublisher("https://broker/")
    assert seen.get("verify", True) is True
