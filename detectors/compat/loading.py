"""From what alibi-detect has saved to its object: by its constructor, or, if the user allows it, by its own loader."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import DetectorError
from detectors.compat.saved import Saved, folder_of
from detectors.extras import need

_REFUSED = {
    "Mahalanobis": "learns from every row that it judges, so that after a restart it would answer differently: "
    "take offpath's Mahalanobis",
    "ContextMMDDrift": "compares rows given a context, which its saved form does not name among a monitor's columns: "
    "take offpath's ContextMMDDrift",
    **dict.fromkeys(
        ("OutlierSeq2Seq", "OutlierProphet", "SpectralResidual"),
        "scores points of a series by their neighbours, and a monitor's rows come in blocks: take offpath's "
        "SpectralResidual or OutlierSeq2Seq",
    ),
}


def check(saved: Saved, unsafe_loading: bool) -> None:
    """Raise :class:`DetectorError` if it cannot run in a worker, or holds code and nobody allows to run it."""
    if saved.name.endswith("Online"):
        raise DetectorError(
            f"saved: {saved.name} of alibi-detect cannot go on exactly where it was after a restart: "
            f"take the type {saved.name}, which can, and fit it on the same reference"
        )
    if saved.name in _REFUSED:
        raise DetectorError(f"saved: {saved.name} of alibi-detect {_REFUSED[saved.name]}")
    for key, stateless in (("update_x_ref", "None"), ("retrain_from_scratch", True)):
        if saved.settings.get(key, stateless) != stateless:
            raise DetectorError(
                f"saved: {key} = {saved.settings[key]} makes each verdict depend on all windows before it, which are "
                "not read again after a restart: save the detector without it"
            )
    if saved.code and not unsafe_loading:
        raise DetectorError(
            f"saved: loading it can run any code that is in it ({'; '.join(saved.code[:3])}): if you trust whoever "
            "could write to it, say unsafe_loading: true"
        )


def load(saved: Saved, x_ref: npt.NDArray[Any] | None, folder: Path | None, seed: int) -> Any:
    """alibi-detect's object; of what is not plain by its loader, which runs the code in it: :func:`check` first.

    Raises
    ------
    DetectorError : alibi-detect is not installed, or cannot make the detector.
    """
    cd = need("alibi_detect.cd", "AlibiDetect")
    with borrowed(seed):
        try:
            if not saved.code:
                if x_ref is None:
                    raise DetectorError("saved: x_ref.npy, its reference, is missing, or holds no numbers")
                return getattr(cd, saved.name)(x_ref, **saved.arguments())
            assert folder is not None
            from alibi_detect.saving import load_detector

            return load_detector(folder_of(folder), enable_unsafe_loading=True)
        except DetectorError:
            raise
        except Exception as error:  # any code may have run
            said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            raise DetectorError(f"saved: alibi-detect cannot load it: {said}") from error


@contextmanager
def borrowed(seed: int) -> Iterator[None]:
    """The global generators, which alibi-detect draws from, begin at ``seed``, and go on afterwards as if nothing was.

    Its warnings are of no use to who reads a worker's log.
    """
    torch: Any = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), None if torch is None else torch.random.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        if torch is not None:
            torch.random.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch is not None:
            torch.random.set_rng_state(before[2])
