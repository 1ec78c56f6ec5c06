"""Downloads of the examples' data, from a server that gives it whole, damaged, or not."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor.examples import data
from monitor.examples.data import DataUnavailable, Source

CONTENT = b"39, State-gov\n" * 5000

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


def truncated(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])


def other(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"<html>Log in to this network</html>")


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(bytes(100_000))


def absent(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"this is no HTTP\r\n\r\n")


def stalled(handler: BaseHTTPRequestHandler) -> None:
    truncated(handler)
    handler.wfile.flush()
    handler.server.stalling.set()  # type: ignore[attr-defined]
    handler.server.released.wait(60)  # type: ignore[attr-defined]


class Server(ThreadingHTTPServer):
    """Answers as told, and counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = whole
        self.asked = 0
        self.stalling, self.released = threading.Event(), threading.Event()

    @property
    def source(self) -> Source:
        return Source(
            "set/part.data.gz", f"http://127.0.0.1:{self.server_port}/part.data", hashlib.md5(CONTENT).hexdigest()
        )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked += 1
        self.server.answer(self)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path)}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_download_is_told_checked_and_kept(server: Server, environ: dict[str, str], tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        assert data.texts([server.source], environ, told.append) == [CONTENT.decode()]
    assert told == [f"downloading {server.source.url}"]
    assert server.asked == 1
    assert files(tmp_path) == ["offpath/data/set/part.data.gz"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (truncated, "incomplete|without sending complete"),
        (endless, "more than"),
        (other, "is not the published file"),
        (absent, "404"),
        (nonsense, "does not give it"),
    ],
)
def test_a_bad_download_is_an_error_and_leaves_nothing(
    server: Server, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    server.answer = answer
    monkeypatch.setattr(data, "MAX_BYTES", 10 * len(CONTENT))
    with pytest.raises(DataUnavailable, match=words) as told:
        data.texts([server.source], environ)
    assert server.source.url in str(told.value)
    assert files(tmp_path) == []
    server.answer = whole
    assert data.texts([server.source], environ) == [CONTENT.decode()]


def test_a_damaged_file_at_hand_is_replaced_by_a_download(
    server: Server, environ: dict[str, str], tmp_path: Path
) -> None:
    kept = tmp_path / "offpath/data" / server.source.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a download")
    told: list[str] = []
    for _ in range(2):
        assert data.texts([server.source], environ, told.append) == [CONTENT.decode()]
    assert told[0].startswith(f"{kept} is damaged")
    assert told[1:] == [f"downloading {server.source.url}"]


def test_a_server_that_says_nothing_is_given_up(
    server: Server, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = stalled
    monkeypatch.setattr(data, "TIMEOUT", 0.3)
    with pytest.raises(DataUnavailable, match="timed out"):
        data.texts([server.source], environ)
    assert files(tmp_path) == []


def test_nobody_there(server: Server, environ: dict[str, str]) -> None:
    with pytest.raises(DataUnavailable, match="does not give it"):
        data.texts([server.source._replace(url="http://127.0.0.1:1/part.data")], environ)


def test_an_interrupted_download_leaves_no_half_file(server: Server, tmp_path: Path) -> None:
    server.answer = stalled
    program = f"from monitor.examples import data; data.texts([data.Source{tuple(server.source)!r}])"
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, stderr=subprocess.PIPE) as process:
        assert server.stalling.wait(100)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=100)[1]
    assert files(tmp_path) == []


def test_writing_that_fails_leaves_no_half_file(
    server: Server, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert data.texts([server.source], environ) == [CONTENT.decode()]
    assert files(tmp_path) == []


def test_a_cache_that_cannot_be_written_costs_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "offpath").write_text("a file where the folder should be")
    assert data.texts([server.source], {"XDG_CACHE_HOME": str(tmp_path)}) == [CONTENT.decode()]
