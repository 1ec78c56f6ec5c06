"""The demo on a terminal: a live view, or plain lines where there is none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from monitor.examples.outcome import Summary
from monitor.examples.stack import Addresses
from monitor.examples.traffic import Sent
from monitor.examples.watching import Seen

MARKS = {
    "ok": ("\u2713 OK", "green"),
    "alarm": ("\u25c6 ALARM", "bold red"),
    "alert": ("\u25b2 alert", "yellow"),
    "insufficient_data": ("\u25cb too little data", "dim"),
    "waiting": ("\u25cb waiting", "dim"),
}


class View:
    """Shows progress; ``say`` prints a line above it. Each outlier is told once, each alarm when it begins.

    ``total`` is how many requests the story has, ``shift_text`` what happens in it.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self._total = total
        self._live: Live | None = None
        self._addresses: Addresses | None = None
        self._shift_text = ""
        self._told: set[str] = set()
        self._alarmed: set[str] = set()
        self._stage = ""

    def working(self, text: str) -> AbstractContextManager[Any]:
        """A sign of life while something takes its time."""
        return self.console.status(text) if self.console.is_terminal else nullcontext()

    def begin(self, addresses: Addresses, shift_text: str) -> None:
        self._addresses, self._shift_text = addresses, shift_text
        self.say(f"clients      {addresses.capture} (sidecar) -> {addresses.model} (model)")
        self.say(f"status page  {addresses.worker}/")
        self.say(f"metrics      {addresses.worker}/metrics  {addresses.admin}/metrics")
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()

    def say(self, text: str | Text) -> None:
        self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)

    def update(self, seen: Seen, sent: Sent) -> None:
        """Show the numbers of one look."""
        stage = "clean traffic" if sent.shift_time is None else f"the population has shifted: {self._shift_text}"
        if stage != self._stage:
            self._stage = stage
            self.say(Text.assemble(("now ", "bold"), stage))
        for finding in seen.news:
            if finding["id"] not in self._told:
                self._told.add(finding["id"])
                self._tell(finding)
        self._alarmed -= {monitor["name"] for monitor in seen.monitors if monitor["state"] == "ok"}
        if self._live is not None and self._addresses is not None:
            self._live.update(self._panel(seen, sent, self._addresses))

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def conclude(self, found: Summary) -> None:
        """Say how it went."""
        when = "no alarm" if found.windows_to_alarm is None else f"the alarm in window {found.windows_to_alarm}"
        self.say(
            f"{found.requests} requests, {found.captured} events captured, {found.lost} lost\n"
            f"{found.clean_windows} clean windows with {found.alarms_before_shift} alarms; after the shift {when}\n"
            f"{found.outliers_found} of {found.outliers_planted} planted outliers found; "
            f"other rows flagged: {found.outliers_false}; {found.seconds:.0f} s"
        )
        if found.finding:
            self.say(Text.assemble(("the finding: ", "bold"), found.finding))
        self.say("[green]all well[/green]" if found.well else "[red]not as it should be[/red]")

    def _tell(self, finding: dict[str, Any]) -> None:
        name = str(finding["monitor"])
        if finding["scope"] == "instance":
            self.say(Text.assemble(("outlier ", "yellow"), f"{name}: {finding['text']}"))
        elif name not in self._alarmed:
            self._alarmed.add(name)
            self.say(Text.assemble(("ALARM ", "bold red"), f"{name}: {finding['text']}"))

    def _panel(self, seen: Seen, sent: Sent, addresses: Addresses) -> Panel:
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        bar = ProgressBar(total=self._total, completed=min(self._total, sent.answered))
        of = f" of {self._total:,}" if sent.answered < self._total else ""
        head.add_row(f"requests {sent.answered:,}{of}", bar if of else "")
        numbers = (
            f"captured {seen.captured}  judged {seen.judged}  lag {seen.lag}  "
            f"dropped {seen.dropped}  dead letters {seen.dead_letters}"
        )
        where = f"status page  {addresses.worker}/\nmetrics      {addresses.worker}/metrics"
        group = Group(head, numbers, "", _monitors(seen), "", where)
        # narrower than the terminal: the ^C that it echoes must not begin a new line
        width = self.console.width - 3
        return Panel(group, title=f"offpath demo: {self._stage}", title_align="left", border_style="blue", width=width)


def _monitors(seen: Seen) -> Table:
    table = Table(expand=True, box=None, pad_edge=False, header_style="dim")
    for name in ("monitor", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("windows", "flagged"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("in words", ratio=1, overflow="fold")
    for monitor in seen.monitors:
        counts, mark = monitor["counts"], MARKS[monitor["state"]]
        windows = counts["ok"] + counts["alert"] + counts["insufficient_data"]
        words = Text(str(monitor["text"]))
        table.add_row(monitor["name"], Text(*mark), str(windows), str(counts["flagged_events"]), words)
    return table
