"""The wheel: what it contains, and that it runs in an empty virtual environment, quickly and light."""

from __future__ import annotations

import csv
import os
import re
import resource
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from servers import serving

ROOT = Path(__file__).parents[2]
PACKAGES = ("monitor", "detectors", "sinks")
COMMANDS = ("demo", "capture", "worker", "ingest", "fit", "check", "replay", "schema")
HEAVY = {"torch", "fastapi", "starlette", "uvicorn", "sklearn", "pandas"}

CONFIG = """\
models:
  - name: income
    features: [{name: age}]
monitors:
  - name: income-drift
    model: income
    window: {count: 500}
    detector: {type: KSDrift, reference: train.csv}
sinks: [{type: store}]
"""


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert isinstance(done, subprocess.CompletedProcess)
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a virtual environment that holds the wheel and nothing else: no pip, no dependencies."""
    folder = tmp_path_factory.mktemp("empty")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    installed = run(
        sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def complete(empty: Path, wheel: Path) -> Path:
    """The same with the dependencies, from the package index."""
    installed = run(
        sys.executable, "-m", "pip", "--python", empty / "python", "install", "--quiet", "--timeout", "10",
        "--retries", "1", "-c", ROOT / "constraints.txt", wheel,
    )  # fmt: skip
    if installed.returncode and not index_answers():
        pytest.skip("the package index cannot be reached: run this test with a network")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return empty


def index_answers() -> bool:
    try:
        with urllib.request.urlopen("https://pypi.org/simple/offpath-no-such-project/", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def test_it_contains_exactly_the_three_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = {name.split("/")[0] for name in names} - set(PACKAGES)
    assert len(info) == 1
    assert next(iter(info)).startswith("offpath-")
    assert next(iter(info)).endswith(".dist-info")
    sources = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.split("/")[0] in PACKAGES} == sources
    assert any(name.startswith("monitor/web/templates/") for name in names)
    assert "LICENSE" in {name.split("/")[-1] for name in names}


def test_installed_it_is_what_the_record_says(empty: Path) -> None:
    [record] = empty.parent.glob("lib/python*/site-packages/offpath-*.dist-info/RECORD")
    site = record.parents[1]
    files = {row[0] for row in csv.reader(record.read_text().splitlines())}
    assert {name.split("/")[0] for name in files} == {*PACKAGES, record.parent.name, ".."}
    assert {name for name in files if name.startswith("..")} == {"../../../bin/offpath"}
    assert {path.name for path in site.iterdir()} == {*PACKAGES, record.parent.name}


def test_help_takes_less_than_a_second(empty: Path) -> None:
    """Of CPU, so that a busy machine does not count; best of three; without a single dependency."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = run(empty / "offpath", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert told.returncode == 0, told.stderr
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.0
    assert [command for command in COMMANDS if re.search(rf"^ +{command} ", told.stdout, re.MULTILINE)] == [*COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_without_a_dependency(empty: Path, command: str) -> None:
    told = run(empty / "offpath", command, "--help")
    assert told.returncode == 0, told.stderr
    assert f"  offpath {command}" in told.stdout.partition("example")[2]


def test_with_its_dependencies_it_checks_a_file(complete: Path, tmp_path: Path) -> None:
    (tmp_path / "offpath.yaml").write_text(CONFIG)
    (tmp_path / "train.csv").write_text("age\n" + "".join(f"{age}\n" for age in range(100)))
    assert run(complete / "offpath", "check", cwd=tmp_path).stdout.startswith("offpath.yaml: OK: 1 model, 1 monitor\n")
    (tmp_path / "offpath.yaml").write_text(CONFIG.replace("window", "windw"))
    wrong = run(complete / "offpath", "check", cwd=tmp_path)
    assert wrong.returncode == 2
    assert 'did you mean "window"?' in wrong.stdout
    (tmp_path / "offpath.yaml").write_text(CONFIG.replace("KSDrift", "MMDDrift"))
    needs = run(complete / "offpath", "check", cwd=tmp_path)
    assert (needs.returncode, 'needs torch: pip install "offpath[torch]"' in needs.stdout) == (2, True)


@pytest.mark.parametrize("example", ["income", "tumour"])
def test_the_demo_says_which_extra_it_needs(complete: Path, tmp_path: Path, example: str) -> None:
    told = run(complete / "offpath", "demo", example, cwd=tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == 'offpath demo: the examples need scikit-learn: pip install "offpath[demo]"\n'


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("check",), ("check", "--help"), ("schema",)])
def test_light_commands_import_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "offpath.yaml").write_text(CONFIG)
    (tmp_path / "train.csv").write_text("age\n" + "".join(f"{age}\n" for age in range(100)))
    done = run(sys.executable, "-X", "importtime", "-m", "monitor", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert imported(done.stderr) & HEAVY == set()


class Model(BaseHTTPRequestHandler):
    """Answers one prediction."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "22")
        self.end_headers()
        self.wfile.write(b'{"predictions": [0.5]}')

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def upstream() -> Iterator[str]:
    with serving(Model) as port:
        yield f"127.0.0.1:{port}"


def test_the_sidecars_processes_import_nothing_heavy(tmp_path: Path, upstream: str) -> None:
    """Relay and shipper, started as users do, with an exchange captured, and told to report what they import."""
    arguments = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", f"--upstream={upstream}", "--log=log.db"]
    report = tmp_path / "report"
    with report.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "capture", *arguments],
            cwd=tmp_path, stderr=said, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        )  # fmt: skip
        [address] = until(lambda: re.findall(r"relaying (\S+) to", report.read_text()))
        answer = httpx.post(f"http://{address}/v1/models/income:predict", json={"instances": [[39]]}, trust_env=False)
        assert answer.json() == {"predictions": [0.5]}
        until((tmp_path / "log.db").exists)
        process.terminate()
        assert process.wait(60) == 0
    text = report.read_text()
    assert "events 2, published 2" in text
    # three interpreters: the command, the relay that it becomes, the shipper
    assert [len(re.findall(rf"\| +{name}\n", text)) for name in ("site", "monitor.capture.shipper")] == [3, 1]
    assert imported(text) & HEAVY == set()


until = partial(servers.until, seconds=100)


def imported(report: str) -> set[str]:
    """Top-level packages in what ``-X importtime`` printed."""
    return {name.split(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", report, re.MULTILINE)}


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "--type", "MMDDrift", "--reference", "train.csv", "--out", "artefact"),
        ("check",),
        ("worker",),
        ("replay", "--table", "train.csv"),
    ],
)
def test_without_torch_what_needs_it_says_how_to_have_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "offpath.yaml").write_text(CONFIG.replace("KSDrift", "MMDDrift"))
    (tmp_path / "train.csv").write_text("age\n" + "".join(f"{age}\n" for age in range(100)))
    program = "import sys; sys.modules['torch'] = None; from monitor.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run(sys.executable, "-c", program, *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert 'torch: pip install "offpath[torch]"' in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 2
