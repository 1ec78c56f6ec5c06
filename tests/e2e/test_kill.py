"""A worker killed with SIGKILL at random moments: the findings are those of one that never was."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from killing import MONITORS, configured, differences, findings, work, write_log

from monitor.settings import Settings

KILLS = 50


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return configured(tmp_path)


def on(settings: Settings, folder: Path) -> Settings:
    """The same log, as it was, for a worker and a store of its own: a log lets go what all of its groups committed."""
    folder.mkdir()
    shutil.copy(settings.transport.path, folder / "log.db")
    return settings.model_copy(
        update={
            "sinks": (settings.sinks[0].model_copy(update={"path": str(folder / "findings.db")}),),
            "transport": settings.transport.model_copy(update={"path": str(folder / "log.db")}),
        }
    )


def start(settings: Settings) -> int:
    """The worker in a forked process: starting an interpreter fifty times would be most of the test."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(work(settings))
            status = 0
        finally:
            os._exit(status)
    return pid


def test_fifty_kills_change_no_finding(settings: Settings, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    write_log(settings, seed)
    whole = on(settings, tmp_path / "whole")
    asyncio.run(work(whole))
    expected = findings(whole)
    assert {finding["monitor"] for finding in expected.values()} == MONITORS

    rng = random.Random(seed)
    kills = 0
    killed = on(settings, tmp_path / "killed")
    while kills < KILLS:
        pid = start(killed)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):  # it was done before: begin again with a fresh log and store
            assert os.WEXITSTATUS(status) == 0
            assert differences(findings(killed), expected) == []
            killed = on(settings, tmp_path / f"killed{kills}")
        else:
            kills += 1
    asyncio.run(work(killed))
    assert differences(findings(killed), expected) == []
