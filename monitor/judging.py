"""Which judge a monitor has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors.online import Online
from monitor.findings import MonitorSpec
from monitor.judge import InstanceJudge, Judge, SummingJudge
from monitor.online_judge import OnlineJudge


def make_judge(spec: MonitorSpec, partition: str, state: Mapping[str, Any] | None, resume: int) -> Judge:
    """The judge that fits the monitor's detector and windows."""
    kind: type[Judge] = Judge
    if spec.summariser is not None:
        kind = SummingJudge
    elif isinstance(spec.detector, Online):
        kind = OnlineJudge
    elif spec.kind != "drift":
        kind = InstanceJudge
    return kind(spec, partition, state, resume)
