"""What the endpoint counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

OUTCOMES = (
    "accepted",
    "duplicate",
    "invalid",
    "too_large",
    "unsupported",
    "unauthorized",
    "busy",
    "timeout",
    "unavailable",
    "aborted",
)


class Metrics:
    """Registered with every outcome at 0. ``held`` answers the bytes of requests under way."""

    def __init__(self, registry: CollectorRegistry, held: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which tells nothing here
        self._events = Counter(
            "offpath_ingest_events_total",
            "Requests that brought an event, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._events.labels(outcome)
        Gauge("offpath_ingest_waiting_bytes", "Of requests under way.", registry=registry).set_function(held)

    def count(self, outcome: str) -> None:
        self._events.labels(outcome).inc()
