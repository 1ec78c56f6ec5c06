"""What alibi-detect's ``save_detector`` has written: read as text and plain arrays, and nothing of it is run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import DetectorError
from detectors.extras import how_to_have

CONFIG = "config.toml"
ARRAY = "x_ref.npy"
MAX_CONFIG = 2**20

_NOTHING = "None"  # how alibi-detect writes None in TOML

_COMMON: tuple[str, ...] = (
    *("x_ref", "preprocess_fn", "input_shape", "data_type", "x_ref_preprocessed", "preprocess_at_init"),
    *("p_val", "update_x_ref"),
)
_COLUMNWISE = (*_COMMON, "correction", "n_features")
_JOINT = (*_COMMON, "backend", "kernel", "sigma", "device", "n_permutations")
PLAIN: Mapping[str, tuple[str, ...]] = {
    "KSDrift": (*_COLUMNWISE, "alternative"),
    "CVMDrift": _COLUMNWISE,
    "FETDrift": (*_COLUMNWISE, "alternative"),
    "ChiSquareDrift": (*_COLUMNWISE, "categories_per_feature"),
    "TabularDrift": (*_COLUMNWISE, "alternative", "categories_per_feature"),
    "MMDDrift": (*_JOINT, "configure_kernel_from_x_ref", "batch_size_permutations"),
    "LSDDDrift": (*_JOINT, "n_kernel_centers", "lambda_rd_max"),
    "SpotTheDiffDrift": (
        *(*_COMMON, "backend", "device", "binarize_preds", "train_size", "n_folds", "retrain_from_scratch", "seed"),
        *("learning_rate", "batch_size", "epochs", "verbose", "n_diffs", "l1_reg"),
    ),
}
"""Types that numbers, words and the array of the reference make whole, and the settings that they take."""

_WORDS: Mapping[str, tuple[str, ...]] = {
    "backend": ("pytorch",),
    "correction": ("bonferroni", "fdr"),
    "alternative": ("two-sided", "less", "greater"),
    "device": ("cpu", "cuda"),
    "data_type": ("tabular", "image"),
}


@dataclass(frozen=True)
class Saved:
    """A saved detector, as it describes itself. ``name`` is alibi-detect's; empty where only running code would tell.

    ``code`` names what is more than numbers, words and the reference's array: to load it is to run it.
    """

    name: str
    settings: Mapping[str, Any]
    code: tuple[str, ...]

    @property
    def p_val(self) -> float:
        """The level of its test; 0.05, alibi-detect's default, where it says none."""
        found = self.settings.get("p_val")
        return float(found) if isinstance(found, (int, float)) and 0.0 < found < 1.0 else 0.05

    def arguments(self) -> dict[str, Any]:
        """What the constructor takes beside the reference; of plain ones only."""
        given = {key: _plain(value) for key, value in self.settings.items() if key not in ("name", "x_ref", "meta")}
        return {key: value for key, value in given.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {int(key): _plain(item) for key, item in value.items()}
    return None if value == _NOTHING else value


def describe(folder: Path) -> Saved:
    """What the directory holds, or that of the ``config.toml``.

    Raises
    ------
    DetectorError : it holds no saved detector, or one whose ``config.toml`` cannot be read.
    """
    folder = folder_of(folder)
    if not folder.is_dir():
        raise DetectorError(f"saved: there is no directory {folder}")
    if not (folder / CONFIG).is_file():
        held = sorted(path.name for path in folder.glob("*"))
        pickled = [name for name in held if name.endswith((".dill", ".pickle", ".pkl"))]
        if not pickled:
            raise DetectorError(
                f"saved: {folder} holds no {CONFIG} and no .dill: it is not what alibi-detect's save_detector writes"
            )
        return Saved("", {}, tuple(pickled))
    settings = _read(folder / CONFIG)
    name = settings.get("name")
    if not isinstance(name, str):
        raise DetectorError(f"saved: {folder / CONFIG} names no detector (name = ...)")
    return of_settings(name.rpartition(".")[2] if name.startswith("@") else name, settings)


def of_settings(name: str, settings: Mapping[str, Any]) -> Saved:
    """A detector of that name with these settings, which nobody has to trust."""
    return Saved(name, settings, tuple(_code(name, settings)))


def folder_of(path: Path) -> Path:
    """The directory, of it or of its ``config.toml``."""
    return path.parent if path.name == CONFIG else path


def _read(where: Path) -> dict[str, Any]:
    try:
        reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "toml")  # alibi-detect has toml
    except ImportError:
        raise DetectorError(f"saved: reading it {how_to_have('alibi_detect')}") from None
    try:
        if where.stat().st_size > MAX_CONFIG:
            raise DetectorError(f"saved: {where} is larger than {MAX_CONFIG} bytes, the most that is read")
        found: dict[str, Any] = reader.loads(where.read_text(encoding="utf-8"))
    except DetectorError:
        raise
    except (OSError, ValueError) as error:
        raise DetectorError(f"saved: {where} is no TOML that can be read: {error}") from None
    return found


def _code(name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is not known to be plain."""
    if name not in PLAIN:
        yield f"{name}, whose models, kernels and functions are Python objects"
    for key, value in settings.items():
        known = key in PLAIN.get(name, (key,))
        if key in ("name", "meta") or value == _NOTHING or (known and _is_plain(key, value)):
            continue
        yield f"{key} = {str(value)[:60]}"


def _is_plain(key: str, value: Any) -> bool:
    if key == "x_ref":
        return bool(value == ARRAY)
    if isinstance(value, str):
        return value in _WORDS.get(key, ())
    if key == "categories_per_feature" and isinstance(value, Mapping):
        return all(re.fullmatch(r"\d+", str(at)) and (item == _NOTHING or _numbers(item)) for at, item in value.items())
    return _numbers(value)


def _numbers(value: Any) -> bool:
    return all(isinstance(item, (bool, int, float)) for item in (value if isinstance(value, list) else [value]))


def read_reference(folder: Path) -> npt.NDArray[Any] | None:
    """The array of the reference, ``(n_ref, ...)``; ``None`` if there is none, or one of Python objects."""
    try:
        found = np.load(folder_of(folder) / ARRAY, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) and found.ndim > 1 and found.dtype.kind in "fiub" else None
