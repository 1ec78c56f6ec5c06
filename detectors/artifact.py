"""Fitted detectors on disk: a directory of JSON and plain arrays, checked by digest, never pickled.

``artifact.json`` holds type, parameters, state, features, the SHA-256 of ``arrays.npz`` and one of itself;
``arrays.npz`` holds the arrays (NumPy's ``.npy`` in a zip, without objects). Loading executes nothing that the
artefact says: its type is looked up in :mod:`detectors.registry`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Detector, DetectorError, Feature, Parts, Saveable
from detectors.directory import replace
from detectors.npz import pack
from detectors.registry import load_class, runs_code

FORMAT = 1
MANIFEST = "artifact.json"
ARRAYS = "arrays.npz"
MAX_MANIFEST = 16 * 2**20
MAX_ARRAYS = 2**31

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class ArtifactError(DetectorError):
    """An artefact cannot be written or read; the message says which file, what is wrong, and what to do."""


def save(detector: Detector, path: Path) -> None:
    """Write a fitted detector to the directory ``path``.

    The directory appears whole or not at all. An earlier artefact there is replaced; anything else there is left
    alone, and is an error.

    Raises
    ------
    ArtifactError : ``path`` is no artefact, or cannot be written, or the detector's parts are no plain JSON and arrays.
    NotFittedError : the detector has learnt nothing yet.

    >>> import tempfile
    >>> from detectors.outlier.knn import KNN
    >>> rows = np.random.default_rng(0).normal(size=(100, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(KNN().fit(rows), Path(folder, "knn"))
    ...     load(Path(folder, "knn")).predict([[9, 9]]).is_outlier.tolist()
    [True]
    """
    if not isinstance(detector, Saveable):
        raise ArtifactError(f"{type(detector).__name__} cannot be saved: it has no to_parts and from_parts")
    files = _encode(detector.meta.detector_type, detector.to_parts())
    path = Path(path)
    if path.is_symlink() or (path.exists() and not _replaceable(path)):
        raise ArtifactError(f"{path} exists and is no artefact directory: choose another path, or remove it")
    try:
        replace(path, files)
    except OSError as error:  # which names a file beside it that nobody has heard of
        raise ArtifactError(f"{path} cannot be written: {error.strerror or error}") from error


def load(path: Path, *, allow_code: bool = False) -> Detector:
    """The detector that :func:`save` wrote to the directory ``path``.

    ``allow_code`` lets it run a program that the user gave it; say so only of an artefact whose origin you trust.

    Raises
    ------
    ArtifactError : a file is missing, too large or changed since it was written; the format version or the detector
        type is unknown; the content is not what the detector needs; it holds code, and that is not allowed.
    """
    path = Path(path)
    manifest = describe(path)
    cls = _class_of(manifest, path)
    if not allow_code and holds_code(manifest):
        raise ArtifactError(f"{path} holds {CODE}")
    content = _arrays_of(manifest, path)
    try:
        arrays = _decode_arrays(content, path / ARRAYS)
        parts = Parts(manifest["params"], manifest["state"], arrays, features_of(manifest))
        made: Detector = cls.from_parts(parts)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ArtifactError(
            f"{path} holds no complete {manifest['detector_type']} ({error!r}): fit it again"
        ) from error
    return made


def verify(path: Path) -> Mapping[str, Any]:
    """:func:`describe`, and the digest of the arrays; they are not decoded, and no detector is imported.

    Raises
    ------
    ArtifactError : as :func:`describe`, or the arrays are missing, too large, or changed since they were written.
    """
    path = Path(path)
    manifest = describe(path)
    _arrays_of(manifest, path)
    return manifest


CODE = "a program that loading runs: if you trust its origin, allow it (detector.allow_code: true in a configuration)"


def holds_code(manifest: Mapping[str, Any]) -> bool:
    """Whether the described detector runs code that is not ours."""
    params = manifest.get("params")
    return isinstance(params, Mapping) and runs_code(str(manifest["detector_type"]), params)


def features_of(manifest: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The columns that the described detector was fitted on."""
    return tuple(Feature(f["name"], f["kind"], tuple(f["categories"])) for f in manifest["features"])


def describe(path: Path) -> Mapping[str, Any]:
    """The checked content of ``artifact.json``; arrays are not read, and no detector is imported.

    Raises
    ------
    ArtifactError : the file is missing, too large, no JSON, of an unknown format, or changed since it was written.
    """
    where = Path(path) / MANIFEST
    content = _read(where, MAX_MANIFEST)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is no JSON ({error}): {_CHANGED}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ArtifactError(f"{where} is no description of a detector: it has no 'format'")
    if manifest["format"] != FORMAT:
        raise ArtifactError(
            f"{where} has format {manifest['format']!r}, this version of offpath reads {FORMAT}: "
            "fit the detector again, or use the version of offpath that wrote it"
        )
    written = manifest.pop("sha256", None)
    try:
        intact = _digest(manifest) == written
    except (ValueError, RecursionError):  # NaN and the like, which save never writes
        intact = False
    if not intact:
        raise ArtifactError(f"{where} is not the file that was written ({_CHANGED})")
    return manifest


_CHANGED = "changed by hand or damaged in transit: copy it again, or fit the detector again"


def _arrays_of(manifest: Mapping[str, Any], path: Path) -> bytes:
    """The bytes of the arrays, which are the described ones."""
    content = _read(path / ARRAYS, MAX_ARRAYS)
    try:
        intact = hashlib.sha256(content).hexdigest() == manifest["files"][ARRAYS]["sha256"]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path / MANIFEST} does not describe the arrays ({error!r}): fit it again") from None
    if not intact:
        raise ArtifactError(f"{path / ARRAYS} is not the file that was written ({_CHANGED})")
    return content


def _encode(detector_type: str, parts: Parts) -> dict[str, bytes]:
    for name, array in parts.arrays.items():
        if not _NAME.fullmatch(name):
            raise ArtifactError(f"array name {name!r} may hold letters, digits, '_', '.' and '-' only")
        if np.asarray(array).dtype.hasobject:
            raise ArtifactError(f"array {name!r} holds Python objects, which are never saved")
    arrays = pack(parts.arrays)
    if len(arrays) > MAX_ARRAYS:
        raise ArtifactError(f"the arrays take {len(arrays)} bytes, more than {MAX_ARRAYS}: fit on fewer rows")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "offpath": _version(),
        "detector_type": detector_type,
        "params": dict(parts.params),
        "state": dict(parts.state),
        "features": [asdict(feature) for feature in parts.features],
        "files": {ARRAYS: {"sha256": hashlib.sha256(arrays).hexdigest(), "bytes": len(arrays)}},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    try:
        manifest["sha256"] = _digest(manifest)
        text = json.dumps(manifest, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"parameters and state of {detector_type} must be plain JSON values: {error}") from None
    return {MANIFEST: text.encode(), ARRAYS: arrays}


def _digest(manifest: Mapping[str, Any]) -> str:
    """Of the content, however it is laid out."""
    plain = json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def _version() -> str:
    try:
        return metadata.version("offpath")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def _class_of(manifest: Mapping[str, Any], path: Path) -> type[Any]:
    try:
        cls = load_class(str(manifest["detector_type"]))
    except (KeyError, DetectorError) as error:
        raise ArtifactError(f"{path / MANIFEST}: {error}") from None
    if not hasattr(cls, "from_parts"):
        raise ArtifactError(f"{path / MANIFEST}: a {manifest['detector_type']} cannot be loaded")
    return cls


def _decode_arrays(content: bytes, where: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(info.file_size for info in packed.infolist())
        if unpacked > MAX_ARRAYS:
            raise ArtifactError(f"{where} unpacks to {unpacked} bytes, more than {MAX_ARRAYS}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except ArtifactError:
        raise
    except (ValueError, KeyError, OSError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ArtifactError(f"{where} holds no plain arrays ({error}): fit the detector again") from error


def _read(where: Path, limit: int) -> bytes:
    try:
        with where.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ArtifactError(f"{where} is missing: {where.parent} is no artefact of `offpath fit`") from None
    except OSError as error:
        raise ArtifactError(f"{where} cannot be read: {error}") from None
    if len(content) > limit:
        raise ArtifactError(f"{where} is larger than {limit} bytes, the most that is read")
    return content


def _replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / MANIFEST).is_file() or not any(path.iterdir()))
