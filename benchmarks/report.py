"""How every benchmark reports: its flags, a row for each figure with its target, and JSON as the last line.

    {"benchmark": "relay", "rows": [{"name": ..., "value": ..., "unit": ..., "target": "<= 1.5", "holds": true}]}

A row without a target has neither ``target`` nor ``holds``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

# Python looks in the script's own folder first, where `detectors.py` would be taken for the package of that name.
_FOLDER = str(Path(__file__).parent)
if _FOLDER in sys.path:
    sys.path.remove(_FOLDER)
    sys.path.append(_FOLDER)


class Row(NamedTuple):
    """One figure. ``holds`` says whether it keeps its ``target``; both are ``None`` where there is none."""

    name: str
    value: float
    unit: str
    target: str | None = None
    holds: bool | None = None

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {key: value for key, value in self._asdict().items() if value is not None}

    def line(self) -> str:
        """As the table has it."""
        verdict = "" if self.target is None else f"  target {self.target}: {'holds' if self.holds else 'MISSED'}"
        return f"{self.name:<68} {self.value:>12,.10g} {self.unit}{verdict}"


def row(name: str, value: float, unit: str, most: float | None = None, *, least: float | None = None) -> Row:
    """A figure that is to be ``most`` at the most, or ``least`` at the least: judged as it is, shown with four digits
    unless it is a count."""
    shown = value if isinstance(value, int) else float(f"{value:.4g}")
    if least is not None:
        return Row(name, shown, unit, f">= {least:g}", value >= least)
    return Row(name, shown, unit) if most is None else Row(name, shown, unit, f"<= {most:g}", value <= most)


def main(benchmark: str, description: str | None, measure: Callable[[bool], Iterable[Row]]) -> int:
    """Read the flags, show the rows of ``measure(quick)`` as they come, and answer the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="the last line is JSON with every row")
    args = parser.parse_args()
    rows = []
    for found in measure(args.quick):
        print(found.line(), flush=True)
        rows.append(found.told())
    if args.json:
        print(json.dumps({"benchmark": benchmark, "rows": rows}))
    return 0
