"""CPU time and memory of other processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def cpu(pids: Iterable[int]) -> float:
    """Seconds of user and system time of these processes, all threads: what /proc/PID/stat shows, without its ticks.

    Linux numbers the CPU clock of a process so (``clock_getcpuclockid(3)``).
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def resident(pids: Iterable[int]) -> float:
    """MiB of resident memory, shared pages counted in each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def children(pid: int) -> list[int]:
    """Processes that this one has started, and that live."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]
