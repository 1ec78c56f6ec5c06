"""The histogram of instance scores: one set of buckets for scores of every scale and sign."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from sinks.prometheus import MonitorLabels, PrometheusSink


@pytest.mark.parametrize(
    ("threshold", "scores", "above"),
    [(2.0, [0.1, 1.9, 2.1, 9.0], 2), (-2.0, [-9.0, -2.1, -1.9, 5.0], 2), (-2.0, [-2.0, np.nan], 0)],
)
def test_one_is_at_the_threshold_also_where_it_is_negative(threshold, scores, above):
    registry = CollectorRegistry()
    sink = PrometheusSink(registry, [MonitorLabels("default", "income", "odd", "outlier")])
    sink.observe_scores("odd", np.array(scores), threshold)
    labels = {"namespace": "default", "model": "income", "monitor": "odd"}
    count, within = (
        registry.get_sample_value(f"offpath_instance_score_ratio_{name}", {**labels, **extra})
        for name, extra in (("count", {}), ("bucket", {"le": "1.0"}))
    )
    assert count is not None
    assert within is not None
    assert count - within == above
