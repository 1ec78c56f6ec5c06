"""The command line: help, exit statuses, and what it does not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monitor import cli

HEAVY = {"torch", "scipy.stats", "sklearn", "fastapi", "starlette", "uvicorn", "numpy.testing"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert f"offpath {name}" in said.split("example", 1)[1]


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"\n    {name} " in said for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["check", "x.yaml"], ["schema"], ["capture", "--help"]]
)
def test_light_commands_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("models: [{name: m}]\nmonitors: []\n")
    code = (
        "import sys\nfrom monitor.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.split() == []


def test_check_says_ok_or_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("models: [{name: m}]\n")
    assert cli.main(["check", str(file)]) == 0
    assert (
        capsys.readouterr().out
        == f"{file}: OK: 1 model, 0 monitors: there is nothing that `offpath worker` would judge\n"
    )
    file.write_text("modells: [{name: m}]\n")
    assert cli.main(["check", str(file)]) == 2
    assert f'{file}:1:1: modells: unknown key; did you mean "models"?\n1 mistake' in capsys.readouterr().out
    assert cli.main(["check", "--json", str(file)]) == 2
    assert json.loads(capsys.readouterr().out)[0]["nearest"] == "models"
    assert cli.main(["check", "--config", str(file)]) == 2
    assert "did you mean" in capsys.readouterr().out
    assert cli.main(["check", "a.yaml", "--config", str(file)]) == 2
    assert "give the file once" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["worker", "replay", "ingest"])
def test_a_missing_configuration_is_told_in_a_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--config", str(tmp_path / "no.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"offpath {command}: ")
    assert "No such file" in said
    assert said.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from monitor.commands import schema

    def fail(_: object) -> int:
        raise KeyError("why")

    monkeypatch.setattr(schema, "run", fail)
    assert cli.main(["schema"]) == 1
    assert "OFFPATH_DEBUG=1 shows where" in capsys.readouterr().err
    monkeypatch.setenv("OFFPATH_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["schema"])


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m monitor schema | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_words_that_are_no_command_and_flags_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ((["chek"], "did you mean check?"), (["schema", "--frob"], "offpath schema: error")):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
