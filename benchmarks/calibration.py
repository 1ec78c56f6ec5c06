"""Whether false alarms are as rare as promised: on clean windows, and on clean rows one by one.

    python benchmarks/calibration.py [--quick] [--json] [--only KSDrift,...]

Windowed drift detectors: 2,000 clean windows of 100 rows of three columns at the level 0.05, 20 for each of 100
references of 2,000 rows. The promise holds if the level lies in the 99 % binomial interval of the
rate, or above it where a test alarms more rarely by its nature (``RARELY``). Online ones: streams of 10,000 clean rows
at an ``ert`` of 500, one for each of 60 references of 2,000 rows; it holds if the run time is within 10 %.

``--quick`` takes 40 windows, and two streams of 2,000 rows with few simulated ones: it shows that all run, and
judges nothing. Figures: calibration.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from report import Row, main, row

from detectors import registry
from detectors.base import Array, Feature
from detectors.calibrate import binomial_interval

LEVEL, WINDOWS, REFERENCES, N_REF, N = 0.05, 2000, 100, 2000, 100
ERT, STREAMS, ROWS = 500, 60, 10_000

RARELY = {
    "FETDrift": "Fisher's test is exact, and of counts",
    "ContextMMDDrift": "labels are drawn from fitted probabilities, which hold some of the rows' own",
}
"""What alarms more rarely than it may, and why."""

PARAMS: dict[str, dict[str, Any]] = {
    "MMDDrift": {"max_ref": 300},
    "ClassifierDrift": {"model": "logistic"},
    "LearnedKernelDrift": {"max_ref": 300, "epochs": 5},
    "SpotTheDiffDrift": {"max_ref": 300},
    "ContextMMDDrift": {"context": ["x0"], "max_ref": 300, "n_landmarks": 50},
}
"""Smaller than the defaults where that saves minutes; the promise is the same."""

FOUR, TWO = ("a", "b", "c", "d"), ("no", "yes")


def features(kind: str) -> list[Feature]:
    if kind.startswith("FETDrift"):
        return [Feature(f"x{i}", "categorical", TWO) for i in range(3)]
    if kind == "ChiSquareDrift":
        return [Feature(f"x{i}", "categorical", FOUR) for i in range(3)]
    last = Feature("x2", "categorical", FOUR) if kind == "TabularDrift" else Feature("x2")
    return [Feature("x0"), Feature("x1"), last]


def draw(kind: str, rng: np.random.Generator, n: int) -> Array:
    """Clean rows ``(n, 3)``."""
    if kind.startswith("FETDrift"):
        return (rng.random((n, 3)) < 0.1).astype(np.float64)
    if kind.startswith(("BBSD", "ClassifierUncertainty", "RegressorUncertainty")):
        return rng.dirichlet([1.0, 2.0, 3.0], size=n)
    coded = rng.choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(n, 3)).astype(np.float64)
    if kind == "ChiSquareDrift":
        return coded
    rows = rng.normal(size=(n, 3))
    if kind == "TabularDrift":
        rows[:, 2] = coded[:, 2]
    return rows


def made(kind: str, seed: int, **params: Any) -> Any:
    known = registry.create(kind).meta.params
    return registry.create(kind, **params, **({"seed": seed} if "seed" in known else {}))


def windowed(kind: str, quick: bool) -> Iterator[Row]:
    rng, alerts = np.random.default_rng(11), 0
    references, each = (2, 20) if quick else (REFERENCES, WINDOWS // REFERENCES)
    for seed in range(references):
        detector = made(kind, seed, p_val=LEVEL, **PARAMS.get(kind, {})).fit(draw(kind, rng, N_REF), features(kind))
        alerts += sum(detector.predict(draw(kind, rng, N)).is_drift for _ in range(each))
    low, high = binomial_interval(alerts, references * each)  # 95 %, to be read
    name = f"{kind}: alerts of {references * each:,} clean windows"
    yield row(name, alerts, f"({alerts / (references * each):.3f}, {low:.3f} to {high:.3f})")
    if not quick:
        low, high = binomial_interval(alerts, references * each, coverage=0.99)
        within = low <= LEVEL and (high >= LEVEL or kind in RARELY)
        yield Row(f"{kind}: rate", alerts / (references * each), "", f"{LEVEL:g} in the 99 % interval", within)


def online(kind: str, quick: bool) -> Iterator[Row]:
    alarms = done = 0
    streams, rows, params = (2, 2000, {"n_bootstraps": 30}) if quick else (STREAMS, ROWS, {})
    for seed in range(streams):
        rng = np.random.default_rng([17, seed])
        detector = made(kind, seed, ert=float(ERT), **params).fit(draw(kind, rng, N_REF), features(kind))
        run, at, x = detector.start(), 0, draw(kind, rng, rows)
        while at < len(x):
            n, verdict = run.push(x[at : at + 500])
            at += n
            if verdict.is_drift:
                alarms, run = alarms + 1, detector.start()
        done += rows
    found = done / max(alarms, 1)
    yield row(f"{kind}: rows between {alarms} false alarms, {ERT} promised", found, "rows")
    if not quick:
        yield row(f"{kind}: off by", abs(found / ERT - 1.0), "", 0.1)


def measure(quick: bool, only: list[str]) -> Iterator[Row]:
    ours = [kind for kind, of in registry.KINDS.items() if of == "drift" and kind != "AlibiDetect"]
    kinds = [kind for kind in ours if not only or kind in only]
    for kind in kinds:
        missing = [p for p in registry.requires(kind, PARAMS.get(kind, {})) if importlib.util.find_spec(p) is None]
        if missing:
            print(f'{kind} needs {missing[0]}: pip install "offpath[{missing[0]}]"', file=sys.stderr)
            continue
        yield from (online if registry.is_online(kind) else windowed)(kind, quick)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--only", default="")
    asked, sys.argv[1:] = flags.parse_known_args()
    names = [name for name in asked.only.split(",") if name]
    raise SystemExit(main("calibration", __doc__, lambda quick: measure(quick, names)))
