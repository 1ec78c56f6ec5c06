"""``make demo``: its exit status is the demo's, and Ctrl-C is no error unless it was to end by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = f"""#!{sys.executable}
import signal, sys
try:
    print("running", flush=True)
    while "--fail" not in sys.argv:
        signal.pause()
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(1)
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Something in place of ``offpath``: it runs until Ctrl-C, as the demo does, or fails."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "offpath").write_text(STAND_IN)
    (tmp_path / "bin" / "offpath").chmod(0o755)
    (tmp_path / ".demo").touch()
    return tmp_path


def demo(venv: Path, arguments: str, *, interrupt: bool = True) -> tuple[int, str]:
    command = ["make", "-C", str(ROOT), "-o", f"{venv}/.demo", "demo", f"VENV={venv}", f"ARGS={arguments}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert made.stdout
    assert "running\n" in iter(made.stdout.readline, "")
    if interrupt:
        os.killpg(made.pid, signal.SIGINT)  # a terminal tells all of them: make, the shell and the demo
    _, said = made.communicate(timeout=60)
    return made.returncode, said


def test_ctrl_c_ends_the_demo_without_an_error(venv: Path) -> None:
    status, said = demo(venv, "tumour")
    assert status in (0, -signal.SIGINT)
    assert said == ""


@pytest.mark.parametrize(
    ("arguments", "interrupt"), [("--once --json", True), ("--fail", False), ("--fail --once", False)]
)
def test_a_failure_is_one(venv: Path, arguments: str, interrupt: bool) -> None:
    status, said = demo(venv, arguments, interrupt=interrupt)
    assert status not in (0, 130)
    assert "***" in said
