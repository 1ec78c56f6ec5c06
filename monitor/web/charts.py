"""Small pictures as SVG text: they need no script, no network, and follow the page's colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 720.0, 190.0
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
    """Statistic against threshold over the last windows; alarms are filled diamonds, alerts rings."""
    known = [(i, entry) for i, entry in enumerate(entries) if entry["statistic"] is not None]
    if not known:
        return ""
    high = max(max(e["statistic"], e["threshold"] or 0.0) for _, e in known) * 1.08 or 1.0
    step = (WIDTH - LEFT - RIGHT) / max(1, len(entries) - 1)

    def x(i: int) -> float:
        return LEFT + i * step

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - max(0.0, value) / high * (HEIGHT - BOTTOM - TOP)

    parts = [_grid(high, y)]
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
    return _svg("chart", WIDTH, HEIGHT, label, parts)


def _grid(high: float, y: Any) -> str:
    lines = []
    for value in ticks(high):
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
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


def histogram(found: Mapping[str, Any], label: str) -> str:
    """Reference (outline) against window (filled), in the same bins."""
    reference, window = found["reference"], found["window"]
    n = len(reference)
    if not n:
        return ""
    width, height, base = 340.0, 132.0, 112.0
    high = max((*reference, *window)) or 1.0
    slot = (width - 8) / n
    parts = []
    for i, (before, after) in enumerate(zip(reference, window, strict=True)):
        at = 4 + i * slot
        for kind, share, shift in (("ref", before, 0.08), ("now", after, 0.5)):
            tall = share / high * (base - 8)
            parts.append(
                f'<rect class="{kind}" x="{at + shift * slot:.1f}" y="{base - tall:.1f}" width="{slot * 0.42:.1f}" '
                f'height="{tall:.1f}"><title>{share:.1%}</title></rect>'
            )
    for at_bin, text in _bin_labels(found, n):
        anchor = "start" if at_bin == 0 else "end" if at_bin >= n else "middle"
        parts.append(f'<text x="{4 + at_bin * slot:.1f}" y="{height - 5}" text-anchor="{anchor}">{escape(text)}</text>')
    return _svg("hist", width, height, label, parts)


def _svg(kind: str, width: float, height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"


def _bin_labels(found: Mapping[str, Any], n: int) -> list[tuple[float, str]]:
    edges, labels = found["edges"], found["labels"]
    if edges:
        known = [(i, edges[i]) for i in (0, n // 2, n) if i < len(edges) and edges[i] is not None]
        return [(float(i), f"{edge:.4g}") for i, edge in known]
    room = max(3, int(52 / n))
    return [(i + 0.5, label if len(label) <= room else label[: room - 1] + "\u2026") for i, label in enumerate(labels)]
