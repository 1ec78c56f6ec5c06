"""What a replay tells: a line a finding, in the order of the rows, and what it comes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitor.outcome import Tally
    from sinks.base import Finding

THIN = "insufficient_data"

WORDS = {THIN: "too little data"}


@dataclass(slots=True)
class Account:
    """What was said, in numbers and in lines; ``windows`` full and ``rows`` seen, by monitor.

    ``thin`` are the windows with too little data to be judged, ``why`` what the last of them lacked.

    Rows of a table have numbers, as people count them, where events of a log have times.
    """

    windows: dict[str, int]
    is_table: bool
    alarms: int = 0
    flagged: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    thin: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[Any, str]] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        if finding.scope == "window":
            self.windows[finding.monitor] += 1
            if finding.verdict.state == THIN:
                self.thin[finding.monitor] += 1
                self.why[finding.monitor] = finding.text
            self.alarms += finding.alarm
        else:
            self.flagged += len(finding.instances)

    def count(self, tally: Tally) -> None:
        self.rows.update(tally.rows)
        self.skipped.update(tally.skipped)

    def note(self, finding: Finding) -> None:
        """Keep the finding's line. Blocks, monitors and partitions are judged in turns, which is nobody's order."""
        first, last = finding.first.offset + 1, finding.last.offset + 1
        rows = f"row {first:,}" if first == last else f"rows {first:,} to {last:,}"
        place = f"{rows:<19}" if self.is_table else f"{finding.end:%Y-%m-%d %H:%M:%S}"
        state = "ALARM" if finding.alarm else WORDS.get(finding.verdict.state, finding.verdict.state)
        word = finding.kind if finding.scope == "instance" else state
        order = finding.end, finding.last, finding.scope == "window", finding.monitor
        self.lines.append((order, f"{place}  {finding.monitor:<24} {word:<16} {finding.text}".rstrip()))

    def told(self) -> list[str]:
        """The lines, oldest first."""
        return [line for _, line in sorted(self.lines)]

    def silent(self, fill: dict[str, float]) -> list[str]:
        """Why monitors judged no window, or not all; ``fill`` is how full their open windows are."""
        few = [
            f"{name}: of {self.windows[name]:,} windows {thin:,} had too little data to be judged; "
            f"the last: {self.why[name]}"
            for name, thin in self.thin.items()
        ]
        return few + [
            f"{name}: no window was full, the last one is filled to {fill.get(name, 0.0):.0%}"
            if self.rows[name]
            else f"{name}: no rows came"
            for name, windows in self.windows.items()
            if not windows
        ]

    def in_words(self) -> str:
        """
        >>> Account({"drift": 2}, is_table=True, alarms=1).in_words()
        '2 windows judged, 1 alarm, 0 rows flagged'
        """
        thin = self.thin.total()
        counts = [(sum(self.windows.values()) - thin, "window", " judged")]
        if thin:
            counts.append((thin, "window", " with too little data"))
        counts += [(self.alarms, "alarm", ""), (self.flagged, "row", " flagged")]
        if not self.is_table:
            why = ", ".join(f"{n:,} {reason}" for reason, n in self.unusable.most_common())
            counts.append((self.unusable.total(), "unusable event", why and f" ({why})"))
        text = ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}{more}" for n, what, more in counts)
        skipped = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in sorted(self.skipped.items()) if n)
        return text + (f"; passed over: {skipped}" if skipped else "")
