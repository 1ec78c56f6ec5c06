"""What the page knows besides the findings: which monitors there are, and whether the pipeline is well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from detectors.base import DetectorKind


@dataclass(frozen=True, slots=True)
class MonitorInfo:
    """A monitor as people should see it. ``window`` is in words, ``silent_after`` in seconds (``None``: never)."""

    name: str
    namespace: str
    model: str
    kind: DetectorKind
    detector_type: str
    window: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """The monitors, a clock (epoch seconds) and the pipeline's numbers (``lag``, ``events``, ``dead_letters``...)."""

    monitors: tuple[MonitorInfo, ...]
    clock: Callable[[], float]
    pipeline: Callable[[], Mapping[str, Any]]
    title: str = "offpath"

    def monitor(self, name: str) -> MonitorInfo | None:
        return next((monitor for monitor in self.monitors if monitor.name == name), None)
