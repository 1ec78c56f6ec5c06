"""What a window of an outlier monitor says: are more rows flagged than the reference explains? Pure.

Where ``above`` of ``scored`` clean rows lie above the threshold, and new rows are like them, the number of ``n`` new
rows above it has a beta-binomial distribution (the share beyond an order statistic has a beta distribution: Wilks 1941,
Determination of sample sizes for setting tolerance limits, Ann. Math. Stat. 12). That the true share is known only as
well as the reference tells it is a part of that.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betaln, gammaln

from detectors.base import Array, State, Verdict

TOO_MANY = 0.001
"""A window is an alert if so many flagged rows, or more, are at most so probable."""


def share_verdict(scores: Array, threshold: float, above: int, scored: int) -> Verdict:
    """The verdict on ``(n,)`` instance scores (NaN: no value to score) above ``threshold`` or not.

    ``statistic`` and ``effect_size`` are the share of flagged rows, ``threshold`` is the smallest share that is an
    alert, ``p_val`` the beta-binomial tail.

    >>> verdict = share_verdict(np.array([0.9] * 7 + [0.1] * 93), 0.5, above=5, scored=1000)
    >>> verdict.state, verdict.statistic, verdict.threshold
    ('alert', 0.07, 0.05)
    """
    known = scores[~np.isnan(scores)]
    n = known.size
    if not n:
        return Verdict("insufficient_data", n=len(scores))
    flagged = int(np.count_nonzero(known > threshold))
    tail = _tail(n, above, scored)
    least, share = int((tail > TOO_MANY).sum()), flagged / n
    state: State = "alert" if flagged >= least else "ok"
    return Verdict(state, len(scores), share, least / n, float(tail[flagged]), effect_size=share)


@lru_cache(maxsize=64)
def _tail(n: int, above: int, scored: int) -> Array:
    """``(n + 2,)``: probabilities that at least 0, 1, ... ``n + 1`` of ``n`` rows are flagged."""
    k = np.arange(n + 1.0)
    a, b = above + 1.0, scored - above + 0.0
    choose = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    p = np.exp(choose + betaln(k + a, n - k + max(b, 1.0)) - betaln(a, max(b, 1.0)))
    found: Array = np.append(np.minimum(np.cumsum(p[::-1])[::-1], 1.0), 0.0)
    return found
