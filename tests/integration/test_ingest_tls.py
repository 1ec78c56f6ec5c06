"""``offpath ingest`` over TLS: real handshakes, mutual TLS, certificates replaced while it runs, a port for probes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka_broker import make_certificates

from monitor import configuration
from monitor.ingest.certificates import Certificates

EVENT = {"ce-id": "1", "ce-source": "s", "ce-type": "org.kubeflow.serving.inference.request"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.pem`` signed ``broker`` (of 127.0.0.1), ``client`` and ``expired``; ``other.pem`` signed nothing."""
    folder = tmp_path_factory.mktemp("tls") / "pki"
    make_certificates(folder)
    return folder


class Server:
    """The process; ``url`` is that of the events, ``admin`` of the probes."""

    def __init__(self, folder: Path, ingest: dict[str, Any]) -> None:
        config = folder / "offpath.yaml"
        ingest = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", **ingest}
        config.write_text(json.dumps({"transport": {"path": "log.db"}, "ingest": ingest}))
        command = [sys.executable, "-m", "monitor", "ingest", "--config", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"taking CloudEvents on (https?://\S+), administration at (http://\S+)", line)
        assert found, line
        self.url, self.admin = found.groups()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, told = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return told


@pytest.fixture
def folder(pki: Path, tmp_path: Path) -> Path:
    for name in ("broker.crt", "broker.key", "ca.pem"):
        shutil.copy(pki / name, tmp_path / name)
    return tmp_path


def context(pki: Path, ca: str = "ca.pem", cert: str = "") -> ssl.SSLContext:
    told = ssl.create_default_context(cafile=pki / ca)
    if cert:
        told.load_cert_chain(pki / f"{cert}.crt", pki / f"{cert}.key")
    return told


def post(server: Server, verify: ssl.SSLContext) -> int:
    return httpx.post(server.url, headers=EVENT, content=b"{}", verify=verify).status_code


@pytest.fixture
def mutual(folder: Path) -> Iterator[Server]:
    server = Server(folder, {"tls": {"cert": "broker.crt", "key": "broker.key", "client_ca": "ca.pem"}})
    yield server
    if server.process.poll() is None:
        server.stop()


def test_mutual_tls(mutual: Server, pki: Path) -> None:
    assert post(mutual, context(pki, cert="client")) == 202
    for stranger in ("", "expired"):
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            post(mutual, context(pki, cert=stranger))
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        post(mutual, context(pki, ca="other.pem", cert="client"))
    assert post(mutual, context(pki, cert="client")) == 202, "strangers disturb nobody"


def test_probes_and_metrics_need_no_certificate_and_events_do_not_come_that_way(mutual: Server, pki: Path) -> None:
    post(mutual, context(pki, cert="client"))
    assert httpx.get(f"{mutual.admin}/healthz").text == httpx.get(f"{mutual.admin}/readyz").text == "ok\n"
    assert 'outcome="accepted"} 1.0' in httpx.get(f"{mutual.admin}/metrics").text
    assert httpx.post(mutual.admin, headers=EVENT, content=b"{}").status_code in (404, 405)


def test_certificates_are_replaced_while_it_runs(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, pki: Path
) -> None:
    server = Server(folder, {"tls": {"cert": "broker.crt", "key": "broker.key", "client_ca": "ca.pem"}})
    try:
        assert post(server, context(pki, cert="client")) == 202
        (folder / "broker.crt").write_text("half a certificate")
        assert post(server, context(pki, cert="client")) == 202, "the last one stays"
        anew = tmp_path_factory.mktemp("again") / "pki"
        make_certificates(anew)
        for name in ("broker.key", "broker.crt", "ca.pem"):
            shutil.copy(anew / name, folder / f"{name}.next")
            (folder / f"{name}.next").replace(folder / name)
        assert post(server, context(anew, cert="client")) == 202
        both = context(anew)  # knows the server, and is of the CA that is no more trusted
        both.load_cert_chain(pki / "client.crt", pki / "client.key")
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            post(server, both)
    finally:
        told = server.stop()
    assert "the last ones stay" in told
    assert "Traceback" not in told


def test_a_sender_that_speaks_no_tls_or_only_old_ones_is_told_off(mutual: Server, pki: Path) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(mutual.url.replace("https", "http"), headers=EVENT)
    old = context(pki, cert="client")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.TransportError):
        post(mutual, old)
    assert post(mutual, context(pki, cert="client")) == 202


def test_a_session_is_not_resumed_past_the_look_at_a_clients_certificate(mutual: Server, pki: Path) -> None:
    port = int(mutual.url.rpartition(":")[2])
    known = context(pki, cert="client")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        known.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")  # a ticket would have come before
        assert connection.version() == "TLSv1.3"
        assert connection.session is None or not connection.session.has_ticket


def test_a_head_without_end_is_answered_400(tmp_path: Path) -> None:
    server = Server(tmp_path, {})
    try:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nce-id: " + b"1" * 70_000)
            assert b"400 Bad Request" in connection.recv(4096)
        large = {**EVENT, "ce-metadata": "m" * 30_000}
        with httpx.Client() as client:
            for n in range(4):  # the bound is one request's, not a connection's
                assert client.post(server.url, headers={**large, "ce-id": f"{n}"}, content=b"{}").status_code == 202
            assert client.post(server.url, headers={**EVENT, "ce-id": "x"}, content=b"z" * 200_000).status_code == 202
    finally:
        server.stop()


def test_a_token_file_that_changes(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("first\n")
    server = Server(tmp_path, {"token_file": "tokens"})
    try:

        def status(token: str) -> int:
            return httpx.post(server.url, headers={**EVENT, "authorization": f"Bearer {token}"}).status_code

        assert (status("first"), status("second")) == (202, 401)
        (tmp_path / "tokens").write_text("first\nsecond\n")
        assert (status("first"), status("second")) == (202, 202)
    finally:
        told = server.stop()
    assert "first" not in told


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cert": "broker.crt", "key": "client.key"}, r"ingest\.tls: .*broker.crt and .*client.key are no .*its key"),
        ({"cert": "broker.key"}, r"ingest\.tls: .*broker.key are no certificate"),
        ({"cert": "broker.pem", "client_ca": "broker.key"}, r"ingest\.tls\.client_ca: .* no certificate of a CA"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_named(pki: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Certificates(**{name: pki / file for name, file in files.items()})


def test_mistakes_in_the_settings_are_named(tmp_path: Path) -> None:
    config = tmp_path / "offpath.yaml"
    for text, words in (
        ("tls: {key: offpath.yaml}", "ingest.tls.key: is of no use without cert"),
        ("tls: {cert: nowhere.pem}", "there is no such file"),
        ("token_file: nowhere", "there is no such file"),
        ("waiting: 1MiB", "ingest.waiting: must be twice max_body"),
        ("admin: here", "expected host:port"),
    ):
        config.write_text(f"ingest:\n  {text}\n")
        (mistake,) = configuration.check(config, {})
        assert words in str(mistake)
        assert str(mistake.path).startswith("ingest")
