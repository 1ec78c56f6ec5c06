"""Outlier and adversarial detectors of alibi-detect: scores and a threshold, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Array, DetectorError, Verdict

Bools = npt.NDArray[np.bool_]


def threshold_of(made: Any) -> float:
    """The score above which a row is flagged; raises :class:`DetectorError` if none was set."""
    found = getattr(made, "threshold", None)
    if found is None or np.ndim(found) or not math.isfinite(float(found)):
        raise DetectorError(
            "saved: the detector has no threshold for rows: call its infer_threshold on clean rows, and save it again"
        )
    return float(found)


def beyond(made: Any, rows: npt.NDArray[Any]) -> tuple[int, int]:
    """How many clean rows lie above the threshold, of how many."""
    instance, _ = _asked(made, rows)
    return int(np.count_nonzero(instance > threshold_of(made))), len(instance)


def judge(made: Any, rows: npt.NDArray[Any], complete: Bools, d: int) -> Verdict:
    """The verdict on ``n`` rows, of which ``rows`` are the ``complete`` ones; the others have the score NaN."""
    n, threshold = len(complete), threshold_of(made)
    instance, feature = np.full(n, np.nan), np.full((n, d), np.nan)
    if not len(rows):
        return Verdict("insufficient_data", n, None, threshold, instance_score=instance, feature_score=feature)
    scored, by_feature = _asked(made, rows)
    instance[complete] = scored
    if by_feature is not None and by_feature.size == len(rows) * d:
        feature[complete] = by_feature.reshape(len(rows), d)
    flagged = int(np.count_nonzero(scored > threshold))
    return Verdict(
        "alert" if flagged else "ok",
        n,
        float(np.nanmax(scored)),
        threshold,
        effect_size=flagged / n,
        instance_score=instance,
        feature_score=feature,
    )


def _asked(made: Any, rows: npt.NDArray[Any]) -> tuple[Array, Array | None]:
    data: Mapping[str, Any] = made.predict(rows)["data"]
    found, by_feature = data.get("instance_score"), data.get("feature_score")
    instance = np.empty(0) if found is None else np.asarray(found, dtype=np.float64)
    if instance.shape != (len(rows),):
        raise DetectorError(
            f"alibi-detect's answer holds scores of shape {instance.shape} for {len(rows)} rows; one a row is needed"
        )
    return instance, None if by_feature is None else np.asarray(by_feature, dtype=np.float64)
