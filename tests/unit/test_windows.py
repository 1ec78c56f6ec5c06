"""Windows against naive oracles, and resumption from any point."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.count_window import CountWindow
from monitor.time_window import TimeWindow
from monitor.windows import Batch, Rows, Window

events = st.lists(st.integers(0, 7), min_size=1, max_size=40)


def stream(sizes: list[int], times: list[float] | None = None) -> list[Rows]:
    at = np.cumsum([0, *sizes])
    return [
        Rows(np.arange(at[i], at[i + 1], dtype=float)[:, None], "t/0", i, times[i] if times else float(i))
        for i in range(len(sizes))
    ]


def told(batch: Batch) -> tuple[object, ...]:
    return (*batch[1:], batch.x.tolist())


def run(window: Window, rows: list[Rows]) -> list[tuple[object, ...]]:
    return [told(batch) for row in rows for batch in window.push(row)]


@given(events, st.integers(1, 9), st.integers(1, 12))
def test_count_window_is_every_stepth_slice(sizes: list[int], size: int, step: int) -> None:
    rows = stream(sizes)
    total = sum(sizes)
    expected = [list(range(i, i + size)) for i in range(0, total - size + 1, step)]
    got = (
        [batch.x[:, 0].tolist() for row in rows for batch in (window.push(row))]
        if (window := CountWindow(size, step))
        else []
    )
    assert got == expected


@given(events, st.integers(1, 9), st.integers(1, 12), st.data())
def test_count_window_resumes_from_any_point(sizes: list[int], size: int, step: int, data: st.DataObject) -> None:
    rows = stream(sizes)
    whole = run(CountWindow(size, step), rows)
    cut = data.draw(st.integers(0, len(rows)))
    first = CountWindow(size, step)
    before = run(first, rows[:cut])
    low = first.low()
    state = json.loads(json.dumps(first.state()))
    start = data.draw(st.integers(0, cut if low is None else low))  # the source may begin earlier than asked
    after = run(CountWindow(size, step, state), rows[start:])
    assert before + after == whole


@given(events, st.integers(1, 6))
def test_count_window_says_where_its_rows_were(sizes: list[int], size: int) -> None:
    rows = stream(sizes)
    window = CountWindow(size)
    for row in rows:
        for batch in window.push(row):
            for place, value in ((batch.first, batch.x[0, 0]), (batch.last, batch.x[-1, 0])):
                assert rows[place.offset].x[place.row, 0] == value
            assert batch.start <= batch.time == batch.end
            assert 0 <= window.fill() < 1


def test_windows_at_the_same_place_of_a_log_that_was_begun_anew_have_other_names() -> None:
    first, again, anew = (CountWindow(3).push(Rows(np.zeros((3, 1)), "t/0", 0, moment)) for moment in (1.0, 1.0, 9.0))
    names = [next(batches).ident for batches in (first, again, anew)]
    assert names[0] == names[1] != names[2]


times = st.lists(st.floats(0, 50), min_size=1, max_size=30)


@given(times, st.sampled_from([1.0, 7.5, 20.0]), st.sampled_from([0.0, 3.0]))
def test_time_window_holds_every_row_once_or_counts_it_late(at: list[float], seconds: float, lateness: float) -> None:
    rows = stream([2] * len(at), at)
    window = TimeWindow(seconds, lateness)
    batches = [batch for row in rows for batch in window.push(row)]
    assert list(window.expire(0.0)) == []
    batches += list(window.expire(seconds + lateness + 51.0))
    values = [value for batch in batches for value in batch.x[:, 0].tolist()]
    assert len(values) == len(set(values)) == 2 * len(at) - window.late
    for batch in batches:
        assert batch.end - batch.start == seconds
        assert all(batch.start <= rows[int(v) // 2].time < batch.end for v in batch.x[:, 0])


@given(times, st.sampled_from([1.0, 7.5, 20.0]), st.sampled_from([0.0, 3.0]), st.data())
def test_time_window_resumes_from_any_point(
    at: list[float], seconds: float, lateness: float, data: st.DataObject
) -> None:
    rows = stream([1] * len(at), at)
    straight = TimeWindow(seconds, lateness)
    whole = run(straight, rows)
    cut = data.draw(st.integers(0, len(rows)))
    first = TimeWindow(seconds, lateness)
    before = run(first, rows[:cut])
    state = json.loads(json.dumps(first.state()))
    second = TimeWindow(seconds, lateness, state=state)
    low = first.low()
    after = run(second, rows[cut if low is None else low :])
    assert before + after == whole
    assert first.late + second.late == straight.late


def test_idle_time_closes_a_window_at_the_speed_of_the_clock_not_by_its_value() -> None:
    window = TimeWindow(60.0, lateness=5.0)
    list(window.push(stream([1], [10.0])[0]))  # the producer's clock is far behind ours
    assert list(window.expire(1_000_000.0)) == []
    assert list(window.expire(1_000_054.0)) == []
    assert [batch.ident for batch in window.expire(1_000_055.0)] == ["0+60"]


def test_time_window_is_bounded() -> None:
    window = TimeWindow(60.0, max_rows=5)
    rows = stream([4, 4, 4], [0.0, 1.0, 2.0])
    assert run(window, rows) == []
    assert window.overflow == 7
    assert len(next(iter([*window.push(stream([1], [61.0])[0])])).x) == 5


@given(st.sampled_from([0.05, 0.1, 0.2, 0.4, 0.8, 0.9, 1.6, 7.0]), st.integers(0, 2**31), st.integers(1, 60))
def test_events_in_order_are_never_late_also_at_the_edge_of_a_window(seconds: float, start: int, n: int) -> None:
    window = TimeWindow(seconds)
    given = [Rows(np.zeros((1, 1)), "t/0", i, start + i // 3 * 1.0) for i in range(n)]
    batches = [*window.push(*given), *window.expire(0.0), *window.expire(1e6)]
    assert window.late == 0
    assert sum(len(batch.x) for batch in batches) == n
    assert all(batch.start <= batch.time < batch.end for batch in batches)
