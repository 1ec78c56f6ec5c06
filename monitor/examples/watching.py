"""What an outsider sees of the demo: the sidecar's and the worker's metrics, and the worker's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(slots=True)
class Seen:
    """The numbers of one look.

    ``monitors`` are in the order of their names, ``news`` the last alarms and flagged rows, oldest first.
    """

    captured: int = 0
    dropped: int = 0
    judged: int = 0
    lag: int = 0
    dead_letters: int = 0
    monitors: list[dict[str, Any]] = field(default_factory=list)
    news: list[dict[str, Any]] = field(default_factory=list)


class Watcher:
    """Asks the sidecar and the worker over HTTP, as Prometheus and people do."""

    def __init__(self, admin: str, worker: str) -> None:
        self._admin, self._worker = admin, worker
        self._http = httpx.Client(timeout=10.0, trust_env=False)

    def look(self) -> Seen:
        """The numbers now; zeros for what does not answer yet."""
        capture, worker = self._metrics(self._admin), self._metrics(self._worker)
        monitors = self._list("/api/monitors")
        news = [*self._list("/api/findings?alarm=true&scope=window"), *self._list("/api/findings?scope=instance")]
        return Seen(
            int(_total(capture, "offpath_capture_events_total")),
            int(_total(capture, "offpath_capture_dropped_events_total"))
            + int(_total(capture, "offpath_capture_discarded_messages_total")),
            int(_total(worker, "offpath_events_total")),
            int(_total(worker, "offpath_lag_events")),
            int(_total(worker, "offpath_dead_letters_total")),
            sorted(monitors, key=lambda monitor: str(monitor["name"])),
            sorted(news, key=lambda finding: str(finding["end"])),
        )

    def ready(self) -> bool:
        """Both answer that they are ready."""
        return all(self._status(f"{base}/readyz") == 200 for base in (self._admin, self._worker))

    def timeline(self, monitor: str) -> list[dict[str, Any]]:
        return self._list(f"/api/monitors/{monitor}/timeline?limit=1000")

    def findings(self, monitor: str, scope: str) -> list[dict[str, Any]]:
        return self._list(f"/api/findings?monitor={monitor}&scope={scope}&limit=1000")

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _list(self, path: str) -> list[dict[str, Any]]:
        try:
            found = self._http.get(self._worker + path).json()
        except (httpx.HTTPError, ValueError):
            return []
        return found if isinstance(found, list) else []

    def _status(self, url: str) -> int:
        try:
            return self._http.get(url).status_code
        except httpx.HTTPError:
            return 0

    def _metrics(self, base: str) -> Mapping[str, float]:
        try:
            text = self._http.get(f"{base}/metrics").text
        except httpx.HTTPError:
            return {}
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return totals


def _total(totals: Mapping[str, float], name: str) -> float:
    value = totals.get(name, 0.0)
    return value if value == value else 0.0
