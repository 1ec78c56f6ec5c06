"""The demo's view: what is said, once; and what fits on a narrow terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from monitor.examples.stack import Addresses
from monitor.examples.traffic import Sent
from monitor.examples.view import View
from monitor.examples.watching import Seen

ADDRESSES = Addresses(*(f"http://127.0.0.1:{port}" for port in (48080, 49081, 49082, 49090)))
COUNTS = {"ok": 12, "alert": 2, "insufficient_data": 0, "flagged_events": 3}
TEXT = "Age: mean 38.6 -> 22.4; Marital Status: share of Never-Married 33 % -> 78 %; [bold]"


def monitor(name: str, state: str, text: str) -> dict[str, Any]:
    return {"name": name, "state": state, "text": text, "counts": COUNTS}


def finding(name: str, identity: str, scope: str, text: str) -> dict[str, Any]:
    return {"id": identity, "monitor": name, "scope": scope, "text": text}


def seen(state: str, *news: dict[str, Any]) -> Seen:
    monitors = [monitor("income-drift", state, TEXT), monitor("income-outliers", "insufficient_data", "no rows")]
    return Seen(captured=3200, judged=3100, lag=100, monitors=monitors, news=list(news))


@pytest.fixture
def plain() -> View:
    return View(Console(file=io.StringIO(), width=80), 1900)


def said(view: View) -> list[str]:
    file = view.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_without_a_terminal_there_are_plain_whole_lines(plain: View) -> None:
    plain.begin(ADDRESSES, "only people under 28")
    long = "x" * 300
    plain.update(seen("ok", finding("income-outliers", "a", "instance", long)), Sent())
    plain.end()
    lines = said(plain)
    assert lines[1:3] == [
        "status page  http://127.0.0.1:49090/",
        "metrics      http://127.0.0.1:49090/metrics  http://127.0.0.1:49082/metrics",
    ]
    assert lines[3:] == ["now clean traffic", f"outlier income-outliers: {long}"]
    assert "\x1b" not in "".join(lines)


def test_each_outlier_is_told_once_and_an_alarm_when_it_begins(plain: View) -> None:
    plain.begin(ADDRESSES, "")
    before = len(said(plain))
    alarms = [finding("income-drift", identity, "window", TEXT) for identity in "bcd"]
    outlier = finding("income-outliers", "a", "instance", "Age = 190")
    for look in (
        seen("ok", outlier),
        seen("alarm", outlier, alarms[0]),
        seen("alarm", outlier, *alarms[:2]),
        seen("ok", outlier, *alarms[:2]),
        seen("alarm", outlier, *alarms),
    ):
        plain.update(look, Sent())
    assert said(plain)[before + 1 :] == [
        "outlier income-outliers: Age = 190",
        f"ALARM income-drift: {TEXT}",
        f"ALARM income-drift: {TEXT}",
    ]


def test_the_shift_is_announced_once(plain: View) -> None:
    plain.begin(ADDRESSES, "only people under 28")
    for moment in (None, None, 5.0, 5.0):
        plain.update(seen("ok"), Sent(shift_time=moment))
    assert said(plain)[-2:] == ["now clean traffic", "now the population has shifted: only people under 28"]


@pytest.mark.parametrize("width", [72, 80, 120])
def test_the_panel_shows_everything_and_leaves_room_for_the_echo_of_ctrl_c(width: int) -> None:
    view = View(Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None), 1900)
    view.begin(ADDRESSES, "only people under 28")
    with view.console.capture() as captured:
        view.update(seen("alarm"), Sent(answered=812))
        view.end()
    panel = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", captured.get())
    lines = [line for line in panel.splitlines() if line.startswith(("\u256d", "\u2502", "\u2570"))]
    assert max(map(len, lines)) <= width - 3
    flat = " ".join(" ".join(line.strip("\u2502 ") for line in lines).split())
    for words in (
        "offpath demo: clean traffic", "requests 812", "captured 3200", "judged 3100", "lag 100", "dropped 0",
        "dead letters 0", "income-drift", "\u25c6 ALARM", "\u25cb too little data", "14", "[bold]",
        "status page http://127.0.0.1:49090/", "http://127.0.0.1:49090/metrics",
    ):  # fmt: skip
        assert words in flat
