"""The demo's verdict on itself: was everything seen, was nothing cried too early, was everything found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monitor.examples.own import Own
from monitor.examples.traffic import Sent, id_prefix
from monitor.examples.watching import Seen


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``--json`` prints. ``lost`` counts its own requests and responses that were not judged."""

    example: str
    seed: int
    requests: int
    failed: int
    captured: int
    lost: int
    clean_windows: int
    alarms_before_shift: int
    windows_to_alarm: int | None
    outliers_planted: int
    outliers_found: int
    outliers_false: int
    finding: str
    seconds: float

    @property
    def well(self) -> bool:
        return (
            self.lost == 0
            and self.failed == 0
            and self.alarms_before_shift == 0
            and self.windows_to_alarm is not None
            and self.outliers_found == self.outliers_planted > 0
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "well": self.well}


def summarise(
    example: str,
    seed: int,
    sent: Sent,
    seen: Seen,
    own: Own,
    timelines: Mapping[str, Sequence[Mapping[str, Any]]],
    flagged: Sequence[Mapping[str, Any]],
    texts: Mapping[str, str],
    seconds: float,
) -> Summary:
    """The summary of what clients ``sent``, what was ``seen`` at the end, and what became of their ``own`` requests.

    ``timelines`` are those of the drift monitors, the one on requests first; ``flagged`` are the outlier monitor's
    findings, and ``texts`` the words of the first drift monitor's, by id.
    """
    shift = sent.shift_time if sent.shift_time is not None else float("inf")
    main = next(iter(timelines.values()))
    clean = [window for window in main if window["end"] < shift]
    later = [window for window in main if window["end"] >= shift]
    before = sum(bool(w["alarm"]) for windows in timelines.values() for w in windows if w["end"] < shift)
    first = next((i for i, window in enumerate(later) if window["alarm"]), None)
    own_flagged = [finding for finding in flagged if finding["request_id"].startswith(id_prefix(seed))]
    rows = {(finding["request_id"], instance["row"]) for finding in own_flagged for instance in finding["instances"]}
    planted = set(sent.planted.items())
    return Summary(
        example, seed, sent.answered, sent.failed, seen.captured,
        max(0, 2 * sent.answered - own.judged + own.dead_letters),
        len(clean),
        before,
        None if first is None else first + 1,
        len(planted),
        len(planted & rows),
        len(rows - planted),
        "" if first is None else texts.get(str(later[first]["id"]), ""),
        round(seconds, 1),
    )  # fmt: skip
