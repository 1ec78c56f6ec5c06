"""Our detectors beside alibi-detect's, on the same rows, in turns, in one process and one thread.

    python benchmarks/detectors.py [--quick] [--json]

Run it with the Python of an environment that has both (``pip install alibi-detect torch`` beside offpath, with numpy
below 2); without alibi-detect ours are measured alone. alibi-detect is a black box here, under the BSL 1.1.

Windowed detectors: the time of judging one window, the detector being fitted. Online ones: of being configured, with as
many simulated streams and the same windows and run time. Outliers: of an instance, in batches of 1, 32 and 1,024.
Figures are CPU time, and ratios medians of the pairs.
"""

# ruff: noqa: E402 - how many threads there are is read when numpy is imported
from __future__ import annotations

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is there

import contextlib
import importlib.util
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from report import Row, main, row

from detectors.base import Array, Feature
from detectors.registry import create

THERE = importlib.util.find_spec("alibi_detect") is not None
TORCH = importlib.util.find_spec("torch") is not None
ABSENT = "alibi-detect is not installed here: ours are measured alone (docstring: how to have both)"
PERMUTATIONS, CATEGORIES = 100, 10

Call = Callable[[], Any]


class Case(NamedTuple):
    """Ours and theirs, ready to be called; ``per`` is what one call's time is divided by; ``least`` the target."""

    name: str
    ours: Call
    theirs: Call | None
    per: int = 1
    least: float | None = None


def numbers(n: int, d: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d))


def codes(n: int, d: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, CATEGORIES, size=(n, d)).astype(np.float64)


def alibi(name: str, part: str, *args: Any, **params: Any) -> Any:
    """One of theirs, made."""
    return getattr(importlib.import_module(f"alibi_detect.{part}"), name)(*args, **params)


def judged(name: str, least: float, ref: Array, x: Array, ours: dict[str, Any], theirs: dict[str, Any]) -> Case:
    """A windowed detector: one window. Permutations are drawn anew every time, as theirs are."""
    coded = [j for j in range(ref.shape[1]) if theirs.get("categories_per_feature", {}).get(j)]
    labels = tuple(str(i) for i in range(CATEGORIES))
    features = [
        Feature(f"x{j}", "categorical", labels) if j in coded else Feature(f"x{j}") for j in range(ref.shape[1])
    ]
    made: Any = create(name, p_val=0.05, **ours)
    detector = made.fit(ref, features)

    def fresh() -> None:
        for kept in ("_kernel", "_difference"):
            if hasattr(detector, kept):
                getattr(detector, kept)._drawn = None
        detector.predict(x)

    title = f"{name} {len(ref):,}/{len(x):,} d={ref.shape[1]:,}"
    if not THERE:
        return Case(title, fresh, None, least=least)
    single = ref.astype(np.float32), x.astype(np.float32)
    other = alibi(name, "cd", single[0], p_val=0.05, **theirs)
    return Case(title, fresh, lambda: other.predict(single[1]), least=least)


