"""The demo's requests and its verdict on itself."""

from __future__ import annotations

import argparse
import json
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors import artifact
from detectors.base import Feature
from monitor import configuration
from monitor.commands import demo as command
from monitor.examples import deployment
from monitor.examples.outcome import Summary, summarise
from monitor.examples.own import Own
from monitor.examples.story import Story
from monitor.examples.traffic import Call, Sent, calls
from monitor.examples.watching import Seen

SHIFT = 100.0
STREAM = np.array([[float(age), 1.0] for age in range(20, 40)])


def story() -> Story:
    return Story(
        "people", (Feature("age"), Feature("sex", "categorical", ("F", "M"))), ("no", "yes"),
        STREAM, np.zeros(20, np.int64), STREAM, STREAM, lambda rows: rows[:, 0] < 28, "the young", (0, 190.0),
    )  # fmt: skip


def rows_of(call: Call) -> Any:
    body = call.body
    if "instances" in body:
        return body["instances"]
    return body["inputs"][0]["data"] if "inputs" in body else body["data"]["ndarray"]


def test_the_same_seed_sends_the_same() -> None:
    first, second, other = (list(calls(story(), 200, 100, 5, seed)) for seed in (1, 1, 2))
    assert first == second
    assert [call.body for call in first] != [call.body for call in other]
    assert len({call.request_id for call in first + other}) == 600


def test_the_three_protocols_take_turns() -> None:
    sent = list(calls(story(), 30, 30, 2, 1))
    for start, path, key in (
        (0, "/v1/models/people:predict", "instances"),
        (1, "/v2/models/people/infer", "inputs"),
        (2, "/seldon/seldon/people/api/v1.0/predictions", "data"),
    ):
        assert {(call.path, key in call.body) for call in sent[start::3]} == {(path, True)}


def test_planted_rows_come_before_the_shift_and_only_they_are_impossible() -> None:
    sent = list(calls(story(), 200, 100, 5, 3))
    impossible = [(call.request_id, i) for call in sent for i, row in enumerate(rows_of(call)) if row[0] == 190]
    assert impossible == [(call.request_id, call.planted) for call in sent if call.planted is not None]
    assert len(impossible) == 5
    assert not any(call.planted is not None for call in sent if call.shifted)
    assert [call.shifted for call in sent] == [False] * 200 + [True] * 100


def test_after_the_shift_only_the_later_population_asks() -> None:
    sent = list(calls(story(), 50, 50, 1, 1))
    assert max(row[0] for call in sent[50:] for row in rows_of(call)) == 27
    assert max(row[0] for call in sent[:50] if call.planted is None for row in rows_of(call)) == 39


def test_without_an_end_it_goes_on_with_the_shifted() -> None:
    assert all(call.shifted for call in islice(calls(story(), 0, 0, 0, 1), 5000))


def windows(*alarms: bool, start: float = 60.0) -> list[dict[str, Any]]:
    return [{"id": f"w{i}", "end": start + 10 * i, "alarm": alarm} for i, alarm in enumerate(alarms)]


SENT = Sent(answered=50, planted={"demo-1-4": 0, "demo-1-9": 3}, shift_time=SHIFT)
SEEN = Seen(captured=100, judged=130)  # others sent too
QUIET_THEN_ALARM = windows(False, False, False, False, False, True, True)
FLAGGED = [
    {"request_id": "demo-1-4", "instances": [{"row": 0}]},
    {"request_id": "demo-1-9", "instances": [{"row": 3}, {"row": 4}]},
    {"request_id": "of-somebody-else", "instances": [{"row": 0}]},
]


def summary(**changes: Any) -> Summary:
    given: dict[str, Any] = {
        "sent": SENT, "seen": SEEN, "own": Own(judged=100), "flagged": FLAGGED, "texts": {"w5": "age fell"},
        "timelines": {"drift": QUIET_THEN_ALARM, "predictions": windows(False)}, **changes,
    }  # fmt: skip
    return summarise("people", 1, **given, seconds=12.345)


def test_all_well() -> None:
    assert summary().to_dict() == {
        "example": "people", "seed": 1, "requests": 50, "failed": 0, "captured": 100, "lost": 0, "clean_windows": 4,
        "alarms_before_shift": 0, "windows_to_alarm": 2, "outliers_planted": 2, "outliers_found": 2,
        "outliers_false": 1, "finding": "age fell", "seconds": 12.3, "well": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"own": Own(judged=98)}, "lost", 2),
        ({"own": Own(judged=100, dead_letters=1)}, "lost", 1),
        ({"sent": replace(SENT, failed=1)}, "failed", 1),
        ({"timelines": {"drift": windows(True, False, False, False, True)}}, "alarms_before_shift", 1),
        ({"timelines": {"drift": QUIET_THEN_ALARM, "predictions": windows(True)}}, "alarms_before_shift", 1),
        ({"timelines": {"drift": windows(False, False, False, False, False)}}, "windows_to_alarm", None),
        ({"timelines": {"drift": []}}, "windows_to_alarm", None),
        ({"flagged": FLAGGED[:1]}, "outliers_found", 1),
        ({"flagged": [{"request_id": "demo-1-4", "instances": [{"row": 1}]}, FLAGGED[1]]}, "outliers_found", 1),
        ({"sent": replace(SENT, planted={})}, "outliers_planted", 0),
    ],
)
def test_what_is_not_well(changes: dict[str, Any], field: str, value: int | None) -> None:
    found = summary(**changes)
    assert (found.to_dict()[field], found.well) == (value, False)


def test_the_exit_status_is_the_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    lossy = summary(own=Own(judged=98))
    for told, status in ((summary(), 0), (lossy, 1), (None, 130)):
        monkeypatch.setattr(command, "_tell", lambda *_, told=told, **__: told)
        assert command.run(parser.parse_args(["--once", "--json"])) == status
        out = capsys.readouterr().out
        assert (json.loads(out) == told.to_dict()) if told else out == ""


def test_its_configuration_fits_the_same_detectors_again(tmp_path: Path) -> None:
    people = replace(story(), x_ref=np.tile(STREAM, (10, 1)))
    deployment.fit(people, np.tile([0.4, 0.6], (200, 1)), tmp_path)
    path = deployment.configure(people, tmp_path, model=1, capture=2, admin=3, worker=4, window=50)
    monitors = configuration.load(path).monitors
    assert len(monitors) == 3
    for monitor in monitors:
        assert monitor.detector.artifact
        fitted = artifact.load(Path(monitor.detector.artifact)).meta
        assert monitor.detector.params
        assert monitor.detector.params.items() <= dict(fitted.params).items()


def test_variables_that_would_change_its_configuration_do_not_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    from monitor.examples.processes import overrides

    for name in (
        "OFFPATH_WORKER__LISTEN",
        "OFFPATH_DATA",
        "OFFPATH_DEBUG",
        "OFFPATH_TEST_KAFKA",
        "OFFPATH_CAPTURE__SAMPLE",
    ):
        monkeypatch.setenv(name, "1")
    assert overrides() == ["OFFPATH_CAPTURE__SAMPLE", "OFFPATH_WORKER__LISTEN"]
