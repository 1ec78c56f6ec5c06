"""Did a share change? Fisher's exact test, and the two-proportion test where counts are large."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc, gammaln

_ENOUGH = 10.0  # expected counts from which the two-proportion test is as good
_TIES = 1.0 + 1e-7  # tables as probable as the observed one differ from it by rounding


def fisher_p(hits_ref: int, n_ref: int, hits: int, n: int, alternative: str = "two-sided") -> float:
    """p-value of Fisher's exact test; two-sided, the probability of all tables no more probable than the observed.

    ``greater``: of as many hits among the ``n``, or more; ``less``: or fewer. Agrees with ``scipy.stats.fisher_exact``.

    >>> round(fisher_p(8, 10, 1, 6), 6), round(fisher_p(8, 10, 1, 6, "less"), 6)
    (0.034965, 0.024476)
    """
    total, hits_all = n_ref + n, hits_ref + hits
    low, high = max(0, hits_all - n_ref), min(n, hits_all)
    if low == high:
        return 1.0
    k = np.arange(low, high + 1)
    constant = gammaln(n + 1.0) + gammaln(n_ref + 1.0) + gammaln(hits_all + 1.0) + gammaln(total - hits_all + 1.0)
    logs = -gammaln(k + 1.0) - gammaln(n - k + 1.0) - gammaln(hits_all - k + 1.0)
    logs -= gammaln(n_ref - hits_all + k + 1.0)
    extreme = {
        "two-sided": logs <= logs[hits - low] + math.log(_TIES),
        "greater": k >= hits,
        "less": k <= hits,
    }[alternative]
    likely = np.exp(logs - logs.max())
    p = float(likely[extreme].sum()) * math.exp(float(logs.max() + constant - gammaln(total + 1.0)))
    return min(p, 1.0)


def share_p(hits_ref: int, n_ref: int, hits: int, n: int) -> float:
    """p-value of an equal share in both: two-proportion (chi-squared, one degree of freedom) if every expected count
    is at least 10, else Fisher's exact test.

    >>> share_p(0, 1000, 0, 100), share_p(0, 1000, 50, 100) < 1e-9
    (1.0, True)
    """
    hits_all, total = hits_ref + hits, n_ref + n
    if hits_all in (0, total):
        return 1.0
    smallest = min(hits_all, total - hits_all) * min(n_ref, n) / total
    if smallest < _ENOUGH:
        return fisher_p(hits_ref, n_ref, hits, n)
    gap = hits_ref / n_ref - hits / n
    pooled = hits_all / total
    return float(chdtrc(1.0, gap * gap / (pooled * (1.0 - pooled) * (1.0 / n_ref + 1.0 / n))))


def any_share_p(missing_ref: Sequence[int], n_ref: int, missing: Sequence[int], n: int) -> float | None:
    """The p-value of a change of any column's missing share (Bonferroni); ``None`` if nothing is missing anywhere."""
    found = [share_p(a, n_ref, b, n) for a, b in zip(missing_ref, missing, strict=True) if a or b]
    return min(1.0, len(found) * min(found)) if found else None