def by_column(quick: bool) -> Iterator[Case]:
    n, m = (2000, 500) if quick else (10_000, 1000)
    for d in (12,) if quick else (12, 100, 3072):
        every = dict.fromkeys(range(d), CATEGORIES)
        half = dict.fromkeys(range(d // 2), CATEGORIES)
        ref, x, ref_codes, x_codes = numbers(n, d, 0), numbers(m, d, 1), codes(n, d, 2), codes(m, d, 3)
        mixed = [np.hstack([c[:, : d // 2], v[:, d // 2 :]]) for c, v in ((ref_codes, ref), (x_codes, x))]
        yield judged("KSDrift", 12, ref, x, {}, {})
        yield judged("CVMDrift", 12, ref, x, {}, {})
        yield judged("ChiSquareDrift", 12, ref_codes, x_codes, {}, {"categories_per_feature": every})
        yield judged("TabularDrift", 12, mixed[0], mixed[1], {}, {"categories_per_feature": half})


def jointly(quick: bool) -> Iterator[Case]:
    theirs = {"backend": "pytorch", "n_permutations": PERMUTATIONS}
    for n, m, mmd, lsdd in ((500, 100, 50, 2),) if quick else ((1000, 200, 50, 2), (5000, 200, 150, 10)):
        ref, x, ours = numbers(n, 32, 0), numbers(m, 32, 1), {"n_permutations": PERMUTATIONS, "max_ref": n}
        if TORCH:
            yield judged("MMDDrift", mmd, ref, x, ours, theirs)
        yield judged("LSDDDrift", lsdd, ref, x, ours, theirs)


def online(quick: bool) -> Iterator[Case]:
    """Their run time is that of the windows' statistics alone; ours tests that values go missing, too."""
    streams, ert, window = (100, 50, 10) if quick else (500, 150, 20)
    ref, bits = numbers(1000, 4, 0), (numbers(1000, 4, 0) > 1.0).astype(np.float64)
    torch = {"backend": "pytorch"}
    for name, rows, theirs in (
        ("MMDDriftOnline", ref, torch),
        ("LSDDDriftOnline", ref, torch),
        ("CVMDriftOnline", ref, {"device": "cpu"}),
        ("FETDriftOnline", bits, {}),
    ):
        made: Any = create(name, ert=float(ert), window_sizes=[window], n_bootstraps=streams)
        yield Case(
            f"{name} configured, {streams} streams",
            lambda made=made, rows=rows: made.fit(rows),
            _configured(name, rows, ert, window, streams, theirs) if THERE else None,
            least=30,
        )


def _configured(name: str, rows: Array, ert: int, window: int, streams: int, params: dict[str, Any]) -> Call:
    several = name.startswith(("CVM", "FET"))
    size = {"window_sizes": [window]} if several else {"window_size": window}
    given = rows.astype(np.int64) if name.startswith("FET") else rows.astype(np.float32)
    own = {k: v for k, v in params.items() if k != "device"}
    return lambda: alibi(name, "cd", given, float(ert), **size, n_bootstraps=streams, verbose=False, **own)


def scoring(quick: bool) -> Iterator[Case]:
    """alibi-detect 0.13 offers no KNN of its own in public."""
    ref, x = numbers(1000, 12, 0), numbers(1024, 12, 1)
    for name in ("IForest", "Mahalanobis", "KNN"):
        made: Any = create(name)
        ours, theirs = made.fit(ref), _scorer(name, ref) if THERE and name != "KNN" else None
        for size in (1, 32) if quick else (1, 32, 1024):
            batch = x[:size]
            calls = 50 if size == 1 else 5
            yield Case(
                f"{name} an instance, batch {size:,}",
                lambda batch=batch, calls=calls, ours=ours: [ours.predict(batch) for _ in range(calls)],
                None
                if theirs is None
                else lambda batch=batch, calls=calls, theirs=theirs: [theirs(batch) for _ in range(calls)],
                per=size * calls,
            )


def _scorer(name: str, ref: Array) -> Callable[[Array], Any]:
    if name == "IForest":
        other = alibi(name, "od", threshold=0.0)
        other.fit(ref)
    else:  # it learns from what it judges: the reference comes first
        other = alibi(name, "od", threshold=10.0)
        other.predict(ref)
    scorer: Callable[[Array], Any] = other.predict
    return scorer


def timed(call: Call) -> float:
    before = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        call()
    return time.process_time() - before


def pairs(case: Case, seconds: float) -> Iterator[Row]:
    """In turns, until that much time is spent, five times at least where it is quick."""
    ours, theirs, spent = [], [], 0.0
    timed(case.ours)  # what is made on first use
    while not ours or (spent < seconds and len(ours) < 15):
        ours.append(timed(case.ours))
        theirs.append(timed(case.theirs) if case.theirs is not None else 0.0)
        spent += ours[-1] + theirs[-1]
    scale = 1e6 / case.per
    yield row(f"{case.name}, ours", scale * statistics.median(ours), "us")
    if case.theirs is not None:
        ratio = statistics.median(other / max(own, 1e-9) for own, other in zip(ours, theirs, strict=True))
        yield row(f"{case.name}, alibi-detect", scale * statistics.median(theirs), "us")
        yield row(f"{case.name}, alibi-detect's over ours", ratio, "x", least=case.least)


def measure(quick: bool) -> Iterator[Row]:
    warnings.simplefilter("ignore")
    if not THERE:
        print(ABSENT, file=sys.stderr)
    if TORCH:
        importlib.import_module("torch").set_num_threads(1)
    for part in (by_column, jointly, online, scoring):
        for case in part(quick):
            # The targets are those of the full sizes.
            yield from pairs(case._replace(least=None) if quick else case, 1.0 if quick else 4.0)


if __name__ == "__main__":
    raise SystemExit(main("detectors", __doc__, measure))
