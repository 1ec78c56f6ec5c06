"""The pipeline as a pure function of the log: restarts, duplicates, bad events, joins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.base import Feature, Meta, Verdict, as_rows
from monitor.codecs.base import Tensor, Tensors
from monitor.columns import Columns
from monitor.count_window import CountWindow
from monitor.events import Checkpoint, Delivery, InvalidEvent, PayloadEvent, Record
from monitor.findings import EventRows, MonitorSpec
from monitor.flagged import TOO_MANY, share_verdict
from monitor.judging import make_judge
from monitor.outcome import Outcome
from monitor.pipeline import Pipeline
from monitor.routing import Feed, ModelRoute
from monitor.stretch import Stretch
from monitor.time_window import TimeWindow
from monitor.windows import Rows

FEATURES = (Feature("a"), Feature("b"))
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


class MeanShift:
    meta = Meta("MeanShift", "drift", {}, FEATURES)

    def predict(self, x: npt.ArrayLike) -> Verdict:
        rows = as_rows(x)
        if (rows == -999).any():
            raise ZeroDivisionError("boom")
        shift = float(abs(rows.mean()))
        return Verdict("alert" if shift > 3 else "ok", n=len(rows), statistic=shift, threshold=3.0, effect_size=shift)


class TooLarge:
    meta = Meta("TooLarge", "outlier", {}, FEATURES)
    beyond = (5, 1000)

    def predict(self, x: npt.ArrayLike) -> Verdict:
        rows = as_rows(x)
        if (rows == -999).any():
            raise ZeroDivisionError("boom")
        score = rows.max(axis=1)
        return Verdict("ok", n=len(rows), threshold=8.0, instance_score=score, feature_score=rows)


class Sums:
    """An online detector: alarms where the last three rows sum up to more than 40. Then the run is over."""

    meta = Meta("Sums", "drift", {}, FEATURES)
    memory = 2

    def predict(self, x: npt.ArrayLike) -> Verdict:
        return self.start().push(as_rows(x))[1]

    def start(self) -> Any:
        return SumsRun()


class SumsRun:
    def __init__(self) -> None:
        self.held: list[float] = []

    def fill(self, x: npt.NDArray[np.float64]) -> None:
        self.held = [*self.held, *x[:, 0].tolist()][-2:]

    def push(self, x: npt.NDArray[np.float64]) -> tuple[int, Verdict]:
        largest = -1e9
        for n, row in enumerate(x, 1):
            if row[0] == -999:
                raise ZeroDivisionError("boom")
            largest = max(largest, total := sum(self.held) + row[0])
            self.fill(row[None])
            if total > 20:
                return n, Verdict("alert", n, total, 20.0, effect_size=total)
        return len(x), Verdict("ok", len(x), largest, 20.0, effect_size=largest)


class PlainColumns:
    def rows(self, tensors: Tensors) -> npt.NDArray[np.float64]:
        return np.asarray(tensors["x"].data, dtype=np.float64).reshape(-1, 2)


def decode(event: PayloadEvent, protocol: str) -> Tensors:
    try:
        return {"x": Tensor("x", np.asarray(orjson.loads(event.data)))}
    except ValueError:
        raise InvalidEvent("invalid_json", "no JSON") from None


def fetch(event: PayloadEvent) -> PayloadEvent:
    stored = {"here": b"[[1, 1]]", "both": b'{"request": {"data": [[1, 1]]}, "response": {"data": [[2, 2]]}}'}
    try:
        return event._replace(data=stored[event.headers["ce_dataref"]])
    except KeyError:
        raise InvalidEvent("payload_missing", "it is not there") from None


def spec(name: str, detector: Any, window: str = "count", **more: Any) -> MonitorSpec:
    def make(state: Mapping[str, Any] | None) -> Any:
        if window == "online":
            return Stretch(4, 2, state)
        return TimeWindow(10.0, 2.0, state=state) if window == "time" else CountWindow(5, state=state)

    features = FEATURES * 2 if name == "both" else FEATURES
    return MonitorSpec(name, "default", "m", detector, features, make, "v1", **more)


def pipeline(lookback: int = 50, extra: tuple[MonitorSpec, ...] = (), **more: Any) -> Pipeline:
    columns: Any = PlainColumns()
    request = (spec("drift", MeanShift(), **more), spec("timed", MeanShift(), "time"), spec("outlier", TooLarge()))
    request += extra
    feeds = (
        Feed(columns, None, request),
        Feed(None, columns, (spec("answers", MeanShift()),)),
        Feed(columns, columns, (spec("both", MeanShift()),)),
    )
    return Pipeline([ModelRoute("m", "default", {"model": "m*"}, "auto", feeds)], decode, lookback, fetch)


def delivery(offset: int, rows: Sequence[Any], *, kind: str = REQUEST, **headers: str) -> Delivery:
    given = {
        "ce_id": f"e{offset}",
        "ce_source": "s",
        "ce_type": kind,
        "ce_modelid": "m1",
        "ce_time": f"1970-01-01T00:{offset // 60:02}:{offset % 60:02}Z",
        **{f"ce_{name}": value for name, value in headers.items()},
    }
    return Delivery("t/0", offset, Record("k", given, orjson.dumps(rows), 0.0))


def judged(outcome: Outcome) -> dict[str, Any]:
    return {finding.id: finding.to_dict() for finding in outcome.findings}


def fresh(**more: Any) -> Pipeline:
    made = pipeline(**more)
    made.assign("t/0", None)
    return made


numbers = st.lists(st.integers(-9, 9), min_size=0, max_size=6).map(lambda v: [[n, n] for n in v])
logs = st.lists(
    st.tuples(numbers, st.integers(0, 6), st.sampled_from([REQUEST, RESPONSE])), min_size=1, max_size=40
).map(
    lambda entries: [
        delivery(i, rows, kind=kind, requestid=f"r{pair}", id=f"{kind}{pair}" if pair == 0 else f"e{i}")
        for i, (rows, pair, kind) in enumerate(entries)
    ]
)


@settings(max_examples=200)
@given(logs, st.data())
def test_a_restart_at_any_point_changes_no_finding(log: list[Delivery], data: st.DataObject) -> None:
    lookback, extra = 5, (spec("outlier-timed", TooLarge(), "time"), spec("online", Sums(), "online"))
    whole = fresh(lookback=lookback, extra=extra).process("t/0", log)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4)))
    found: dict[str, Any] = {}
    checkpoint: Checkpoint | None = None
    for cut in [*cuts, len(log)]:
        current = pipeline(lookback=lookback, extra=extra)
        current.assign("t/0", checkpoint)
        start = max(0, checkpoint.offset - 2 * lookback) if checkpoint else 0
        lost = data.draw(st.integers(0, 3))  # judged after the last commit: findings came out, the commit did not
        for i in range(start, cut, 3):
            found.update(judged(current.process("t/0", log[i : min(i + 3, cut)])))
            if i + 3 <= cut - lost:
                checkpoint = current.checkpoint("t/0") or checkpoint
    assert found == judged(whole)


def test_findings_do_not_depend_on_where_blocks_begin() -> None:
    log = [delivery(i, [[i % 10, 1]] * (i % 4)) for i in range(60)]
    extra = (spec("online", Sums(), "online"),)
    whole = judged(fresh(extra=extra).process("t/0", log))
    one_by_one = fresh(extra=extra)
    apart: dict[str, Any] = {}
    for entry in log:
        apart.update(judged(one_by_one.process("t/0", [entry])))
    assert whole == apart
    assert len(whole) > 20


def test_flagged_rows_are_told_with_their_values() -> None:
    outcome = fresh().process("t/0", [delivery(0, [[1, 2], [3, 190]], requestid="r7")])
    (finding,) = outcome.findings
    assert (finding.scope, finding.kind, finding.request_id, finding.alarm) == ("instance", "outlier", "r7", True)
    assert finding.instances[0].row == 1
    assert finding.instances[0].values == {"a": 3, "b": 190}
    assert finding.text.startswith("b = 190")


def test_alarm_waits_for_consecutive_alerts_and_for_the_effect() -> None:
    log = [delivery(i, [[7, 7]] * 5) for i in range(4)]

    def alarms(**more: Any) -> list[bool]:
        return [f.alarm for f in fresh(**more).process("t/0", log).findings if f.monitor == "drift"]

    assert alarms(consecutive=3) == [False, False, True, True]
    assert alarms(min_effect_size=8.0) == [False] * 4


def test_one_monitors_trouble_is_no_other_monitors() -> None:
    log = [
        delivery(0, [[1, 1]] * 2, requestid="r"),
        delivery(1, [[1, 1]] * 3, kind=RESPONSE, requestid="r"),
        delivery(2, [[1, 1]] * 2, kind=RESPONSE, requestid="s"),
    ]
    made = fresh()
    outcome = made.process("t/0", log)
    assert outcome.tally.rows["answers"] == 5
    assert [(d.reason, d.monitor) for d in outcome.dead_letters] == [("row_mismatch", "both")]


def test_an_internal_error_costs_one_event() -> None:
    def broken(event: PayloadEvent, protocol: str) -> Tensors:
        if event.id == "e1":
            raise ZeroDivisionError("a defect")
        return decode(event, protocol)

    feed = Feed(PlainColumns(), None, (spec("drift", MeanShift()),))
    made = Pipeline([ModelRoute("m", "default", {"model": "m*"}, "auto", (feed,))], broken, 50, fetch)
    made.assign("t/0", None)
    outcome = made.process("t/0", [delivery(i, [[1, 1]], id=f"e{i}") for i in range(3)])
    assert outcome.tally.rows["drift"] == 2
    assert [(d.reason, d.delivery.offset) for d in outcome.dead_letters] == [("internal_error", 1)]
    assert "ZeroDivisionError: a defect" in outcome.dead_letters[0].message


def test_rows_of_another_width_than_the_detectors_are_refused() -> None:
    class AnyWidth:
        def rows(self, tensors: Tensors) -> npt.NDArray[np.float64]:
            return np.asarray(tensors["x"].data, dtype=np.float64)

    for features in (FEATURES, ()):  # known from the detector, or pinned by the first event
        feed = Feed(AnyWidth(), None, (dataclasses.replace(spec("drift", MeanShift()), features=features),))
        made = Pipeline([ModelRoute("m", "default", {"model": "m*"}, "auto", (feed,))], decode, 50, fetch)
        made.assign("t/0", None)
        outcome = made.process("t/0", [delivery(0, [[1, 1]]), delivery(1, [[1]]), delivery(2, [[2, 2]] * 4)])
        assert [(d.reason, d.delivery.offset) for d in outcome.dead_letters] == [("wrong_columns", 1)]
        assert [f.verdict.n for f in outcome.findings] == [5]


def test_after_a_restart_nothing_is_counted_or_told_again() -> None:
    log = [delivery(i, [[9, 9]], id=f"e{i}") for i in range(4)]
    first = fresh()
    before = first.process("t/0", log)
    assert len([f for f in before.findings if f.monitor == "outlier"]) == 4
    again = pipeline()
    again.assign("t/0", first.checkpoint("t/0"))
    after = again.process("t/0", log)
    assert not after.findings
    assert not any(after.tally.rows.values())
    assert not any(len(scores) for _, scores, _ in after.tally.scores)
    more = again.process("t/0", [delivery(4, [[9, 9]], id="e4")])
    assert more.tally.rows["outlier"] == 1
    assert {f.monitor for f in more.findings} == {"drift", "outlier"}


def test_health_checks_that_a_logger_copied_are_no_dead_letters() -> None:
    from monitor.codecs.detect import decode as real

    feed = Feed(Columns(FEATURES), Columns(FEATURES), (spec("drift", MeanShift()),))
    made = Pipeline([ModelRoute("m", "default", {"model": "m*"}, "auto", (feed,))], real, 50, fetch)
    made.assign("t/0", None)
    bodies = (b"", b'{"status": "alive"}', b'{"name": "m", "ready": true}', b'{"status": 3}', b'{"x": "alive"}')
    log = [delivery(i, [], id=f"e{i}") for i in range(len(bodies))]
    log = [d._replace(record=d.record._replace(value=body)) for d, body in zip(log, bodies, strict=True)]
    outcome = made.process("t/0", log)
    assert outcome.tally.skipped["probe"] == 3
    assert [d.delivery.offset for d in outcome.dead_letters] == [3, 4]


def test_request_and_response_are_judged_side_by_side() -> None:
    log = [delivery(i, [[5, 5]] * 5, kind=(REQUEST, RESPONSE)[i % 2], requestid=f"r{i // 2}") for i in range(4)]
    both = [f for f in fresh().process("t/0", log).findings if f.monitor == "both"]
    assert [f.verdict.n for f in both] == [5, 5]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Delivery("t/0", 1, Record(None, {"ce_type": REQUEST, "ce_modelid": "m1"}, None, 0.0)), "tombstone"),
        (delivery(1, [], kind="com.example.other"), "unknown_type"),
        (delivery(1, [[1, 2]], time="yesterday"), "invalid_time"),
        (
            delivery(1, [[1, 2]])._replace(record=Record(None, dict(delivery(1, []).record.headers), b"{", 0.0)),
            "invalid_json",
        ),
    ],
)
def test_bad_events_are_dead_letters_and_the_next_is_judged(bad: Delivery, reason: str) -> None:
    log = [delivery(0, [[9, 9]]), bad, delivery(2, [[9, 9]])]
    outcome = fresh().process("t/0", log)
    assert [letter.reason for letter in outcome.dead_letters] == [reason]
    assert outcome.dead_letters[0].delivery.offset == 1
    assert outcome.tally.invalid == {reason: 1}
    assert [f.event_id for f in outcome.findings] == ["e0", "e2"]


@pytest.mark.parametrize(
    ("entry", "counted"),
    [
        (delivery(1, [[1, 2]], id="e0"), "duplicate"),
        (delivery(1, [[1, 2]], modelid="other"), "unknown_model"),
        (delivery(1, []), "empty"),
        (delivery(1, [[1, 2]], status="503"), "error_status"),
        (delivery(1, [[1, 2]], id=""), "missing_id"),
        (delivery(1, [[1, 2]], time=""), "missing_time"),
    ],
)
def test_what_is_no_loss_is_only_counted(entry: Delivery, counted: str) -> None:
    outcome = fresh().process("t/0", [delivery(0, [[1, 2]]), entry])
    assert outcome.tally.skipped[counted] >= 1
    assert outcome.dead_letters == []


def test_an_event_without_id_is_judged_and_named_by_its_place() -> None:
    outcome = fresh().process("t/0", [delivery(4, [[1, 190]], id="")])
    assert [f.event_id for f in outcome.findings] == ["t/0:4@0.000000"]


def test_events_without_id_at_the_same_place_of_a_log_begun_anew_have_findings_of_their_own() -> None:
    one = delivery(4, [[1, 190]], id="")
    later = one._replace(record=one.record._replace(timestamp=60.0))
    first, again, anew = (fresh().process("t/0", [entry]).findings[0].id for entry in (one, one, later))
    assert first == again != anew


def test_a_detector_that_fails_hurts_only_its_event() -> None:
    log = [delivery(0, [[9, 9]]), delivery(1, [[-999, 0]]), delivery(2, [[9, 9]])]
    outcome = fresh().process("t/0", log)
    assert [f.event_id for f in outcome.findings if f.scope == "instance"] == ["e0", "e2"]
    assert [(d.reason, d.monitor, d.delivery.offset) for d in outcome.dead_letters] == [
        ("detector_failed", "outlier", 1)
    ]


def test_a_window_that_the_detector_cannot_judge_is_no_verdict() -> None:
    outcome = fresh().process("t/0", [delivery(0, [[-999, 0]] * 5), delivery(1, [[7, 7]] * 5)])
    first, second = (f for f in outcome.findings if f.monitor == "drift")
    assert (first.verdict.state, second.verdict.state) == ("insufficient_data", "alert")
    assert "boom" in first.text


def test_rows_of_a_pair_must_agree() -> None:
    log = [delivery(0, [[1, 1]], requestid="r"), delivery(1, [[1, 1]] * 2, kind=RESPONSE, requestid="r")]
    assert [d.reason for d in fresh().process("t/0", log).dead_letters] == ["row_mismatch"]


def test_changed_configuration_starts_the_monitor_anew() -> None:
    first = fresh()
    first.process("t/0", [delivery(i, [[1, 1]]) for i in range(3)])
    checkpoint = first.checkpoint("t/0")
    assert checkpoint is not None
    assert checkpoint.offset == 0
    changed = pipeline()
    changed._names = {"drift"}
    changed.assign("t/0", Checkpoint(checkpoint.offset, checkpoint.state.replace('"v1"', '"v0"')))
    outcome = changed.process("t/0", [delivery(i, [[1, 1]]) for i in range(8)])
    windows = [f for f in outcome.findings if f.monitor == "drift"]
    assert [f.first.offset for f in windows] == [3]


class TestCombinedEvents:
    """One event with both sides leads to what two events lead to."""

    KIND = "io.offpath.inference.exchange"

    def test_every_monitor_gets_what_it_would_get(self) -> None:
        rows = [[[i, i], [i + 1, i]] for i in range(12)]
        pairs, both = fresh(), fresh()
        two: list[Delivery] = []
        for i, x in enumerate(rows):
            two.append(delivery(2 * i, x, requestid=f"r{i}"))
            two.append(delivery(2 * i + 1, x[::-1], kind=RESPONSE, requestid=f"r{i}", status="200"))
        one = [
            delivery(i, {"request": {"data": x}, "response": {"data": x[::-1]}}, kind=self.KIND, status="200")  # type: ignore[arg-type]
            for i, x in enumerate(rows)
        ]
        apart, together = pairs.process("t/0", two), both.process("t/0", one)
        assert together.tally.rows == apart.tally.rows
        assert together.tally.events == apart.tally.events
        statistics = [
            sorted((f.monitor, f.verdict.statistic) for f in outcome.findings if f.monitor != "timed")
            for outcome in (apart, together)
        ]
        assert statistics[0] == statistics[1]
        assert {"drift", "answers", "both", "outlier"} <= {f.monitor for f in together.findings}

    def test_duplicates_errors_and_unknown_models(self) -> None:
        good = {"request": {"data": [[1, 1]]}, "response": {"data": [[2, 2]]}}
        outcome = fresh().process(
            "t/0",
            [
                delivery(0, good, kind=self.KIND, id="same"),  # type: ignore[arg-type]
                delivery(1, good, kind=self.KIND, id="same"),  # type: ignore[arg-type]
                delivery(2, good, kind=self.KIND, status="500"),  # type: ignore[arg-type]
                delivery(3, good, kind=self.KIND, modelid="other"),  # type: ignore[arg-type]
                delivery(4, [1], kind=self.KIND),
            ],
        )
        assert outcome.tally.skipped == {"duplicate": 1, "error_status": 1, "unknown_model": 1}
        assert outcome.tally.rows["drift"] == 2
        assert outcome.tally.rows["answers"] == outcome.tally.rows["both"] == 1
        assert [letter.reason for letter in outcome.dead_letters] == ["invalid_json"]

    def test_bodies_elsewhere_are_fetched(self) -> None:
        at_hand = [
            delivery(0, [[1, 1]]),
            delivery(1, [], dataref="here"),
            delivery(2, [], kind=self.KIND, dataref="both"),
        ]
        away = [
            Delivery(d.partition, d.offset, d.record._replace(value=b"")) if "ce_dataref" in d.record.headers else d
            for d in [*at_hand, delivery(3, [], dataref="nowhere"), delivery(4, [], kind=self.KIND, dataref="nowhere")]
        ]
        outcome = fresh().process("t/0", away)
        assert outcome.tally.rows["drift"] == 3
        assert outcome.tally.rows["both"] == 1
        assert [(letter.reason, letter.delivery.offset) for letter in outcome.dead_letters] == [
            ("payload_missing", 3),
            ("payload_missing", 4),
        ]


def flagged(judge: Any, offset: int, n: int) -> list[Any]:
    """What the judge says of a window of 100 rows, of which ``n`` are flagged."""
    x = np.zeros((100, 2))
    x[:n] = 9.0
    event = PayloadEvent("e", "s", REQUEST, "request", 0.0, "d", "m", "", "r", "", "", "", "", 0, b"", {})
    return [f for f in judge.take([EventRows(Rows(x, "t/0", offset, 0.0), event)]) if f.scope == "window"]


def test_an_outlier_monitor_is_in_alarm_when_more_rows_are_flagged_than_promised() -> None:
    def make(state: Mapping[str, Any] | None) -> CountWindow:
        return CountWindow(100, None, state)

    spec = MonitorSpec("o", "d", "m", TooLarge(), FEATURES, make, "", consecutive=2)
    judge = make_judge(spec, "t/0", None, 0)
    told = [flagged(judge, offset, n)[0] for offset, n in enumerate((0, 1, 3, 100, 100, 0))]
    assert [found.verdict.state for found in told] == ["ok", "ok", "ok", "alert", "alert", "ok"]
    assert [found.alarm for found in told] == [False, False, False, False, True, False], "two in a row"
    assert told[2].text == "3.00% of 100 rows flagged, 0.50% of the reference"
    shares = [(finding.verdict.statistic, finding.verdict.threshold) for finding in told]
    assert shares == [(share, 0.05) for share in (0.0, 0.01, 0.03, 1.0, 1.0, 0.0)], "alerts where it is reached"
    assert told[2].verdict.p_val == pytest.approx(0.0291, abs=2e-4)


@pytest.mark.parametrize(("above", "scored"), [(0, 10), (0, 1000), (5, 1000), (100, 20_000), (999, 1000)])
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_how_many_flagged_rows_are_an_alert(n: int, above: int, scored: int) -> None:
    new = stats.betabinom(n, above + 1, scored - above)
    tail = new.sf(np.arange(-1, n + 1))  # of at least 0, 1, ... n + 1
    least = int(np.flatnonzero(tail <= TOO_MANY)[0])
    for flagged in {0, max(least - 1, 0), min(least, n), n}:
        verdict = share_verdict(np.arange(n, dtype=float), n - flagged - 0.5, above, scored)
        assert verdict.is_drift == (flagged >= least)
        assert verdict.p_val == pytest.approx(tail[flagged], rel=1e-4)
        assert verdict.threshold == least / n


odd = st.one_of(st.floats(), st.integers(-(2**80), 2**80).map(float), st.sampled_from([1e308, -1e308, 2.0**63, -1.0]))


@settings(max_examples=200)
@given(st.lists(st.tuples(odd, odd), min_size=1, max_size=5))
def test_a_finding_on_any_row_can_be_written(rows: list[tuple[float, float]]) -> None:
    class Everything(TooLarge):
        def predict(self, x: npt.ArrayLike) -> Verdict:
            x = as_rows(x)
            return Verdict("ok", n=len(x), threshold=0.5, instance_score=np.ones(len(x)), feature_score=x)

    features = (Feature("a"), Feature("c", "categorical", ("F", "M")))
    made = dataclasses.replace(spec("outlier", Everything()), features=features)
    judge = make_judge(made, "t/0", None, 0)
    event = PayloadEvent("e", "s", REQUEST, "request", 0.0, "d", "m", "", "r", "", "", "", "", 0, b"", {})
    (found,) = [f for f in judge.take([EventRows(Rows(np.array(rows), "t/0", 0, 0.0), event)]) if f.scope == "instance"]
    assert len(orjson.loads(found.to_json())["instances"]) == len(rows)
    assert not judge.failures


def test_an_online_monitor_tells_of_stretches_and_of_an_alarm_at_its_row() -> None:
    made = fresh(extra=(spec("online", Sums(), "online"),))
    values = [1, 2, 3, 4, 5, 9, 9, 9, 9, 9, 9, 1, 1, 1, -999, 7]
    outcome = made.process("t/0", [delivery(i, [[value, 0]]) for i, value in enumerate(values)])
    told = [f for f in outcome.findings if f.monitor == "online"]
    assert [(f.first.offset, f.last.offset, f.verdict.n, f.alarm) for f in told] == [
        (0, 3, 4, False), (4, 6, 3, True), (7, 10, 4, True), (11, 14, 4, False),
    ], "a change that lasts is told every four rows"  # fmt: skip
    assert [f.verdict.statistic for f in told[:2]] == [9.0, 23.0], "the strangest moment, with rows told of before"
    assert told[3].text == "the detector failed: ZeroDivisionError: boom"
