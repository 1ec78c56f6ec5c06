"""What a drift detector's promise is worth on the reference at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from detectors.calibrate import FalseAlarms
    from monitor.commands.progress import Bar
    from monitor.tables import Table

MEND = "take larger windows, fewer columns or merged categories, or more rows of reference"


class Measured(NamedTuple):
    """A line about the false alarms, and a warning if they are more than promised, else ``""``."""

    line: str
    warning: str = ""


def false_alarms(make: Any, table: Table, window: int, windows: int, bar: Bar) -> Measured:
    """Fitted on one half of the reference, judged on windows of the other."""
    from detectors.calibrate import false_alarm_rate

    half = len(table.rows) // 2
    if window > half:
        return Measured(f"  false alarms not measured: half the reference has {half:,} rows, a window {window:,}")
    with bar.step(f"judging {windows:,} clean windows") as progress:
        found = false_alarm_rate(make, table.rows, window, windows, 0, windows, table.features, progress)
    return in_words(found, window, make().meta.params)


def in_words(found: FalseAlarms, window: int, params: Mapping[str, Any]) -> Measured:
    """Measured beside promised; the promise is broken where the whole interval lies above it.

    >>> from detectors.calibrate import FalseAlarms
    >>> in_words(FalseAlarms(45, 1000), 500, {"ert": 1000}).warning[:74]
    'false alarms are promised in 0.1% of clean windows (ert: 1000), but came i'
    """
    from detectors.drift.columnwise import level_of

    if not found.windows:
        return Measured(f"  false alarms not measured: no clean window of {window:,} rows could be judged")
    low, high = found.interval
    line = (
        f"  false alarms {found.alarms} of {found.windows} clean windows of {window:,} rows, held out: "
        f"{found.rate:.2%}, between {low:.2%} and {high:.2%}"
    )
    p_val, ert = params.get("p_val"), params.get("ert")
    level = level_of(p_val, ert)
    if low <= level:
        return Measured(line)
    said = f"ert: {ert:g}" if ert else f"p_val: {level:g}"
    warning = (
        f"false alarms are promised in {100 * level:g}% of clean windows ({said}), but came in {found.rate:.2%}, "
        f"at least {low:.2%}, of those of this reference: {MEND}"
    )
    return Measured(line, warning)


ROWS = 100_000
"""Clean rows on which an online detector is measured at most; else as many as should bring 20 false alarms."""


def online_false_alarms(make: Any, table: Table, ert: float, bar: Bar) -> Measured:
    """Fitted on one half of the reference, run over the other, shuffled again and again."""
    from detectors.base import DetectorError
    from detectors.calibrate import false_alarms_a_row

    rows = int(min(20.0 * ert, ROWS))
    try:
        with bar.step(f"judging {rows:,} clean rows") as progress:
            found = false_alarms_a_row(make, table.rows, rows, 0, table.features, progress)
    except DetectorError as error:
        return Measured(f"  false alarms not measured on half the reference: {error}")
    low, high = found.interval
    line = (
        f"  false alarms {found.alarms} in {found.windows:,} clean rows, held out: one in {found.run_length:,.0f}, "
        f"between {1.0 / high:,.0f} and {1.0 / low if low else float('inf'):,.0f}"
    )
    if low <= 1.0 / ert:
        return Measured(line)
    warning = (
        f"false alarms are promised once in {ert:g} rows (ert), but came once in {found.run_length:,.0f}, at least "
        f"once in {1.0 / low:,.0f}, on rows of this reference: take more rows of reference, or smaller windows"
    )
    return Measured(line, warning)
