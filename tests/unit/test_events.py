"""One payload event of whatever sent it; and pure memories of the last events."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.events import Delivery, InvalidEvent, Record, model_from_path, parse_time, payload_event
from monitor.joining import Joiner, Seen

TYPE = "org.kubeflow.serving.inference.request"


def event(value: bytes | None = b"{}", **headers: str):  # type: ignore[no-untyped-def]
    told = {name.replace("_", "-") if name.startswith("content") else name: text for name, text in headers.items()}
    return payload_event(Delivery("t/3", 7, Record("k", told, value, 5.5)))


def test_our_own_sidecars_event() -> None:
    found = event(
        ce_type="org.kubeflow.serving.inference.response", ce_id="i", ce_source="s", ce_time="1970-01-01T00:00:01.5Z",
        ce_namespace="ns", ce_modelid="m", ce_endpoint="canary", ce_requestid="r", ce_status="503",
        ce_path="/v1/models/x:predict", ce_contentencoding="gzip", content_type="application/json",
    )  # fmt: skip
    told = (found.side, found.time, found.namespace, found.model, found.endpoint)
    assert told == (
        "response",
        1.5,
        "ns",
        "m",
        "canary",
    )
    assert (found.request_id, found.status, found.content_encoding, found.derived) == ("r", 503, "gzip", ())
    assert found.key == ("s", "i", "org.kubeflow.serving.inference.response")


def test_kserves_pair_shares_an_id_and_stays_two_events() -> None:
    request = event(ce_type=TYPE, ce_id="same", ce_source="s", ce_inferenceservicename="income", ce_endpoint="")
    response = event(ce_type=TYPE.replace("request", "response"), ce_id="same", ce_source="s")
    assert request.key != response.key
    assert request.request_id == response.request_id == "same"
    assert request.model == "income"


def test_seldons_bare_kafka_headers() -> None:
    found = event(
        type="io.seldon.serving.inference.request", modelid="classifier", requestid="r", inferenceservicename="dep",
        namespace="seldon", endpoint="default", protocol="seldon", content_type="application/json",
    )  # fmt: skip
    assert (found.model, found.namespace, found.protocol, found.request_id) == ("classifier", "seldon", "seldon", "r")
    assert found.id == "t/3:7@5.500000", "named after its position and the record's time"
    assert found.time == 5.5, "the record's timestamp"
    assert found.derived == ("missing_id", "missing_time")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/income:predict", "income"),
        ("/v1/models/income/versions/3:predict", "income"),
        ("/v2/models/income/infer", "income"),
        ("/v2/models/income/versions/1/infer", "income"),
        ("/seldon/ns/movie/api/v1.0/predictions", "movie"),
        ("/api/v1.0/predictions", ""),
        ("/", ""),
    ],
)
def test_the_model_in_a_path(path: str, model: str) -> None:
    assert model_from_path(path) == model
    assert event(ce_type=TYPE, ce_path=path).model == model


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, {"ce_type": TYPE}, "tombstone"),
        (b"{}", {}, "unknown_type"),
        (b"{}", {"ce_type": "com.example"}, "unknown_type"),
        (b"{}", {"ce_type": TYPE, "ce_time": "noon"}, "invalid_time"),
        (b"{}", {"ce_type": TYPE, "ce_time": "2026-13-01T00:00:00Z"}, "invalid_time"),
    ],
)
def test_what_is_no_payload_event(value: bytes | None, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        event(value, **headers)
    assert refused.value.reason == reason


def test_an_odd_status_is_none() -> None:
    assert event(ce_type=TYPE, ce_status="OK").status == 0


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
    st.sampled_from(["", ".5", ".123", ".123456", ".123456789"]),
    st.sampled_from(["Z", "+00:00", "+02:00", "-11:30"]),
)
def test_times_as_rfc_3339_has_them(moment: datetime, fraction: str, zone: str) -> None:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + zone
    offset = 0 if zone in ("Z", "+00:00") else (7200 if zone == "+02:00" else -41400)
    expected = moment.replace(microsecond=0, tzinfo=timezone.utc).timestamp() - offset
    expected += float(f"0{fraction[:7]}") if fraction else 0.0
    assert parse_time(text) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=80), st.integers(0, 12))
def test_seen_is_what_a_search_through_the_last_offsets_says(steps: list[tuple[int, int]], lookback: int) -> None:
    seen, history, offset = Seen(lookback), list[tuple[int, int]](), 0
    for key, step in steps:
        offset += step
        expected = any(known == key and offset - at <= lookback for known, at in history)
        assert seen.add(key, offset) == expected
        history.append((key, offset))
    assert len(seen._offsets) <= len({key for key, at in history if at >= offset - lookback})


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 4)), max_size=80), st.integers(1, 12))
def test_pairs_are_the_newest_of_each_side_within_the_look_back(
    steps: list[tuple[int, bool, int]], lookback: int
) -> None:
    joiner, waiting, offset = Joiner[int](lookback), dict[int, tuple[str, int]](), 0
    for key, is_request, step in steps:
        offset += step
        side = "request" if is_request else "response"
        other = waiting.get(key)
        if other and (offset - other[1] > lookback):
            other = None
        pair = joiner.add(str(key), side, offset, offset)
        if other and other[0] != side:
            first, second = (offset, other[1]) if is_request else (other[1], offset)
            assert pair == (first, second)
            del waiting[key]
        else:
            assert pair is None
            waiting[key] = (side, offset)


@pytest.mark.parametrize("timestamp", [-1.0, 1.79e12, 1.79e15, float("inf"), float("nan")])
def test_a_record_s_own_time_that_is_impossible(timestamp: float) -> None:
    headers = {"ce_type": "org.kubeflow.serving.inference.request", "ce_id": "1"}
    with pytest.raises(InvalidEvent, match="the record's time") as refused:
        payload_event(Delivery("t/0", 0, Record(None, headers, b"{}", timestamp)))
    assert refused.value.reason == "invalid_time"
    dated = Record(None, {**headers, "ce_time": "2026-01-01T00:00:00Z"}, b"{}", timestamp)
    assert payload_event(Delivery("t/0", 0, dated)).time == 1767225600.0
