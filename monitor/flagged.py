"""What a window of an outlier monitor says: are more rows flagged than the promised share explains? Pure."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtrc, bdtrik

from detectors.base import Array, Verdict

TOO_MANY = 0.001
"""A window is an alert if so many flagged rows, or more, are at most so probable."""


def share_verdict(scores: Array, threshold: float, promised: float) -> Verdict:
    """The verdict on ``(n,)`` instance scores (NaN: no value to score) above ``threshold`` or not.

    ``statistic`` and ``effect_size`` are the share of flagged rows, ``threshold`` is the smallest share that is an
    alert, ``p_val`` the binomial tail.

    >>> verdict = share_verdict(np.array([0.9] * 5 + [0.1] * 95), 0.5, 0.005)
    >>> verdict.state, verdict.statistic, verdict.threshold
    ('alert', 0.05, 0.05)
    """
    known = scores[~np.isnan(scores)]
    n = known.size
    if not n:
        return Verdict("insufficient_data", n=len(scores))
    flagged = int(np.count_nonzero(known > threshold))
    share, least = flagged / n, fewest(n, promised)
    p_val = float(bdtrc(flagged - 1, n, promised)) if flagged else 1.0
    return Verdict("alert" if flagged >= least else "ok", len(scores), share, least / n, p_val, effect_size=share)


def fewest(n: int, promised: float) -> int:
    """The fewest flagged of ``n`` rows that are an alert; ``n + 1`` if not even all are.

    >>> fewest(100, 0.005), fewest(1000, 0.0), fewest(1, 0.005)
    (5, 1, 2)
    """
    if promised <= 0.0:
        return 1
    most = float(bdtrik(1.0 - TOO_MANY, n, promised))  # between two counts where their probability lies on both sides
    k = min(max(math.floor(most), 0), n)
    while k < n and bdtrc(k, n, promised) > TOO_MANY:
        k += 1
    return k + 1
