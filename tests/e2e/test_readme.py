"""The README's path to a monitor of one's own, as a newcomer walks it."""

from __future__ import annotations

import csv
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from servers import free_port, serving

README = Path(__file__).parents[2] / "README.md"
CALL = re.compile(r"curl http://127\.0\.0\.1:9081(\S+) -d '(.+)'")


class Model(BaseHTTPRequestHandler):
    """A model server that answers one prediction."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"predictions": [[0.5]]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def upstream() -> Iterator[int]:
    with serving(Model) as port:
        yield port


until = partial(servers.until, despite=(httpx.HTTPError,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's configuration, and reference data with its columns."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (tmp_path / "offpath.yaml").write_text(blocks[0])
    rng = random.Random(0)
    for name, rows in (("train.csv", 2000), ("last-month.csv", 1000)):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["age", "hours", "sex"])
            writer.writerows(
                [rng.randint(17, 80), rng.randint(10, 60), rng.choice(["Female", "Male"])] for _ in range(rows)
            )
    return tmp_path


@pytest.fixture
def offpath(folder: Path, upstream: int) -> Iterator[Callable[..., Any]]:
    """Runs the README's commands in the folder, on free ports."""
    ports = {
        "OFFPATH_CAPTURE__LISTEN": free_port(), "OFFPATH_CAPTURE__UPSTREAM": upstream,
        "OFFPATH_CAPTURE__ADMIN": free_port(), "OFFPATH_WORKER__LISTEN": free_port(),
    }  # fmt: skip
    environ = {**os.environ, **{name: f"127.0.0.1:{port}" for name, port in ports.items()}}
    started: list[subprocess.Popen[bytes]] = []

    def run(command: str, *, wait: bool = True) -> Any:
        arguments = [sys.executable, "-m", "monitor", *command.split()[1:]]
        if wait:
            done = subprocess.run(arguments, cwd=folder, env=environ, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout
        with (folder / f"{command.split()[1]}.log").open("w") as said:
            started.append(subprocess.Popen(arguments, cwd=folder, env=environ, stderr=said))
        return ports

    yield run
    for process in started:
        process.terminate()
    assert [process.wait(30) for process in started] == [0] * len(started)


def test_a_model_of_ones_own(offpath: Callable[..., Any], folder: Path) -> None:
    text = README.read_text()
    commands = re.findall(r"^    (offpath .*)$", text, flags=re.MULTILINE)
    fits = [command for command in commands if command.startswith("offpath fit")]
    services = [command for command in commands if command.startswith(("offpath capture", "offpath worker"))]
    replays = [command for command in commands if command.startswith("offpath replay")]
    assert (len(fits), len(services), len(replays)) == (2, 2, 1)
    for command in fits:
        assert "2,000 rows" in offpath(command)
    offpath("offpath check")
    assert "income-drift" in offpath(replays[0] + " --all")
    for command in services:
        ports = offpath(command, wait=False)
    clients, page = (
        f"http://127.0.0.1:{ports[name]}" for name in ("OFFPATH_CAPTURE__LISTEN", "OFFPATH_WORKER__LISTEN")
    )
    found = CALL.search(text)
    assert found
    until(lambda: httpx.get(f"{page}/readyz").status_code == 200)
    until(lambda: httpx.post(clients + found[1], content=found[2]).json() == {"predictions": [[0.5]]})
    until(lambda: httpx.get(f"{page}/api/pipeline").json()["events"] >= 2)
    names = [monitor["name"] for monitor in httpx.get(f"{page}/api/monitors").json()]
    assert names == ["income-drift", "income-outliers"]
    assert f"status page on {page}, metrics at {page}/metrics" in (folder / "worker.log").read_text()


def test_what_pip_is_to_install_is_the_clone_and_there_are_such_extras() -> None:
    extras = set(re.findall(r"^(\w+) = \[", (README.parent / "pyproject.toml").read_text(), flags=re.MULTILINE))
    for page in (README, *README.parent.glob("docs/*.md")):
        text = page.read_text()
        for what in re.findall(r"pip install (?:-c \S+ )?(?:-e )?(\S+)", text):
            assert what.strip('"`').split("[")[0] == ".", f"{page.name}: {what}"
        assert set(re.findall(r'"\.\[(\w+)\]"', text)) <= extras, page.name


def test_every_link_leads_somewhere() -> None:
    for page in (
        *README.parent.glob("[A-Z]*.md"),
        *README.parent.glob("docs/*.md"),
        *README.parent.glob("deploy/**/*.md"),
    ):
        for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
