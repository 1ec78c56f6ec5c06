"""The demo on a terminal: a live view, or plain lines where there is none."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor.examples.demo import Addresses
from monitor.examples.outcome import Summary
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
    """Shows progress; ``say`` prints a line above it. Says each finding in words once, when it comes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._told: set[str] = set()
        self._stage = ""

    def begin(self, addresses: Addresses) -> None:
        self.say(f"status page  {addresses.worker}/")
        self.say(f"metrics      {addresses.worker}/metrics   sidecar {addresses.admin}/metrics")
        self.say(f"clients call {addresses.capture}, the sidecar in front of {addresses.model}")
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def update(self, stage: str, seen: Seen, sent: Sent) -> None:
        """Show the numbers of one look."""
        if stage != self._stage:
            self._stage = stage
            self.say(f"[bold]now[/bold] {stage}")
        for monitor in seen.monitors:
            news = monitor["text"] if monitor["state"] == "alarm" else monitor["last_flagged"]
            key = f"{monitor['name']}: {news}"
            if news and key not in self._told:
                self._told.add(key)
                word = "[bold red]ALARM[/bold red]" if monitor["state"] == "alarm" else "[yellow]outlier[/yellow]"
                self.console.print(word, Text(key))
        if self._live is not None:
            self._live.update(_panel(stage, seen, sent))

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def conclude(self, found: Summary) -> None:
        """Say how it went."""
        to_alarm = (
            "no alarm came" if found.windows_to_alarm is None else f"{found.windows_to_alarm} windows to the alarm"
        )
        self.say(
            f"{found.requests} requests, {found.captured} captured, {found.lost} lost; {found.clean_windows} clean "
            f"windows with {found.alarms_before_shift} alarms; after the shift {to_alarm}; outliers: "
            f"{found.outliers_found} of {found.outliers_planted} found, {found.outliers_false} others flagged; "
            f"{found.seconds:.0f} s"
        )
        if found.finding:
            self.console.print("the finding:", Text(found.finding))
        self.say("[green]all well[/green]" if found.well else "[red]not as it should be[/red]")


def _panel(stage: str, seen: Seen, sent: Sent) -> Panel:
    head = Text(
        f"requests {sent.answered}   captured {seen.captured}   judged {seen.judged}   lag {seen.lag}   "
        f"dropped {seen.dropped}   dead letters {seen.dead_letters}"
    )
    table = Table(expand=True, box=None, pad_edge=False)
    for name in ("monitor", "state", "windows", "flagged", "in words"):
        table.add_column(name, overflow="fold")
    for monitor in seen.monitors:
        counts = monitor["counts"]
        text, style = MARKS[monitor["state"]]
        windows = counts["ok"] + counts["alert"] + counts["insufficient_data"]
        table.add_row(
            monitor["name"], Text(text, style), str(windows), str(counts["flagged_events"]), Text(monitor["text"])
        )
    return Panel(Group(head, Text(), table), title=f"offpath demo: {stage}", title_align="left", border_style="blue")
