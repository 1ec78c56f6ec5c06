"""Detectors that were made, and saved, with alibi-detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from detectors.base import (
    Array,
    DetectorError,
    DetectorKind,
    Feature,
    FeatureVerdict,
    Meta,
    NotFittedError,
    Parts,
    Reason,
    ShapeError,
    Verdict,
    as_rows,
)
from detectors.compat import loading, scores
from detectors.compat.answers import Answer, read, surprise
from detectors.compat.saved import Saved, describe, of_settings, read_reference
from detectors.drift.proportions import any_share_p
from detectors.drift.tabular import TabularDrift


class AlibiDetect:
    """A detector that alibi-detect (0.12 and later) has saved, judging in its own way.

    It needs ``pip install "offpath[alibi]"``; alibi-detect is under the Business Source Licence 1.1, which allows
    production use only to non-profit educational institutions. offpath's own detectors need none of it.

    Parameters
    ----------
    saved : the directory that ``save_detector`` wrote, or the ``config.toml`` in it.
    unsafe_loading : allow loading what can run code: models, kernels and preprocessing (``.dill``, ``.pt``,
        ``.joblib``), functions by name. Say it only of directories that nobody else can write to. Not needed where
        ``config.toml`` holds numbers and words, and ``x_ref.npy`` the reference: those are read here, and
        alibi-detect's own loader is not used.
    min_rows : rows without missing values below which a window of a drift detector is insufficient data.
    worst : so many columns come with a histogram.
    seed : what is random begins here, each time; the global generators go on as if nothing had been drawn.

    Verdict
    -------
    Of a drift detector ``state`` is its ``is_drift``. Where it tests column by column, ``statistic`` is ``-log10`` of
    the corrected p-value, ``threshold`` that of the level, and each of ``features`` has its statistic and p-value;
    else ``statistic`` and ``threshold`` are its distance and that distance's critical value, if it tells one. Counted
    p-values of permutations are ``(k + 1) / (P + 1)``. Rows with missing values (or infinities) are left out, as
    alibi-detect takes them for no drift (KSDrift) or for drift (MMDDrift). Where there are any, the change of their
    shares is tested too, and ``p_val`` is twice the smaller of both. Histograms, ``reasons`` and effect sizes are those
    of :class:`~detectors.drift.tabular.TabularDrift` on the reference: they explain, and alibi-detect decides.

    An outlier or adversarial detector scores row by row: ``instance_score``, ``feature_score`` if it has one, its own
    threshold. A row with missing values has the score NaN.

    Raises
    ------
    DetectorError : the directory cannot be used, holds code that nobody allowed to run, or a detector that a worker
        cannot resume (online ones; those that learn from what they judge).

    References
    ----------
    Van Looveren A. et al. Alibi Detect: Algorithms for outlier, adversarial and drift detection.
    https://docs.seldon.io/projects/alibi-detect

    >>> AlibiDetect(min_rows=50).meta.params["unsafe_loading"]
    False
    """

    detector_type: ClassVar[str] = "AlibiDetect"
    requires: ClassVar[tuple[str, ...]] = ("alibi_detect",)

    def __init__(
        self, saved: str = "", unsafe_loading: bool = False, min_rows: int = 20, worst: int = 5, seed: int = 0
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise DetectorError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
        if not isinstance(saved, str):
            raise DetectorError(f"saved must be the directory of a saved detector, got {saved!r}")
        self._params: dict[str, Any] = {
            "saved": str(Path(saved).absolute()) if saved else "",
            "unsafe_loading": bool(unsafe_loading),
            "min_rows": min_rows,
            "worst": worst,
            "seed": seed,
        }
        self._columnwise = TabularDrift(min_rows=min_rows, worst=worst)
        self._saved: Saved | None = None
        self._x_ref: npt.NDArray[Any] | None = None
        self._made: Any = None
        self._kind: DetectorKind = "drift"
        self.beyond = (0, 0)
        if saved and Path(saved).exists():  # else fit says so: an artefact of a plain one holds all that it needs
            self._describe()

    def _describe(self) -> Saved:
        self._saved = describe(Path(self._params["saved"]))
        loading.check(self._saved, self._params["unsafe_loading"])
        return self._saved

    @property
    def meta(self) -> Meta:
        inner = self._columnwise.meta
        least = self._params["min_rows"] if self._kind == "drift" else 1
        return Meta(self.detector_type, self._kind, dict(self._params), inner.features, inner.n_ref, least)

    def fit(self, x_ref: npt.ArrayLike, features: Sequence[Feature] | None = None) -> Self:
        """Load the saved detector, which learnt before, and learn of clean rows ``(n_ref, d)`` what explains verdicts.

        ``x_ref`` names the columns, says how often values are missing, what columns were like, and how many clean
        rows an outlier detector flags. The detector's own reference will do.

        Raises
        ------
        ShapeError : ``x_ref`` is no matrix, or has other columns than ``features`` or the saved detector.
        DetectorError : there are fewer than ``min_rows`` complete rows, or the saved detector cannot be loaded.
        """
        rows = as_rows(x_ref)
        saved = self._saved
        level = 0.05 if saved is None else saved.p_val
        columnwise = TabularDrift(p_val=level, min_rows=self._params["min_rows"], worst=self._params["worst"])
        columnwise.fit(rows, features)
        complete = rows[np.isfinite(rows).all(axis=1)]
        if len(complete) < self._params["min_rows"]:
            raise DetectorError(
                f"the reference has {len(complete)} rows without missing values, at least "
                f"{self._params['min_rows']} are needed (min_rows)"
            )
        if not self._params["saved"]:
            raise DetectorError("saved must name the directory of a detector that alibi-detect has saved")
        saved, folder = self._describe(), Path(self._params["saved"])
        self._load(saved, read_reference(folder), folder, rows.shape[1])
        self._columnwise = columnwise
        if self._kind != "drift":
            self.beyond = scores.beyond(self._made, self._shaped(complete))
        return self

    def _load(self, saved: Saved, x_ref: npt.NDArray[Any] | None, folder: Path | None, d: int) -> None:
        if x_ref is not None and int(np.prod(x_ref.shape[1:])) != d:
            raise ShapeError(
                f"saved: the detector's own reference has rows of {int(np.prod(x_ref.shape[1:]))} values "
                f"({x_ref.shape[1:]}), and {d} columns are judged"
            )
        made = loading.load(saved, x_ref, folder, self._params["seed"])
        told = getattr(made, "meta", None)
        name, kind = (told.get("name"), told.get("detector_type")) if isinstance(told, Mapping) else (None, None)
        if kind not in ("drift", "outlier", "adversarial"):
            raise DetectorError(f"saved: it is a {type(made).__name__}, and no detector of alibi-detect")
        if not saved.name:  # a directory that tells its type only when it is loaded
            loading.check(of_settings(str(name), {}), True)
        if kind != "drift":
            scores.threshold_of(made)
        self._saved, self._x_ref, self._made, self._kind = saved, x_ref, made, kind

    def _shaped(self, rows: Array) -> npt.NDArray[Any]:
        """Rows as the saved detector was given its reference; without one, as models take them."""
        if self._x_ref is None:
            return rows.astype(np.float32)
        dtype = self._x_ref.dtype if self._x_ref.dtype.kind == "f" else np.float64
        return rows.reshape(len(rows), *self._x_ref.shape[1:]).astype(dtype)

    def predict(self, x: npt.ArrayLike) -> Verdict:
        """Judge rows ``(n, d)``.

        Raises
        ------
        NotFittedError : before :meth:`fit`.
        ShapeError : ``x`` is no matrix of ``d`` columns.
        DetectorError : alibi-detect answered something else than its documentation says.
        """
        self._need_fit()
        rows = as_rows(x, len(self._columnwise.columns))
        complete: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
        if self._kind != "drift":
            with loading.borrowed(self._params["seed"]):
                return scores.judge(self._made, self._shaped(rows[complete]), complete, rows.shape[1])
        by_column = self._columnwise.predict(rows)
        least = self._params["min_rows"]
        missing_p = self._missing_p(rows) if len(rows) >= least else None
        if np.count_nonzero(complete) < least:
            return self._verdict(by_column, None, missing_p, 0)
        return self._verdict(by_column, self._asked(rows[complete]), missing_p, int(np.count_nonzero(complete)))

    def _asked(self, rows: Array) -> Answer:
        saved = self._need_fit()
        with loading.borrowed(self._params["seed"]):
            data = self._made.predict(self._shaped(rows))["data"]
        n_permutations = saved.settings.get("n_permutations")
        counted = n_permutations if isinstance(n_permutations, int) else None
        return read(data, saved.p_val, str(saved.settings.get("correction")), counted)

    def _missing_p(self, rows: Array) -> float | None:
        gone = (~np.isfinite(rows)).sum(axis=0).tolist()
        return any_share_p([c.missing for c in self._columnwise.columns], self._columnwise.meta.n_ref, gone, len(rows))

    def _verdict(self, by_column: Verdict, answer: Answer | None, missing_p: float | None, n: int) -> Verdict:
        """Of alibi-detect's answer on the ``n`` complete rows, if there is one, and of how many values are missing."""
        level = self._need_fit().p_val
        own = None if answer is None else answer.p
        found = [p for p in (own, missing_p) if p is not None]
        p = None if not found else found[0] if missing_p is None else min(1.0, 2.0 * min(found))
        alert = p is not None and (p <= level if missing_p is not None or answer is None else answer.drift)
        features = _tested(by_column.features, answer, n)
        if p is None or (own is None and not alert):
            return Verdict("insufficient_data", by_column.n, features=features)
        statistic, threshold = surprise(p), surprise(level)
        if answer is not None and missing_p is None and answer.statistic is not None and answer.critical is not None:
            statistic, threshold = answer.statistic, answer.critical
        reasons = by_column.reasons or (_WHOLE,)
        sizes = [f.effect_size for f in features if f.effect_size is not None]
        effect = max(sizes, default=None)
        return Verdict(
            "alert" if alert else "ok", by_column.n, statistic, threshold, p, effect, features,
            reasons if alert else (),
        )  # fmt: skip

    def _need_fit(self) -> Saved:
        if self._made is None or self._saved is None:
            raise NotFittedError(f"{self.detector_type} has loaded nothing yet: call fit(x_ref) first")
        return self._saved

    def to_parts(self) -> Parts:
        """All of a plain detector: its settings, its reference and the columns.

        Raises
        ------
        DetectorError : it holds code. Loading an artefact runs none: name it in the configuration, with ``reference``.
        """
        saved = self._need_fit()
        if saved.code:
            raise DetectorError(
                "a detector that needs unsafe_loading is not kept in an artefact, as loading those runs no code: "
                "give the configuration a reference: in the place of the artifact:"
            )
        assert self._x_ref is not None
        inner = self._columnwise.to_parts()
        state = {"name": saved.name, "settings": dict(saved.settings), "columns": dict(inner.state)}
        return Parts(self._params, state, {**inner.arrays, "saved_x_ref": self._x_ref}, inner.features)

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """The detector that :meth:`to_parts` was called on; whatever the parts say, no code in them is run."""
        params = {**parts.params, "saved": ""}
        detector = cls(**params)
        try:
            saved = of_settings(str(parts.state["name"]), dict(parts.state["settings"]))
            columnwise = TabularDrift(p_val=saved.p_val, min_rows=params["min_rows"], worst=params["worst"])
            inner = Parts(columnwise.meta.params, parts.state["columns"], parts.arrays, parts.features)
            x_ref = np.asarray(parts.arrays["saved_x_ref"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorError(f"the artefact cannot be used ({error!r}): fit the detector again") from None
        loading.check(saved, False)
        detector._columnwise = TabularDrift.from_parts(inner)
        detector._load(saved, x_ref, None, len(parts.features))
        detector._params["saved"] = str(parts.params["saved"])
        return detector


_WHOLE = Reason("", "distribution", 0.0, 1.0, "alibi-detect found a change of whole rows, no single column shows one")


def _tested(features: Sequence[FeatureVerdict], answer: Answer | None, n: int) -> tuple[FeatureVerdict, ...]:
    """The columns, with what alibi-detect found in them, if it tested each."""
    if answer is None or answer.by_column is None or len(answer.by_column[1]) != len(features):
        return tuple(features)
    made = []
    for feature, statistic, p in zip(features, *(part.tolist() for part in answer.by_column), strict=True):
        if p != p:
            note = feature.note or "alibi-detect gave no p-value"
            made.append(feature._replace(state="insufficient_data", statistic=None, p_val=None, note=note))
            continue
        state = "alert" if p < answer.threshold or (feature.state == "alert" and feature.missing) else "ok"
        made.append(feature._replace(state=state, statistic=statistic, p_val=p, threshold=answer.threshold, n=n))
    return tuple(made)
