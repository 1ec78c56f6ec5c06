"""Publishing over HTTP: order, pipelining, retries, what is final, and what errors must not tell."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from monitor.events import Record
from monitor.settings.values import Url
from monitor.transport import http_lane
from monitor.transport.base import Rejected, Unavailable
from monitor.transport.cloudevent_http import http_headers
from monitor.transport.http import LAST_BACKOFF, HttpPublisher
from monitor.transport.http_answers import MESSAGE_BYTES, Answer, AnswerReader, UnreadableError
from monitor.transport.http_request import Endpoint, Requests


def record(number: int, key: str | None = "k", size: int = 0) -> Record:
    return Record(key, {"ce_id": str(number), "ce_source": "s", "ce_type": "t"}, b"%d" % number + b"x" * size, 0.0)


class Request(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


def answer(status: int, text: str = "", **headers: str) -> bytes:
    told = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{told}Content-Length: {len(text)}\r\n\r\n{text}".encode()


CLOSE = b""
"""Instead of an answer: close the connection."""

HANG = b"hang"


class Receiver:
    """A server that gives the answers in turn, then 202, and notes what it got."""

    def __init__(self, *answers: int | bytes, decide: Callable[[Request], int | bytes] | None = None) -> None:
        self.answers = list(answers)
        self.decide = decide or (lambda _: self.answers.pop(0) if self.answers else 202)
        self.requests: list[Request] = []
        self.naps: list[float] = []
        self.connections = 0
        self.now = self.most = 0
        """Requests that are there, and were at most there, at once on a connection."""

    @property
    def ids(self) -> list[str]:
        return [request.headers["ce-id"] for request in self.requests]

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
                headers = dict(field.split(": ", 1) for field in fields)
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append(Request(line, headers, body, number))
                self.now = 1 + bytes(reader._buffer).count(b"POST ")  # type: ignore[attr-defined]
                self.most = max(self.most, self.now)
                given = self.decide(self.requests[-1])
                if given == HANG:
                    await asyncio.sleep(3600)
                if given == CLOSE:
                    break
                writer.write(answer(given) if isinstance(given, int) else given)
                if isinstance(given, bytes) and b"connection: close" in given.lower():
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def run(self, test: Callable[[str], Awaitable[None]]) -> None:
        async def go() -> None:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            try:
                await asyncio.wait_for(test(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), 60)
            finally:
                server.close()
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

        asyncio.run(go())

    def publish(self, *records: Record, path: str = "/ns/default", **options: object) -> None:
        async def test(url: str) -> None:
            given = {"max_retries": 3, "sleep": self.sleep, **options}
            publisher = HttpPublisher(url + path, **given)  # type: ignore[arg-type]
            try:
                await publisher.publish(records)
            finally:
                await publisher.close()

        self.run(test)


def test_an_event_is_posted_in_binary_mode() -> None:
    receiver = Receiver()
    receiver.publish(record(7), token="secret")
    (request,) = receiver.requests
    assert (request.line, request.body) == ("POST /ns/default HTTP/1.1", b"7")
    told = request.headers
    assert (told["ce-id"], told["ce-specversion"], told["ce-partitionkey"]) == ("7", "1.0", "k")
    assert told["authorization"] == "Bearer secret"
    assert told["host"].startswith("127.0.0.1:")


def test_a_connection_is_kept() -> None:
    receiver = Receiver()
    receiver.publish(*(record(number) for number in range(50)))
    assert receiver.connections == 1
    assert receiver.most == 1


def test_records_of_a_key_go_in_order() -> None:
    receiver = Receiver(503, 202, 500)
    receiver.publish(*(record(number) for number in range(4)))
    assert receiver.ids == ["0", "0", "1", "1", "2", "3"]


def test_several_requests_under_way_on_a_connection_come_in_order() -> None:
    receiver = Receiver()
    receiver.publish(*(record(number) for number in range(200)), pipeline=8)
    assert receiver.ids == [str(number) for number in range(200)]
    assert receiver.connections == 1
    assert 2 <= receiver.most <= 8


def test_under_way_are_no_more_bytes_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_lane, "WINDOW_BYTES", 3000)
    receiver = Receiver()
    receiver.publish(*(record(number, size=1000) for number in range(40)), pipeline=8)
    assert receiver.ids == [str(number) for number in range(40)]
    assert receiver.most <= 2


def test_what_was_not_taken_of_several_comes_again_before_younger_ones() -> None:
    seen: set[str] = set()

    def decide(request: Request) -> int:
        name = request.headers["ce-id"]
        first = name not in seen
        seen.add(name)
        return 503 if first and name == "2" else 202

    receiver = Receiver(decide=decide)
    receiver.publish(*(record(number) for number in range(60)), pipeline=4)
    assert sorted(receiver.ids, key=int) == sorted([*map(str, range(60)), "2"], key=int)
    assert receiver.ids.index("2", 3) < 10


def test_a_receiver_that_breaks_off_gets_one_at_a_time() -> None:
    """It knows nothing of pipelining."""
    receiver = Receiver(decide=lambda _: CLOSE if receiver.now > 1 else 202)
    receiver.publish(*(record(number) for number in range(60)), pipeline=8, max_retries=1)
    assert list(dict.fromkeys(receiver.ids)) == [str(number) for number in range(60)]
    assert receiver.connections == 2


def test_different_keys_go_over_several_connections() -> None:
    receiver = Receiver()
    receiver.publish(*(record(number, f"k{number % 5}") for number in range(50)), connections=3)
    assert receiver.connections == 3
    for key in range(5):
        mine = [request for request in receiver.requests if request.headers["ce-partitionkey"] == f"k{key}"]
        assert [request.body for request in mine] == [b"%d" % number for number in range(key, 50, 5)]
        assert len({request.connection for request in mine}) == 1


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504, 599])
def test_what_knative_retries_is_retried(status: int) -> None:
    receiver = Receiver(status, status)
    receiver.publish(record(1))
    assert receiver.ids == ["1", "1", "1"]


def test_failures_are_retried_with_growing_naps() -> None:
    receiver = Receiver(CLOSE, 500, b"no http\r\n\r\n")
    receiver.publish(record(1))
    assert len(receiver.requests) == 4
    assert [0.05 * 2**n <= nap <= 0.1 * 2**n for n, nap in enumerate(receiver.naps)] == [True] * 3


def test_a_receiver_may_ask_for_a_longer_nap_within_limits() -> None:
    receiver = Receiver(answer(503, retry_after="7"), answer(429, retry_after="9999"))
    receiver.publish(record(1))
    assert receiver.naps == [7.0, 30.0]


def test_in_the_end_it_is_unavailable_and_says_where_why_and_what_is_left() -> None:
    sent = [record(number) for number in range(3)]
    receiver = Receiver(202, *[answer(503, "later", retry_after="2")] * 9)
    with pytest.raises(Unavailable, match=r"/ns/default did not take 2 of 3 events: status 503: later") as caught:
        receiver.publish(*sent)
    assert receiver.ids == ["0", "1", "1", "1", "1"]
    assert max(receiver.naps) <= LAST_BACKOFF
    assert caught.value.left == sent[1:]
    assert caught.value.retry_after == 2.0


def test_nobody_there() -> None:
    async def go() -> None:
        naps: list[float] = []

        async def sleep(seconds: float) -> None:
            naps.append(seconds)

        publisher = HttpPublisher("http://127.0.0.1:1/", max_retries=2, sleep=sleep)
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1/ did not take 2 of 2 events: no connection"):
            await publisher.publish([record(0), record(1)])
        assert len(naps) == 2
        await publisher.close()

    asyncio.run(go())


def test_a_receiver_that_never_answers_is_given_up() -> None:
    receiver = Receiver(202, HANG)
    with pytest.raises(Unavailable, match=r"2 of 3 events: no answer within 0\.2 s") as caught:
        receiver.publish(*(record(number) for number in range(3)), timeout=0.2, max_retries=0, pipeline=4)
    assert [r.value for r in caught.value.left or ()] == [b"1", b"2"]


def test_closed_while_idle_is_no_failure() -> None:
    receiver = Receiver()

    async def test(url: str) -> None:
        publisher = HttpPublisher(url, max_retries=0)
        await publisher.publish([record(0)])
        receiver.answers = [CLOSE]  # as if the request met the closing connection
        await publisher.publish([record(1)])
        await publisher.close()

    receiver.run(test)
    assert receiver.ids == ["0", "1", "1"]
    assert receiver.connections == 2


@pytest.mark.parametrize("ended", [b"Connection: close\r\nContent-Length: 0\r\n", b"Connection: close\r\n"])
def test_a_connection_that_the_receiver_ends_is_replaced(ended: bytes) -> None:
    receiver = Receiver(202, 202, b"HTTP/1.1 202 X\r\n" + ended + b"\r\n")
    receiver.publish(*(record(number) for number in range(6)), max_retries=0, pipeline=3)
    assert list(dict.fromkeys(receiver.ids)) == [str(number) for number in range(6)]
    assert receiver.naps == []


def test_closed_in_the_middle_of_an_answer() -> None:
    receiver = Receiver(b"HTTP/1.1 202 X\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc")
    receiver.publish(record(0))
    assert receiver.ids == ["0", "0"]


def test_interim_answers_are_passed_over() -> None:
    receiver = Receiver(b"HTTP/1.1 102 Processing\r\n\r\n" + answer(202), 202)
    receiver.publish(record(0), record(1))
    assert receiver.ids == ["0", "1"]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405, 413, 415, 422])
@pytest.mark.parametrize("pipeline", [1, 4])
def test_what_is_final_is_rejected_at_once_and_the_others_are_taken(status: int, pipeline: int) -> None:
    sent = [record(number) for number in range(4)]
    receiver = Receiver(answer(status, "no such thing" + "x" * 1000))
    with pytest.raises(Rejected, match=rf"does not take event '0': status {status}: no such thing") as caught:
        receiver.publish(*sent, pipeline=pipeline)
    assert receiver.ids == ["0", "1", "2", "3"]
    assert len(str(caught.value)) < 400
    assert caught.value.refused == sent[:1]


def test_unavailable_outweighs_rejected() -> None:
    sent = [record(0, "a"), record(1, "b"), record(2, "a")]
    receiver = Receiver(decide=lambda request: {b"0": 400, b"1": 503}.get(request.body, 202))
    with pytest.raises(Unavailable) as caught:
        receiver.publish(*sent, max_retries=0)
    assert (caught.value.refused, caught.value.left) == (sent[:1], sent[1:2])


def test_errors_tell_no_secrets() -> None:
    for answers in ([answer(400, "bad token t0ken")], [answer(503, "cannot say t0ken")] * 4):
        receiver = Receiver(*answers)
        with pytest.raises((Rejected, Unavailable), match=r"http://127.0.0.1:\d+/path") as caught:
            receiver.publish(record(1), path="/path?key=qu3ry", token="t0ken")
        assert not [secret for secret in ("qu3ry", "t0ken") if secret in str(caught.value)]
        assert receiver.requests[0].line == "POST /path?key=qu3ry HTTP/1.1"
    endpoint = Endpoint.parse("http://user:pa55word@broker/path")
    assert "pa55word" not in endpoint.shown
    assert endpoint.credentials == "Basic dXNlcjpwYTU1d29yZA=="


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    receiver = Receiver()

    async def test(url: str) -> None:
        publisher = HttpPublisher(url, token_file=token)
        await publisher.publish([record(0)])
        token.write_text("second\n")
        await publisher.publish([record(1)])
        token.unlink()
        with pytest.raises(Unavailable, match=r"the token file .*token cannot be read"):
            await publisher.publish([record(2)])
        await publisher.close()

    receiver.run(test)
    assert [request.headers["authorization"] for request in receiver.requests] == ["Bearer first", "Bearer second"]


def test_closing_ends_what_is_under_way_and_tells_what_is_left() -> None:
    receiver = Receiver(202, HANG)

    async def test(url: str) -> None:
        publisher = HttpPublisher(url)
        publishing = asyncio.ensure_future(publisher.publish([record(number) for number in range(5)]))
        while len(receiver.requests) < 2:
            await asyncio.sleep(0.001)
        await publisher.close()
        with pytest.raises(Unavailable, match="is closed") as caught:
            await publishing
        assert [r.value for r in caught.value.left or ()] == [b"1", b"2", b"3", b"4"]

    receiver.run(test)


HOSTS = st.one_of(
    st.sampled_from(["broker", "[::1]", "[::1", "a..b", "b\u00fccher", "", "x" * 64]), st.text(max_size=8)
)
PORTS = st.one_of(st.sampled_from(["", ":", ":0", ":80", ":65535", ":65536", ":1a", ":8 0"]), st.text(max_size=3))


@given(st.sampled_from(["http://", "https://", "ftp://", "http:/"]), st.sampled_from(["", "me:@"]), HOSTS, PORTS, HOSTS)
def test_what_the_configuration_takes_for_a_url_is_one(scheme: str, user: str, host: str, port: str, path: str) -> None:
    """What ``offpath check`` finds good must not end the sidecar's second process."""
    url = f"{scheme}{user}{host}{port}/{path}"
    try:
        TypeAdapter(Url).validate_python(url)
    except ValidationError:
        return
    Endpoint.parse(url)


