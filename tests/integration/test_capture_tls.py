"""The sidecar towards a receiver that wants to see a certificate: ``offpath ingest`` with mutual TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import make_certificates
from test_delivery import PATIENCE, Load, Scene, Sidecar, until
from test_ingest_tls import Server

from monitor.transport.http_tls import Contexts, TlsFiles
from monitor.transport.log import EmbeddedLog


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.pem`` signed ``broker`` (of 127.0.0.1), ``client`` and ``expired``; ``other.pem`` signed nothing."""
    folder = tmp_path_factory.mktemp("tls") / "pki"
    make_certificates(folder)
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path)
    yield one
    one.close()


@pytest.fixture
def receiver(pki: Path, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "ingest"
    folder.mkdir()
    tls = {"cert": str(pki / "broker.crt"), "key": str(pki / "broker.key"), "client_ca": str(pki / "ca.pem")}
    server = Server(folder, {"tls": tls})
    yield server
    server.stop()


def shown(pki: Path, cert: str) -> dict[str, str]:
    return {"ca": str(pki / "ca.pem"), "cert": str(pki / f"{cert}.crt"), "key": str(pki / f"{cert}.key")}


def start(scene: Scene, receiver: Server, tls: dict[str, str], **more: Any) -> Sidecar:
    scene.started.append(Sidecar(scene.folder, scene.upstream.port, receiver.url, tls=tls, **more))
    return scene.started[-1]


def test_every_event_arrives_over_mutual_tls(scene: Scene, receiver: Server, pki: Path, tmp_path: Path) -> None:
    sidecar = start(scene, receiver, shown(pki, "client"))
    exchanges = Load(sidecar.port, 200).until(100)
    until(lambda: sidecar.metric("published_total") == 2 * exchanges, "publishing")
    log = EmbeddedLog(tmp_path / "ingest" / "log.db", create=False)
    stored = [d.record.headers["ce_id"] for block in log.scan("payloads") for d in block.deliveries]
    log.close()
    assert len(stored) == len(set(stored)) == 2 * exchanges
    assert sidecar.lost() == 0


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (("ca.pem", ""), "it may want a client certificate: capture.tls.cert"),
        (("ca.pem", "expired"), "it may not take the one in capture.tls.cert, "),
        (("other.pem", "client"), "its certificate is not trusted: set capture.tls.ca"),
    ],
)
def test_what_is_wrong_is_told_and_the_events_wait(
    scene: Scene, receiver: Server, pki: Path, tls: tuple[str, str], said: str
) -> None:
    ca, cert = tls
    wrong = {"ca": str(pki / ca)} if not cert else {**shown(pki, cert), "ca": str(pki / ca)}
    sidecar = start(scene, receiver, wrong)
    exchanges = Load(sidecar.port, 200).until(20)
    until(lambda: sidecar.metric("spool_events") == 2 * exchanges, "waiting")
    until(lambda: said in "".join(sidecar.words), "the message")
    assert sidecar.lost() == 0


def test_files_that_are_replaced_are_read_again(pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("client.crt", "client.key", "ca.pem"):
        shutil.copy(pki / name, tmp_path / name)
    files = TlsFiles(*(str(tmp_path / name) for name in ("ca.pem", "client.crt", "client.key")))
    contexts = Contexts(files)
    first = contexts.current()
    assert contexts.current() is first
    (tmp_path / "client.crt").write_text("half a certificate")
    assert contexts.current() is first
    assert contexts.current() is first
    assert caplog.text.count("the last ones stay: capture.tls.cert") == 1
    shutil.copy(pki / "expired.crt", tmp_path / "client.crt")
    shutil.copy(pki / "expired.key", tmp_path / "client.key")
    assert contexts.current() is not first


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"URL": "http://r/", "TLS__CA": "{ca}"}, "capture.tls: is for an https url"),
        ({"URL": "https://r/", "TLS__KEY": "{ca}"}, "capture.tls.key: is of no use without cert"),
        ({"URL": "https://r/", "TLS__CA": "{no}"}, "there is no such file"),
        ({"URL": "https://r/", "TLS__CA": "{bad}"}, "holds no certificate of a CA"),
        ({"URL": "https://r/", "TLS__CERT": "{ca}"}, "are no certificate and its key"),
    ],
)
def test_mistakes_are_told_in_a_line(environ: dict[str, str], said: str, pki: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate at all")
    places = {"ca": pki / "ca.pem", "no": tmp_path / "absent.pem", "bad": tmp_path / "bad.pem"}
    variables = {f"OFFPATH_CAPTURE__{name}": value.format(**places) for name, value in environ.items()}
    found = subprocess.run(
        [sys.executable, "-m", "monitor", "capture", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert found.returncode in (1, 2)
    assert said in found.stderr
    assert "Traceback" not in found.stderr
