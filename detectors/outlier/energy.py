"""Sample energy: how little normal groups, whose members a network names, expect a code."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from typing_extensions import Self

LEAST_VARIANCE = 1e-6
"""Added to each group's variances, so that none is narrower than its root."""

_LEAST_SHARE = 1e-12  # of a group without members


class Groups(NamedTuple):
    """Normal groups of codes of width ``m``, torch's: ``share`` ``(k,)``, ``mean`` ``(k, m)``, ``cov`` ``(k, m, m)``.

    References
    ----------
    Zong et al. (2018), Deep autoencoding Gaussian mixture model for unsupervised anomaly detection, ICLR.
    """

    share: Any
    mean: Any
    cov: Any

    @classmethod
    def of(cls, codes: Any, belongs: Any, torch: Any) -> Self:
        """Of ``codes`` ``(n, m)`` and how much each ``belongs`` to each group, ``(n, k)``, rows summing to 1."""
        members = belongs.sum(dim=0).clamp_min(_LEAST_SHARE * len(codes))
        mean = belongs.T @ codes / members[:, None]
        centred = codes[None, :, :] - mean[:, None, :]
        cov = (centred * belongs.T[:, :, None]).transpose(1, 2) @ centred / members[:, None, None]
        return cls(members / members.sum(), mean, cov + LEAST_VARIANCE * torch.eye(codes.shape[1]).to(cov))

    def energy(self, codes: Any, torch: Any) -> Any:
        """``(n,)``: ``-log sum_k share_k N(code; mean_k, cov_k)``; negative where the density is above 1."""
        lower = torch.linalg.cholesky(self.cov)
        centred = (codes[None, :, :] - self.mean[:, None, :]).transpose(1, 2)
        white = torch.linalg.solve_triangular(lower, centred, upper=False)
        volume = lower.diagonal(dim1=1, dim2=2).log().sum(dim=1) + 0.5 * codes.shape[1] * math.log(2.0 * math.pi)
        log_density = (self.share.log() - volume)[:, None] - 0.5 * (white**2).sum(dim=1)
        return -torch.logsumexp(log_density, dim=0)

    def narrowness(self) -> Any:
        """The sum of one over each variance: a group that shrinks to a point is no group."""
        return (1.0 / self.cov.diagonal(dim1=1, dim2=2)).sum()
