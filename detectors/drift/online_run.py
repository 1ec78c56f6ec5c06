"""A stream under way, as online drift detectors judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.base import Array, Feature, FeatureVerdict, Reason, Verdict
from detectors.drift.channels import Channel, Codes
from detectors.drift.run_length import largest

Explain = Callable[[Array, Sequence[int]], tuple[Reason, ...]]
"""``(rows of a window, columns) -> what changed in them``."""


@dataclass(frozen=True, eq=False)
class Gauge:
    """What a fitted detector compares: channels, window sizes ascending, ``(channels, windows)`` scales, threshold."""

    channels: Sequence[Channel]
    windows: Sequence[int]
    scales: Array
    threshold: float


class OnlineRun:
    """From the first row to the first alarm; keeps as many rows as the largest window holds, less one.

    >>> from detectors.drift.cvm_online import CVMDriftOnline
    >>> rng = np.random.default_rng(0)
    >>> run = CVMDriftOnline(ert=500, window_sizes=[20, 100], n_bootstraps=50).fit(rng.normal(size=(1000, 1))).start()
    >>> run.push(rng.normal(size=(50, 1)))[1].state
    'ok'
    >>> n, verdict = run.push(rng.normal(3.0, 1.0, size=(50, 1)))
    >>> n < 20, verdict.state
    (True, 'alert')
    """

    def __init__(self, gauge: Gauge, features: Sequence[Feature], explain: Explain) -> None:
        self._gauge, self._features, self._explain = gauge, features, explain
        self._memory = gauge.windows[-1] - 1
        self._rows: Array = np.empty((0, len(features)))
        self._codes: list[Codes] = [channel.encode(self._rows) for channel in gauge.channels]

    def fill(self, x: Array) -> None:
        """Remember rows that were judged before."""
        self._extend(x)
        self._forget()

    def push(self, x: Array) -> tuple[int, Verdict]:
        """Judge rows ``(m, d)``, up to the first alarm."""
        m, gauge = len(x), self._gauge
        self._extend(x)
        held = zip(gauge.channels, self._codes, strict=True)
        measured = np.stack([channel.measure(codes, m, gauge.windows) for channel, codes in held], axis=1)
        scaled = np.where(np.isnan(measured), -np.inf, measured / gauge.scales)
        peaks = largest(measured, gauge.scales)
        fired = np.flatnonzero(peaks > gauge.threshold)
        n = int(fired[0]) + 1 if len(fired) else m
        verdict = self._verdict(scaled[:n], peaks[:n], len(self._rows) - m, bool(len(fired)))
        self._forget()
        return n, verdict

    def _extend(self, x: Array) -> None:
        self._rows = np.concatenate([self._rows, x])
        self._codes = [
            np.concatenate([codes, channel.encode(x)])
            for channel, codes in zip(self._gauge.channels, self._codes, strict=True)
        ]

    def _forget(self) -> None:
        kept = min(len(self._rows), self._memory)
        self._rows = self._rows[len(self._rows) - kept :]
        self._codes = [codes[len(codes) - kept :] for codes in self._codes]

    def _verdict(self, scaled: Array, peaks: Array, before: int, alarm: bool) -> Verdict:
        n, gauge = len(peaks), self._gauge
        features = self._by_column(scaled, before, n)
        if not n or peaks.max() == -np.inf:
            return Verdict("insufficient_data", n, features=features)
        at = n - 1 if alarm else int(peaks.argmax())
        found = scaled[at]
        channel, window = divmod(int(found.argmax()), found.shape[1])
        end = before + at + 1
        held = slice(end - gauge.windows[window], end)
        strangest = np.argsort(-found.max(axis=1), kind="stable").tolist()
        fired = [c for c in strangest if found[c].max() > gauge.threshold]
        columns = list(dict.fromkeys(j for c in fired for j in gauge.channels[c].columns))
        return Verdict(
            "alert" if alarm else "ok",
            n,
            float(peaks[at]),
            gauge.threshold,
            effect_size=gauge.channels[channel].effect_size(self._codes[channel][held]),
            features=features,
            reasons=self._explain(self._rows[held], columns) if alarm else (),
        )

    def _by_column(self, scaled: Array, before: int, n: int) -> tuple[FeatureVerdict, ...]:
        threshold, made = self._gauge.threshold, []
        peaks = scaled.max(axis=(0, 2), initial=-np.inf)
        missing = (~np.isfinite(self._rows[before : before + n])).sum(axis=0)
        for j, feature in enumerate(self._features):
            own = [float(peaks[c]) for c, channel in enumerate(self._gauge.channels) if j in channel.columns]
            value = max(own, default=-np.inf)
            known = value > -np.inf
            made.append(
                FeatureVerdict(
                    feature.name,
                    feature.kind,
                    "insufficient_data" if not known else "alert" if value > threshold else "ok",
                    value if known else None,
                    None,
                    threshold if known else None,
                    None,
                    n - int(missing[j]),
                    int(missing[j]),
                )
            )
        return tuple(made)
