"""Reference against window, bin by bin, as SVG text; of many categories those that differ most."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from monitor.web.charts import svg

WIDTH, HEIGHT, BASE = 340.0, 132.0, 112.0
FULL = 8
"""So many categories are shown one by one; of more, the ``SHOWN`` that differ most; the sum of the others is told in
numbers, since its bar would leave the rest too low to be seen."""
SHOWN = 4
SIDE, GAP = 4.0, 4.0


class Bar(NamedTuple):
    """Two shares side by side, and what they are shares of."""

    label: str
    reference: float
    window: float


def histogram(found: Mapping[str, Any], label: str) -> str:
    """Reference (grey) against window (coloured), in the same bins."""
    bars = _bars(found)
    if not bars:
        return ""
    slot = (WIDTH - 2 * SIDE) / len(bars)
    drawn = bars[:SHOWN] if _is_cut(found) else bars
    high = max(share for bar in drawn for share in bar[1:]) or 1.0
    parts = []
    for i, bar in enumerate(drawn):
        at = SIDE + i * slot
        for kind, share, shift in (("ref", bar.reference, 0.08), ("now", bar.window, 0.5)):
            tall = share / high * (BASE - 8)
            parts.append(
                f'<rect class="{kind}" x="{at + shift * slot:.1f}" y="{BASE - tall:.1f}" width="{slot * 0.42:.1f}" '
                f'height="{tall:.1f}"><title>{escape(bar.label)}: {share:.1%}</title></rect>'
            )
    parts += _edge_texts(found["edges"], slot) if found["edges"] else _label_texts(bars, slot)
    for bar in bars[len(drawn) :]:
        middle = WIDTH - SIDE - slot / 2
        parts.append(_text(middle, "middle", f"{bar.reference:.1%}", BASE - 20))
        parts.append(_text(middle, "middle", f"\N{RIGHTWARDS ARROW} {bar.window:.1%}", BASE - 4))
    return svg("hist", WIDTH, HEIGHT, label, parts)


def _bars(found: Mapping[str, Any]) -> list[Bar]:
    reference, window, edges = found["reference"], found["window"], found["edges"]
    labels = [f"{_edge(low)} to {_edge(high)}" for low, high in pairwise(edges)] if edges else found["labels"]
    bars = [Bar(*bar) for bar in zip(labels, reference, window, strict=True)]
    return most_different(bars) if _is_cut(found) else bars


def _is_cut(found: Mapping[str, Any]) -> bool:
    return not found["edges"] and len(found["labels"]) > FULL


def most_different(bars: list[Bar]) -> list[Bar]:
    """The ``SHOWN`` bars that differ most, in their order, and the sum of the others.

    >>> bars = [Bar(name, 0.1, 0.2 if name in "bdfhj" else 0.0) for name in "abcdefghij"]
    >>> [bar.label for bar in most_different(bars)]
    ['a', 'b', 'c', 'd', '6 others']
    """
    ranked = sorted(range(len(bars)), key=lambda i: -abs(bars[i].window - bars[i].reference))
    chosen = sorted(ranked[:SHOWN])
    rest = [bars[i] for i in ranked[SHOWN:]]
    others = Bar(f"{len(rest)} others", sum(bar.reference for bar in rest), sum(bar.window for bar in rest))
    return [*(bars[i] for i in chosen), others]


def _edge(value: float | None) -> str:
    return "\u2026" if value is None else f"{value:.4g}"


def _edge_texts(edges: list[float | None], slot: float) -> list[str]:
    n = len(edges) - 1
    texts = []
    for i, anchor in ((0, "start"), (n // 2, "middle"), (n, "end")):
        if edges[i] is not None and not (i == 0 and anchor == "middle"):
            texts.append(_text(SIDE + i * slot, anchor, _edge(edges[i])))
    return texts


def _label_texts(bars: list[Bar], slot: float) -> list[str]:
    return [_text(SIDE + (i + 0.5) * slot, "middle", fitted(bar.label, slot - GAP)) for i, bar in enumerate(bars)]


def _text(x: float, anchor: str, text: str, y: float = HEIGHT - 5) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def fitted(text: str, room: float) -> str:
    """As much of the text as there is room for, in units of the picture, of which a letter is 11 high.

    >>> fitted("Male", 40), fitted("Married-civ-spouse", 40)
    ('Male', 'Marr\u2026')
    """
    if sum(map(_width, text)) <= room:
        return text
    used, kept = 11.0, ""
    for letter in text:
        used += _width(letter)
        if used > room:
            break
        kept += letter
    return kept.rstrip() + "\u2026"


def _width(letter: str) -> float:
    """A letter's width in a wide sans serif: too wide rather than too narrow."""
    if unicodedata.east_asian_width(letter) in "WF" or letter in "MWmw@%":
        return 11.0
    if letter in "iljt.,:;'|!()[] fr-":
        return 4.6
    return 8.0 if letter.isupper() else 6.9
