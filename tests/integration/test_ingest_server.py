"""``offpath ingest`` as a process: real HTTP, a real log, a real SIGTERM."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from monitor.events import Record
from monitor.transport.http import HttpPublisher
from monitor.transport.log import EmbeddedLog
from monitor.web.server import bind, url_of

COMMAND = """
import argparse, sys
from monitor.commands import ingest
parser = argparse.ArgumentParser()
ingest.add_arguments(parser)
sys.exit(ingest.run(parser.parse_args()))
"""

EVENT = {"ce-id": "1", "ce-source": "s", "ce-type": "org.kubeflow.serving.inference.request"}

KSERVE_REQUEST = (
    b"POST /some/path HTTP/1.1\r\nHost: 127.0.0.1:19201\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 23\r\n"
    b'Ce-Annotations: {"team":"fraud"}\r\nCe-Component: predictor\r\nCe-Endpoint: default\r\n'
    b"Ce-Id: fa35870d-229f-4c99-bd88-5cc4b614756a\r\nCe-Inferenceservicename: my-isvc\r\n"
    b'Ce-Metadata: {"X-Tenant":["acme"]}\r\nCe-Namespace: my-ns\r\nCe-Recordedtime: 2026-11-23T01:33:19.7562544Z\r\n'
    b"Ce-Source: http://localhost:9081/\r\nCe-Specversion: 1.0\r\nCe-Time: 2026-11-23T01:33:19.755985871Z\r\n"
    b"Ce-Type: org.kubeflow.serving.inference.request\r\nContent-Type: application/json\r\n"
    b"Accept-Encoding: gzip\r\n\r\n"
    b'{"instances":[[1,2,3]]}'
)


class Server:
    """The process, its address and its log."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.log_path = directory / "log" / "log.db"
        config = directory / "offpath.yaml"
        config.write_text(f"transport:\n  path: {self.log_path}\n  partitions: 2\ningest:\n  max_body: 10KiB\n")
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "--config", str(config), "--listen", "127.0.0.1:0"],
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/bin:/bin", **environ},
        )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError("the server did not start")
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, told = self.process.communicate(timeout=30)
        return self.process.returncode, told

    def stored(self) -> list[Record]:
        log = EmbeddedLog(self.log_path, create=False)
        found = [delivery.record for block in log.scan("payloads") for delivery in block.deliveries]
        log.close()
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    if server.process.poll() is None:
        server.stop()


def test_kserves_capture_byte_for_byte(server: Server) -> None:
    response = KSERVE_REQUEST.replace(b"inference.request", b"inference.response")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for sent in (KSERVE_REQUEST, response, KSERVE_REQUEST):
            connection.sendall(sent)
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 202 ")
            assert b"content-length: 0\r\n" in answer.lower()
    stored = server.stored()
    assert [record.headers["ce_type"].rpartition(".")[2] for record in stored] == ["request", "response"]
    assert {record.key for record in stored} == {"my-ns/my-isvc"}
    assert stored[0].headers["ce_metadata"] == '{"X-Tenant":["acme"]}'
    assert stored[0].value == b'{"instances":[[1,2,3]]}'


def test_from_publisher_to_log(server: Server) -> None:
    told = {"ce_source": "/s", "ce_type": "org.kubeflow.serving.inference.request", "ce_name": "größe 100% €"}
    sent = [Record(f"ns/m{n % 3}", {**told, "ce_id": str(n)}, b"%d" % n, 0.0) for n in range(30)]

    async def publish() -> None:
        publisher = HttpPublisher(server.url)
        await publisher.publish(sent)
        await publisher.close()

    asyncio.run(publish())
    stored = server.stored()
    for key in ("ns/m0", "ns/m1", "ns/m2"):
        numbers = [int(record.value or b"") for record in stored if record.key == key]
        assert numbers == [n for n in range(30) if f"ns/m{n % 3}" == key]
    assert {record.headers["ce_name"] for record in stored} == {"größe 100% €"}


def test_health_metrics_and_a_large_body(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        large = client.post("/", content=b"x" * 11_000, headers=dict(EVENT))
        assert large.status_code == 413
        assert 'offpath_ingest_events_total{outcome="too_large"} 1.0' in client.get("/metrics").text
    assert server.stored() == []


def test_sigterm_ends_it_well_and_what_was_accepted_is_there(server: Server) -> None:
    headers = dict(EVENT)
    with httpx.Client() as client:  # its connection is kept alive, which must not hold up the end
        assert client.post(server.url, content=b"{}", headers=headers).status_code == 202
        status, told = server.stop()
    assert status == 0
    assert "Traceback" not in told
    assert len(server.stored()) == 1


def test_it_says_where_it_is_and_nothing_of_its_web_server(server: Server) -> None:
    _, told = server.stop()
    assert re.fullmatch(r"[^\n]*taking CloudEvents on http://127.0.0.1:\d+\n", "".join([*server.said, told]))


def test_the_example_of_the_help_works(server: Server) -> None:
    from monitor.commands import ingest

    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("the example calls curl: install it")
    lines = ingest.EXAMPLE.replace("\\\n", " ").splitlines()
    (command,) = (line for line in lines if line.strip().startswith("curl"))
    words = shlex.split(command.replace("127.0.0.1:9091", f"127.0.0.1:{server.port}"))
    answer = subprocess.run([curl, "-s", *words[1:]], capture_output=True, text=True, check=True).stdout
    assert answer.startswith("HTTP/1.1 202 ")
    (stored,) = server.stored()
    assert stored.value == b'{"instances": [[39, 40, "Male"]]}'
    guide = Path(ingest.__file__).parents[2] / "docs" / "ingest.md"
    assert " ".join(command.split()) in " ".join(guide.read_text().replace("\\\n", " ").split())


def test_what_was_answered_202_survives_a_kill_at_that_moment(server: Server) -> None:
    headers = dict(EVENT)
    with httpx.Client() as client:
        for number in range(20):
            headers["ce-id"] = str(number)
            assert client.post(server.url, content=b"{}", headers=headers).status_code == 202
        server.process.kill()
    server.process.communicate(timeout=30)
    assert [record.headers["ce_id"] for record in server.stored()] == [str(number) for number in range(20)]


def test_a_token_from_the_environment(tmp_path: Path) -> None:
    server = Server(tmp_path, OFFPATH_INGEST_TOKEN="secret")
    try:
        headers = dict(EVENT)
        assert httpx.post(server.url, headers=headers).status_code == 401
        headers["authorization"] = "Bearer secret"
        assert httpx.post(server.url, headers=headers).status_code == 202
    finally:
        _, told = server.stop()
    assert "secret" not in told


def test_an_address_in_use_is_named(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monitor", "ingest", "--config", tmp_path / "offpath.yaml"]
    told = subprocess.run([*command, "--listen", f"127.0.0.1:{server.port}"], capture_output=True, text=True)
    assert told.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port} (ingest.listen): Address already in use" in told.stderr


def test_an_ipv6_address_is_told_as_a_url() -> None:
    try:
        listener = bind("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert url_of(listener, "https") == f"https://[::1]:{listener.getsockname()[1]}"
