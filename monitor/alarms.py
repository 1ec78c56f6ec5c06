"""From rows to a verdict that never fails, and from verdicts to alarms. Pure."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from detectors.base import Verdict
from monitor.findings import MonitorSpec


class Alarms:
    """When alerts of a windowed monitor become an alarm; ``streak`` alerting windows came in a row so far."""

    def __init__(self, spec: MonitorSpec, streak: int) -> None:
        self._spec, self.streak = spec, streak

    def raised(self, verdict: Verdict) -> bool:
        """Whether there is one, now that this is the verdict on the next window."""
        self.streak = self.streak + 1 if verdict.state == "alert" else 0
        enough = (verdict.effect_size or 0.0) >= self._spec.min_effect_size
        return verdict.state == "alert" and self.streak >= self._spec.consecutive and enough


def verdict_of(judging: Callable[[], Verdict], n: int, seconds: list[float]) -> tuple[Verdict, str]:
    """What a detector says of ``n`` rows; one that fails is no verdict, and must not stop the worker."""
    began = perf_counter()
    try:
        verdict = judging()
    except Exception as error:
        return Verdict("insufficient_data", n=n), f"the detector failed: {type(error).__name__}: {error}"
    seconds.append(perf_counter() - began)
    return verdict, ""
