"""Online drift detectors: statistics by definition, run lengths as promised, resumption to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.base import DetectorError, Feature
from detectors.drift.channels import Share
from detectors.drift.columns import summarise
from detectors.drift.cvm_online import CVMDriftOnline, Distribution
from detectors.drift.density import DensityDifference
from detectors.drift.encoding import encode_filled
from detectors.drift.fet_online import FETDriftOnline
from detectors.drift.lsdd_online import LSDDDriftOnline
from detectors.drift.mmd_online import Kernel, MMDDriftOnline
from detectors.drift.run_length import Stream, records, threshold_for

QUICK: dict[str, Any] = {"ert": 300, "window_sizes": [10, 30], "n_bootstraps": 30}


def numeric(n: int, seed: int, shift: float = 0.0) -> Any:
    return np.random.default_rng(seed).normal(shift, 1.0, size=(n, 2))


def shares(n: int, seed: int, shift: float = 0.0) -> Any:
    return (np.random.default_rng(seed).random((n, 2)) < 0.2 + shift / 4.0).astype(float)


MADE = {
    "cvm": (CVMDriftOnline(**QUICK).fit(numeric(600, 0)), numeric),
    "fet": (FETDriftOnline(**QUICK).fit(shares(600, 0)), shares),
    "lsdd": (LSDDDriftOnline(**QUICK, n_kernel_centers=20).fit(numeric(600, 0)), numeric),
    "mmd": (MMDDriftOnline(**QUICK, max_ref=300).fit(numeric(600, 0)), numeric),
}
every = pytest.mark.parametrize("name", MADE)


def test_the_distribution_s_statistic_is_the_integral() -> None:
    reference = np.array([1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 8.0, 9.0])
    channel = Distribution(0, summarise(reference, Feature("x"), "numeric"))
    x = np.array([0.0, 2.0, 4.0, 8.0, np.nan, 9.5])[:, None]
    found = channel.measure(channel.encode(x), 6, [4, 6])
    for i, w in ((3, 4), (5, 4), (5, 6)):
        window = x[i - w + 1 : i + 1, 0]
        present = window[~np.isnan(window)]
        gaps = [(present <= v).mean() - (reference <= v).mean() for v in reference]
        assert found[i, 0 if w == 4 else 1] == pytest.approx(len(present) * np.mean(np.square(gaps)))
    assert np.isnan(found[:3]).all()


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_share_s_statistic_is_fishers(alternative: str) -> None:
    class Ones(Share):
        def happens(self, values: Any) -> Any:
            return values == 1

    channel = Ones(0, 30, 200, alternative)
    x = shares(40, 3)
    found = channel.measure(channel.encode(x), 40, [25])
    k = int(x[15:40, 0].sum())
    p = stats.fisher_exact([[k, 25 - k], [30, 170]], alternative=alternative).pvalue
    assert found[39, 0] == pytest.approx(-np.log10(p), rel=1e-6)


def test_the_kernel_s_statistic_is_the_unbiased_estimate() -> None:
    x, y = numeric(50, 1), numeric(45, 2)
    columns = [summarise(x[:, j], Feature(f"x{j}"), "numeric") for j in range(2)]
    px, py = encode_filled(columns, x), encode_filled(columns, y)
    found = Kernel(columns, px, 1.3).measure(Kernel(columns, px, 1.3).encode(y), 25, [10, 20])

    def k(a: Any, b: Any) -> Any:
        return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * 1.3**2))

    for i in (0, 7, 24):
        for place, w in enumerate((10, 20)):
            z = py[20 + i - w + 1 : 20 + i + 1]
            expected = (k(px, px).sum() - 50) / (50 * 49) + (k(z, z).sum() - w) / (w * (w - 1)) - 2 * k(px, z).mean()
            assert found[i, place] == pytest.approx(expected, abs=1e-8)


def test_the_difference_of_densities_is_that_of_the_windowed_test() -> None:
    x, y = numeric(400, 1), numeric(60, 2, 0.5)
    detector = LSDDDriftOnline(**QUICK, n_kernel_centers=30).fit(x)
    centers, rest = detector._apart(len(x))
    points, of_window = (encode_filled(detector._columns, rows) for rows in (x, y))
    reference = DensityDifference.learn(points[rest], points[centers], None, 0.2, 0)
    channel: Any = detector._need_fit().channels[0]
    found = channel.measure(channel.encode(y), 60, [10, 60])
    for at, place, w in ((59, 1, 60), (59, 0, 10), (20, 0, 10)):
        expected, largest = reference.permute(of_window[at - w + 1 : at + 1], 1999, seed=0)
        assert found[at, place] == pytest.approx(expected.statistic, rel=1e-4)
        excess = max(expected.statistic - expected.permuted.mean(), 0.0)
        effect = channel.effect_size(channel.encode(y[at - w + 1 : at + 1]))
        assert effect**2 == pytest.approx(excess / largest, abs=0.02)
    state, arrays = detector.to_parts().state, detector.to_parts().arrays
    assert state["sigma"] == pytest.approx(reference.sigma)
    assert set(arrays) & {"centers", "turn", "mean"} == {"centers", "turn", "mean"}
    assert "reference" not in arrays


def judged(detector: Any, x: Any, cuts: list[int]) -> list[tuple[Any, ...]]:
    """Each row's own statistic, of a stream that is pushed in pieces; it begins anew after an alarm."""
    run, told, at = detector.start(), [], 0
    for end in [*cuts, len(x)]:
        while at < end:
            n, verdict = run.push(x[at:end])
            at += n
            told.append((at, verdict.statistic, verdict.state))
            if verdict.is_drift:
                run = detector.start()
    return told


