"""Small pictures as SVG text: they need no script, no network, and follow the page's colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, NARROW, HEIGHT = 720.0, 340.0, 190.0
LEFT, BOTTOM, TOP, RIGHT = 52.0, 22.0, 10.0, 8.0


def sparkline(values: Sequence[float | None], alerts: Sequence[bool], width: float = 140, height: float = 30) -> str:
    """A line of values, a dot where there was an alert.

    >>> sparkline([], [])
    ''
    """
    points = [
        (i, value, alert) for i, (value, alert) in enumerate(zip(values, alerts, strict=True)) if value is not None
    ]
    if not points:
        return ""
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    span = (high - low) or 1.0
    step = (width - 6) / max(1, len(values) - 1)

    def place(i: int, value: float) -> tuple[float, float]:
        return 3 + i * step, height - 3 - (value - low) / span * (height - 6)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(i, value) for i, value, _ in points))
    dots = "".join(
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
        for x, y in (place(i, value) for i, value, alert in points if alert)
    )
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        'aria-hidden="true">'
        f'<polyline class="line" points="{line}"/>{dots}</svg>'
    )


def timeline(entries: Sequence[Mapping[str, Any]], label: str) -> str:
    """Statistic against threshold over the last windows; alarms are filled diamonds, alerts rings.

    Drawn for a wide window and for a narrow one, of which the page shows one: were one picture scaled, its text
    could not be read on a phone.
    """
    return _timeline(entries, label, "chart wide", WIDTH) + _timeline(entries, label, "chart narrow", NARROW)


def _timeline(entries: Sequence[Mapping[str, Any]], label: str, kind: str, width: float) -> str:
    known = [(i, entry) for i, entry in enumerate(entries) if entry["statistic"] is not None]
    if not known:
        return ""
    high = max(max(e["statistic"], e["threshold"] or 0.0) for _, e in known) * 1.08 or 1.0
    step = (width - LEFT - RIGHT) / max(1, len(entries) - 1)

    def x(i: int) -> float:
        return LEFT + i * step

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - max(0.0, value) / high * (HEIGHT - BOTTOM - TOP)

    parts = [_grid(high, y, width)]
    line = " ".join(f"{x(i):.1f},{y(e['statistic']):.1f}" for i, e in known)
    bounds = " ".join(f"{x(i):.1f},{y(e['threshold']):.1f}" for i, e in known if e["threshold"] is not None)
    parts.append(f'<polyline class="bound" points="{bounds}"/><polyline class="line" points="{line}"/>')
    for i, e in known:
        title = f"<title>{escape(e['when'])}: {e['statistic']:.4g}</title>"
        if e["alarm"]:
            parts.append(
                f'<path class="alarm" d="M{x(i):.1f} {y(e["statistic"]) - 6:.1f}l6 6l-6 6l-6 -6z">{title}</path>'
            )
        elif e["state"] == "alert":
            parts.append(f'<circle class="mark" cx="{x(i):.1f}" cy="{y(e["statistic"]):.1f}" r="4">{title}</circle>')
        else:
            parts.append(f'<circle class="dot" cx="{x(i):.1f}" cy="{y(e["statistic"]):.1f}" r="2.2">{title}</circle>')
    for i, anchor in ((0, "start"), (len(entries) - 1, "end")):
        parts.append(
            f'<text x="{x(i):.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{escape(entries[i]["when"])}</text>'
        )
    return svg(kind, width, HEIGHT, label, parts)


def _grid(high: float, y: Any, width: float) -> str:
    lines = []
    for value in ticks(high):
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    return "".join(lines)


def ticks(high: float, wanted: int = 4) -> list[float]:
    """Round values from 0 up to ``high``.

    >>> ticks(1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    rough = high / wanted
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    return [i * step for i in range(int(high / step + 1e-9) + 1)]


def svg(kind: str, width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """A picture that is as wide as its place; ``label`` is read out instead of it."""
    head = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"
