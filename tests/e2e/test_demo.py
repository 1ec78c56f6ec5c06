"""`offpath demo`, as a newcomer runs it: to its end, interrupted, on taken ports, and without its data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from monitor.examples import story
from monitor.examples.data import DataUnavailable
from monitor.examples.stack import MODEL_PORT, PORTS

LONGEST = 170
COUNTS = {
    "requests": 1900, "failed": 0, "captured": 3800, "lost": 0, "alarms_before_shift": 0, "windows_to_alarm": 1,
    "outliers_planted": 8, "outliers_found": 8, "well": True,
}  # fmt: skip

Start = Callable[..., "Running"]


class Running:
    """A demo that runs; its lines come on standard error, as with ``--json``."""

    def __init__(self, mark: str, folder: Path, arguments: tuple[str, ...], **options: Any) -> None:
        self.mark = mark
        environ = {**os.environ, "TEST_MARK": mark, "TMPDIR": str(folder), **options.pop("environ", {})}
        command = [sys.executable, "-m", "monitor", "demo", "--json", *arguments]
        self.process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.said: list[str] = []
        self._ended: tuple[int, str, str] | None = None

    def until(self, words: str) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return
        raise AssertionError(f"it ended without saying {words!r}: {self.said}")

    def end(self) -> tuple[int, str, str]:
        """Exit status, standard output, everything said."""
        if self._ended is None:
            out, error = self.process.communicate(timeout=LONGEST)
            self._ended = self.process.returncode, out, "".join(self.said) + error
        return self._ended

    def alive(self) -> list[str]:
        """Processes of this demo: its own and all that it started, which inherit the mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"TEST_MARK={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass  # it has just ended, or is somebody else's
        return [command for command in found if command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts demos whose temporary folders are in ``tmp_path/temporary``; ends those that still run."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    started: list[Running] = []

    def run(*arguments: str, **options: Any) -> Running:
        started.append(Running(f"{tmp_path}-{len(started)}", temporary, arguments, **options))
        return started[-1]

    yield run
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
        demo.end()


def summary(demo: Running) -> dict[str, Any]:
    status, out, said = demo.end()
    assert status == 0, said
    assert "Traceback" not in said
    found: dict[str, Any] = json.loads(out)
    assert {name: found[name] for name in COUNTS} == COUNTS
    assert found["clean_windows"] >= 10
    assert found["outliers_false"] <= 20
    return found


def without(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != name}


def test_tumour_to_the_alarm_twice_at_once_with_the_usual_ports_taken(start: Start) -> None:
    """Two demos side by side find ports of their own, and the same seed says the same.

    One ends by itself, the other goes on until Ctrl-C: after the story that is a success.
    """
    usual = []
    with ExitStack() as taken:
        for port in (MODEL_PORT, *PORTS.values()):
            with suppress(OSError):  # taken by somebody else, who may give it back
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
                usual.append(port)
        arguments = ("tumour", "--seed", "3", "--rate", "1000")
        demos = [start(*arguments, "--once"), start(*arguments)]
        first = summary(demos[0])
        demos[1].until("the traffic goes on; Ctrl-C ends it")
        demos[1].process.send_signal(signal.SIGINT)
        second = summary(demos[1])
    assert without(first, "seconds") == without(second, "seconds")
    assert first["seed"] == 3
    assert first["finding"].startswith("mean ")
    for demo in demos:
        addresses = re.findall(r"http://127\.0\.0\.1:(\d+)", demo.end()[2])
        assert len(addresses) >= 4
        assert not {int(port) for port in addresses} & set(usual)
        assert demo.alive() == []


def test_income_to_the_alarm(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFFPATH_DATA_OFFLINE", "1")
    try:
        story.load("income")
    except DataUnavailable as error:
        pytest.skip(f"{error}: set OFFPATH_DATA to a folder with UCI Adult, or run `make demo` once with a network")
    demo = start("--once", "--rate", "1000", "--dir", str(tmp_path / "kept"))
    found = summary(demo)
    assert found["example"] == "income"
    assert found["finding"].startswith("Age: mean 38.6 -> ")
    said = demo.end()[2]
    assert said.count("ALARM income-drift: Age") == 1
    assert said.count("outlier income-outliers: Age = 190") == 8
    assert said.index("now clean traffic") < said.index("now the population has shifted") < said.index("ALARM")
    checked = subprocess.run(
        [sys.executable, "-m", "monitor", "check", "demo.yaml"], cwd=tmp_path / "kept", capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout.splitlines()[0]) == (0, "demo.yaml: OK: 1 model, 3 monitors")
    again = start("--once", "--dir", str(tmp_path / "kept"))
    assert again.end()[::2] == (
        1,
        f"offpath demo: {tmp_path / 'kept'} holds log.db already; give another --dir, or remove it\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["training the tumour model", "now clean traffic"])
def test_interrupted(start: Start, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    demo = start("tumour")
    demo.until(moment)
    demo.process.send_signal(number)
    status, out, said = demo.end()
    assert (status, out) == (130, "")
    assert said.endswith("stopped\n")
    assert "Traceback" not in said
    assert demo.alive() == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_killed_it_leaves_no_process(start: Start) -> None:
    demo = start("tumour")
    demo.until("now clean traffic")
    assert len(demo.alive()) >= 5  # the demo, model server, worker, relay, shipper
    demo.process.kill()
    demo.end()
    deadline = time.monotonic() + 60
    while demo.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert demo.alive() == []


def test_without_adult_one_line_says_so_and_tumour_runs(start: Start, tmp_path: Path) -> None:
    """A copy of the code where no ``../shared`` is, an empty cache, and no download."""
    clone = tmp_path / "clone"
    for package in ("monitor", "detectors", "sinks"):
        shutil.copytree(Path(story.__file__).parents[2] / package, clone / package)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OFFPATH_DATA": "/nonexistent", "OFFPATH_DATA_OFFLINE": "1"}
    demo = start(cwd=clone, environ=environ)
    demo.until("now clean traffic")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end()[2].startswith(
        "UCI Adult cannot be had, so the example is tumour: adult/adult.data.gz is not in /nonexist"
    )


def test_a_damaged_file_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "adult.data.gz").write_bytes(b"<html>Log in</html>")
    demo = start(environ={"OFFPATH_DATA": str(tmp_path), "OFFPATH_DATA_OFFLINE": "1"})
    demo.until("training the ")  # of income, where the data is elsewhere at hand, else of tumour
    demo.process.send_signal(signal.SIGINT)
    assert f"{tmp_path}/adult/adult.data.gz is damaged, remove it" in demo.end()[2].splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--rate", "0"), "--rate: must be a number above 0"), (("--seed=-1",), "--seed: must be a whole number")],
)
def test_wrong_usage_is_told(start: Start, arguments: tuple[str, ...], words: str) -> None:
    status, out, said = start(*arguments).end()
    assert (status, out) == (2, "")
    assert said.startswith("usage: offpath demo ")
    assert words in said