@every
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pieces_and_resumption_change_nothing_to_the_last_bit(name: str, data: st.DataObject) -> None:
    detector, rows = MADE[name]
    x = np.concatenate([rows(60, 5), rows(20, 6, 1.5)])
    single = judged(detector, x, list(range(1, 80)))
    alarms = [at for at, _, state in single if state == "alert"]
    cuts = sorted(data.draw(st.lists(st.integers(1, 79), max_size=6)))
    assert [at for at, _, state in judged(detector, x, cuts) if state == "alert"] == alarms

    first = alarms[0] if alarms else 80
    cut = data.draw(st.integers(1, first - 1))
    run = detector.start()
    run.fill(x[max(0, cut - detector.memory) : cut])
    _, verdict = run.push(x[cut : cut + 1])
    assert (verdict.statistic, verdict.state) == single[cut][1:]


@every
def test_a_change_is_found_soon_and_explained(name: str) -> None:
    detector, rows = MADE[name]
    run = detector.start()
    run.fill(rows(40, 7))
    n, verdict = run.push(rows(200, 8, 2.0))
    assert verdict.state == "alert"
    assert n <= 40
    assert verdict.reasons
    assert verdict.statistic > verdict.threshold
    assert 0.0 < verdict.effect_size <= 1.0


@every
def test_that_values_go_missing_is_found(name: str) -> None:
    detector, rows = MADE[name]
    x = rows(200, 9)
    x[::2, 0] = np.nan
    verdict = detector.predict(x)
    assert verdict.state == "alert"
    assert "missing" in {reason.change for reason in verdict.reasons}


def test_the_threshold_is_where_the_rate_is_one_in_ert() -> None:
    """Independent exponential statistics: one in ert rows is above log(ert)."""
    rng = np.random.default_rng(0)
    streams = [records(rng.exponential(size=2000)) for _ in range(400)]
    assert threshold_for(500.0, streams) == pytest.approx(np.log(500.0), abs=0.15)
    assert threshold_for(100_000.0, streams) == pytest.approx(np.log(100_000.0), abs=1.0), "beyond what was seen"
    with pytest.raises(DetectorError, match="more rows than the smallest window"):
        threshold_for(10.0, [Stream(np.empty(0, dtype=np.int64), np.empty(0), 5)])


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        (CVMDriftOnline, {"ert": 1.0}, "ert must be"),
        (CVMDriftOnline, {"window_sizes": []}, "window_sizes must be"),
        (CVMDriftOnline, {"window_sizes": 20}, "window_sizes must be"),
        (CVMDriftOnline, {"n_bootstraps": 5}, "n_bootstraps must be"),
        (FETDriftOnline, {"alternative": "more"}, "alternative must be one of two-sided, greater, less"),
        (MMDDriftOnline, {"sigma": 0.0}, "sigma must be"),
        (MMDDriftOnline, {"max_ref": 10}, "max_ref must be"),
        (LSDDDriftOnline, {"sigma": -1.0}, "sigma must be"),
        (LSDDDriftOnline, {"n_kernel_centers": 501}, "n_kernel_centers must be a whole number from 1 to 500"),
        (LSDDDriftOnline, {"lambda_rd_max": 0.0}, "lambda_rd_max must be"),
    ],
)
def test_parameters_that_are_wrong(kind: Any, params: dict[str, Any], said: str) -> None:
    with pytest.raises(DetectorError, match=said):
        kind(**params)


def test_a_reference_that_is_too_small_or_of_the_wrong_kind() -> None:
    with pytest.raises(DetectorError, match="twice the largest window are needed, 60"):
        CVMDriftOnline(**QUICK).fit(numeric(59, 0))
    with pytest.raises(DetectorError, match="'sex' is categorical"):
        CVMDriftOnline(**QUICK).fit(shares(100, 0), [Feature("x"), Feature("sex", "categorical", ("F", "M"))])
    with pytest.raises(DetectorError, match="at most half the 100 rows"):
        LSDDDriftOnline(**QUICK, n_kernel_centers=51).fit(numeric(100, 0))
    with pytest.raises(DetectorError, match="has 3"):
        FETDriftOnline(**QUICK).fit(np.arange(90.0)[:, None] % 3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@every
def test_the_run_time_is_kept_on_the_average_over_references(name: str) -> None:
    kind, rows = type(MADE[name][0]), MADE[name][1]
    alarms = done = 0
    for seed in range(30):
        detector = kind(ert=500, n_bootstraps=200).fit(rows(2000, 1000 + seed))
        run, at = detector.start(), 0
        x = rows(10_000, 2000 + seed)
        while at < len(x):
            n, verdict = run.push(x[at : at + 500])
            at += n
            if verdict.is_drift:
                alarms, run = alarms + 1, detector.start()
        done += len(x)
    print(f"{name}: one alarm in {done / alarms:.0f} rows, promised 500")
    assert done / alarms == pytest.approx(500, rel=0.2)