@pytest.mark.parametrize(
    "url", ["http://b", "https://me:a@b@b:8443/x?y#z", "http://[::1]:80/", "http://b\u00fccher/", "http://b:/"]
)
def test_urls_of_every_kind(url: str) -> None:
    assert TypeAdapter(Url).validate_python(url) == url
    Endpoint.parse(url)


@pytest.mark.parametrize("url", ["broker", "ftp://broker/", "http://", "http://host:port/", "/path", "http://a b/"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        HttpPublisher(url)


def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver = Receiver()

    async def go() -> None:
        server = await asyncio.start_server(receiver.serve, "localhost", 0, ssl=context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Unavailable, match="certificate"):
            await HttpPublisher(url, max_retries=0).publish([record(0)])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        publisher = HttpPublisher(url, max_retries=0)
        await publisher.publish([record(1)])
        await publisher.close()
        server.close()

    asyncio.run(go())
    assert receiver.ids == ["1"]


text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


@given(
    st.dictionaries(
        st.from_regex(r"(ce_)?[a-zA-Z-]{1,8}", fullmatch=True)
        | st.sampled_from(
            [
                "ce_id",
                "ce_time",
                "content-type",
                "ce_datacontenttype",
                "ce_partitionkey",
                "ce_specversion",
                "traceparent",
            ]
        ),
        text,
        max_size=6,
    ),
    st.none() | text,
    st.binary(max_size=20),
)
def test_requests_are_what_http_headers_says(headers: dict[str, str], key: str | None, body: bytes) -> None:
    """The quick way and the plain one agree, also for lines that are remembered."""
    requests = Requests(Endpoint.parse("http://broker/"))
    for _ in range(2):
        given_record = Record(key, headers, body, 0.0)
        head, _, rest = requests.encode(given_record).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        assert lines[:3] == ["POST / HTTP/1.1", "host: broker", "user-agent: offpath"]
        assert lines[-1] == f"content-length: {len(body)}"
        told = dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines[3:-1])
        expected = http_headers(given_record)
        assert {k: v.strip() for k, v in told.items()} == {k: v.strip() for k, v in expected.items()}
        assert len(told) == len(lines) - 4
        assert rest == body


@given(st.binary(max_size=200), st.integers(1, 20))
def test_no_bytes_upset_the_reader_of_answers(data: bytes, step: int) -> None:
    answers: list[Answer] = []
    reader = AnswerReader(lambda answer, _, times: answers.extend([answer] * times))
    wire = answer(202) + answer(503, "busy", retry_after="3") + data
    try:
        for start in range(0, len(wire), step):
            reader.feed(wire[start : start + step])
        reader.end()
    except UnreadableError:
        pass
    assert answers[:2] == [Answer(202), Answer(503, b"busy", 3.0)]


ANSWERS = [answer(202), answer(200, "ok"), answer(503, "busy"), answer(204).replace(b"Content-Length: 0\r\n", b"")]
ANSWERS.append(b"HTTP/1.1 103 Hints\r\n\r\n" + answer(202))


@given(st.lists(st.sampled_from(ANSWERS), max_size=30), st.lists(st.integers(0, 400), max_size=30))
def test_answers_that_repeat_are_read_like_any_other(wire: list[bytes], cuts: list[int]) -> None:
    """However they arrive: the short cut for known bytes changes nothing."""
    answers: list[Answer] = []
    reader = AnswerReader(lambda answer, goes_on, times: answers.extend([answer] * times if goes_on else []))
    whole = b"".join(wire)
    places = [0, *sorted({cut for cut in cuts if cut < len(whole)}), len(whole)]
    ends = [len(b"".join(wire[: n + 1])) for n in range(len(wire))]
    for start, stop in itertools.pairwise(sorted({*places, *ends[:: len(cuts) % 5 + 1]})):
        reader.feed(whole[start:stop])
    expected = {ANSWERS[0]: 202, ANSWERS[1]: 200, ANSWERS[2]: 503, ANSWERS[3]: 204, ANSWERS[4]: 202}
    assert [one.status for one in answers] == [expected[one] for one in wire]


def test_an_answer_without_end_is_cut() -> None:
    answers: list[tuple[Answer, bool]] = []
    reader = AnswerReader(lambda answer, goes_on, _: answers.append((answer, goes_on)))
    reader.feed(b"HTTP/1.1 503 X\r\n\r\n")
    reader.feed(b"x" * (MESSAGE_BYTES + 1))
    assert [(given.status, len(given.said), goes_on) for given, goes_on in answers] == [(503, 200, False)]
    endless = AnswerReader(lambda *_: None)
    endless.feed(b"HTTP/1.1 103 Hints\r\n\r\n")
    endless.feed(b"HTTP/1.1 103 Hints\r\nA: " + b"x" * (MESSAGE_BYTES // 2))
    with pytest.raises(UnreadableError, match="longer than"):
        endless.feed(b"x" * (MESSAGE_BYTES // 2))
