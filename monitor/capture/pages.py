"""What the administration port shows, of one relay process or of all."""

from __future__ import annotations

from monitor.capture.admin import Answer
from monitor.capture.metrics import METRICS, Ledger


def summary(ledger: Ledger) -> str:
    """One line of totals."""
    counts = {m.name: sum(int(ledger[key]) for key in m.samples) for m in METRICS}
    shown = ("events", "published", "spooled", "dropped_events", "dropped_frames", "discarded_messages")
    return ", ".join(f"{name.replace('_', ' ')} {counts[f'offpath_capture_{name}_total']}" for name in shown)


def metrics(ledger: Ledger) -> Answer:
    return Answer(200, ledger.text(), "text/plain; version=0.0.4; charset=utf-8")


def healthz() -> Answer:
    return Answer(200, "ok\n")


def readyz(ready: bool) -> Answer:
    return Answer(200, "ready\n") if ready else Answer(503, "stopping\n")
