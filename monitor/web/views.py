"""What a template shows, made of stored findings: words and numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from monitor.web.overview import MonitorInfo, Overview
from sinks.store import FindingStore

STATES = {
    "alarm": "Alarm",
    "alert": "Alert",
    "ok": "OK",
    "insufficient_data": "Too little data",
    "waiting": "Waiting",
}
WORST = 3
"""Columns whose histograms are shown."""


def ago(seconds: float) -> str:
    """A time span in words.

    >>> ago(5), ago(200), ago(7300)
    ('5 s ago', '3 min ago', '2 h ago')
    """
    if seconds < 90:
        return f"{max(0, round(seconds))} s ago"
    if seconds < 5400:
        return f"{round(seconds / 60)} min ago"
    return f"{round(seconds / 3600)} h ago" if seconds < 172_800 else f"{round(seconds / 86400)} days ago"


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "\u2013" if value is None else f"{value:.4g}"


def counted(n: int, things: str) -> str:
    """How many of what, one of them too.

    >>> counted(1, "alarms"), counted(2, "alarms"), counted(1, "behind")
    ('1 alarm', '2 alarms', '1 behind')
    """
    return f"{n} {things.removesuffix('s') if n == 1 else things}"


def words(text: str | None) -> str:
    """A finding's words, with an arrow that no line breaks.

    >>> words("Age: mean 38.6 -> 22.2")
    'Age: mean 38.6 \u2192 22.2'
    """
    return (text or "").replace("->", "\N{RIGHTWARDS ARROW}")


_EFFECTS = {"psi": "PSI", "jensen_shannon": "Jensen-Shannon", "wasserstein": "Wasserstein"}


def sizes(effects: Sequence[Mapping[str, Any]]) -> str:
    """Effect sizes with their intervals.

    >>> sizes([{"name": "psi", "value": 0.312, "low": 0.2, "high": 0.42}])
    'PSI 0.312 (0.2 to 0.42)'
    """
    return ", ".join(f"{_EFFECTS[e['name']]} {e['value']:.3g} ({e['low']:.3g} to {e['high']:.3g})" for e in effects)


def moment(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M:%S")


def clock_times(seconds: Sequence[float]) -> list[str]:
    """Times of day, with the day where they are not all of one.

    >>> clock_times([0.0, 60.0]), clock_times([0.0, 90000.0])
    (['00:00:00', '00:01:00'], ['01-01 00:00:00', '01-02 01:00:00'])
    """
    moments = [datetime.fromtimestamp(each, tz=timezone.utc) for each in seconds]
    shown = "%H:%M:%S" if len({moment.date() for moment in moments}) < 2 else "%m-%d %H:%M:%S"
    return [moment.strftime(shown) for moment in moments]


def summary(info: MonitorInfo, store: FindingStore, now: float) -> dict[str, Any]:
    """One monitor at a glance."""
    latest = store.latest(info.name)
    flagged = store.findings(monitor=info.name, scope="instance", limit=1)
    told = latest or (flagged[0] if flagged else None)
    state = "waiting"
    if latest:
        state = "alarm" if latest["alarm"] else latest["verdict"]["state"]
    seconds = now - datetime.fromisoformat(told["end"]).timestamp() if told else None
    return {
        "name": info.name,
        "namespace": info.namespace,
        "model": info.model,
        "kind": info.kind,
        "detector_type": info.detector_type,
        "window": info.window,
        "state": state,
        "state_text": STATES[state],
        "text": latest["text"] if latest else "no window has been judged yet",
        "last_evaluation": latest["end"] if latest else None,
        "ago": ago(seconds) if seconds is not None else "",
        "counts": store.counts(info.name),
        "last_flagged": flagged[0]["text"] if flagged else "",
    }


def detail(info: MonitorInfo, store: FindingStore, now: float) -> dict[str, Any]:
    """Everything about one monitor."""
    latest = store.latest(info.name)
    telling = latest
    alarms = store.findings(monitor=info.name, scope="window", alarm=True, limit=1)
    if alarms and latest and not latest["alarm"]:
        telling = alarms[0]
    return {
        **summary(info, store, now),
        "latest": latest,
        "last_alarm": alarms[0] if alarms else None,
        "features": feature_rows(latest) if latest else [],
        "worst": worst(telling) if telling else [],
        "told": telling,
    }


def feature_rows(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The per-column table, strangest first."""
    reasons: dict[str, list[str]] = {}
    for reason in finding["verdict"]["reasons"]:
        reasons.setdefault(reason["feature"], []).append(reason["text"])
    rows = [
        {
            **feature,
            "why": "; ".join(reasons.get(feature["name"], ())),
            "sizes": sizes(feature.get("effects", ())),  # findings of earlier versions have none
        }
        for feature in finding["verdict"]["features"]
    ]
    return sorted(rows, key=lambda row: (row["state"] != "alert", 2.0 if row["p_val"] is None else row["p_val"]))


def worst(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns with a histogram, strangest first."""
    return [row for row in feature_rows(finding) if row["histogram"]][:WORST]


def front(overview: Overview, store: FindingStore) -> list[dict[str, Any]]:
    """All monitors at a glance, those that need a look first."""
    now = overview.clock()
    order = list(STATES)
    found = [summary(info, store, now) for info in overview.monitors]
    return sorted(found, key=lambda monitor: order.index(monitor["state"]))
