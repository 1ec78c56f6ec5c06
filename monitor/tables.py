"""Reference data: CSV (also gzipped), Parquet or npz files as rows for a detector."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from detectors.base import UNSEEN, Array, Feature, default_features

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "None"})
"""Cells of a CSV file that mean no value."""


class TableError(ValueError):
    """A table cannot be used; the message says which cell, column or file, and why."""


class Table(NamedTuple):
    """Rows ``(n, d)`` and what their columns are."""

    rows: Array
    features: tuple[Feature, ...]


def read(
    path: Path,
    features: Sequence[Feature] = (),
    columns: Sequence[str] | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> Table:
    """A table's rows.

    With ``features`` their columns are taken, by name where the file names its columns. Without, a column of numbers
    is numeric, and one with text categorical, its categories sorted. ``columns`` takes only those. ``progress`` is told
    the share of a CSV file that was read.

    Raises
    ------
    TableError : no such file, an unknown kind of file, no rows, a missing column, text where a number belongs.
    """
    if not path.is_file():
        raise TableError(f"{path}: there is no such file")
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        found = _csv(path, progress)
    elif name.endswith((".parquet", ".pq")):
        found = _parquet(path)
    elif name.endswith(".npz"):
        found = _npz(path)
    else:
        raise TableError(f"{path}: unknown kind of file; .csv, .csv.gz, .parquet and .npz can be read")
    if not found or not len(next(iter(found.values()))):
        raise TableError(f"{path}: holds no rows")
    return _table(path, found, features, columns)


def _table(
    path: Path, found: Mapping[str, Sequence[Any]], features: Sequence[Feature], columns: Sequence[str] | None
) -> Table:
    wanted = tuple(features)
    if wanted and not all(feature.name in found for feature in wanted) and _unnamed(found):
        if len(found) != len(wanted):
            raise TableError(f"{path}: has {len(found)} columns, {len(wanted)} are configured")
        found = {feature.name: values for feature, values in zip(wanted, found.values(), strict=True)}
    if not wanted:
        wanted = tuple(_infer(name, values) for name, values in found.items())
    if columns is not None:
        known = {feature.name: feature for feature in wanted}
        unknown = [name for name in columns if name not in known]
        if unknown:
            raise TableError(f"{path}: no column {', '.join(unknown)}; there are {', '.join(known)}")
        wanted = tuple(known[name] for name in columns)
    missing = [feature.name for feature in wanted if feature.name not in found]
    if missing:
        raise TableError(f"{path}: no column {', '.join(missing)}; there are {', '.join(found)}")
    return Table(np.column_stack([_column(path, f, found[f.name]) for f in wanted]), wanted)


def _unnamed(found: Mapping[str, Any]) -> bool:
    return list(found) == [feature.name for feature in default_features(len(found))]


def _infer(name: str, values: Sequence[Any]) -> Feature:
    try:
        for value in values:
            if value is not None:
                float(value)
    except (TypeError, ValueError):
        return Feature(name, "categorical", tuple(sorted({str(value) for value in values if value is not None})))
    return Feature(name)


def _column(path: Path, feature: Feature, values: Sequence[Any]) -> Array:
    codes = {label: float(code) for code, label in enumerate(feature.categories)}
    column = np.empty(len(values))
    for i, value in enumerate(values):
        if value is None:
            column[i] = np.nan
        elif isinstance(value, str) and feature.kind == "categorical" and value in codes:
            column[i] = codes[value]
        else:
            try:
                column[i] = float(value)
            except (TypeError, ValueError):
                if feature.kind != "categorical":
                    raise TableError(
                        f"{path}: row {i + 1}, column {feature.name}: {str(value)[:40]!r} where a number belongs"
                    ) from None
                column[i] = UNSEEN
    return column


def _csv(path: Path, progress: Callable[[float], object]) -> Mapping[str, Sequence[Any]]:
    size = max(path.stat().st_size, 1)
    try:
        with path.open("rb") as raw:
            plain = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            lines = csv.reader(io.TextIOWrapper(plain, "utf-8-sig", newline=""), skipinitialspace=True)
            names = _names(path, next(lines, None))
            columns: list[list[Any]] = [[] for _ in names]
            for number, cells in enumerate(_whole(path, lines, len(names))):
                if number % 4096 == 0:
                    progress(raw.tell() / size)
                for column, cell in zip(columns, cells, strict=True):
                    column.append(None if cell in MISSING else cell)
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise TableError(f"{path}: is no readable CSV: {error}") from None
    return dict(zip(names, columns, strict=True))


def _names(path: Path, names: list[str] | None) -> list[str]:
    """The first line's, if they can be names of columns."""
    if not names:
        raise TableError(f"{path}: is empty; the first line must name the columns")
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and mark in names[0]:
            raise TableError(f"{path}: its columns are separated by {called}; offpath reads commas")
    doubled = [name for i, name in enumerate(names) if name in names[:i]]
    if doubled:
        raise TableError(f"{path}: more than one column is named {doubled[0]!r}")
    return names


def _whole(path: Path, lines: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    for number, cells in enumerate(lines, 1):
        if not cells:
            continue
        if len(cells) != width:
            raise TableError(f"{path}: row {number} has {len(cells)} cells, the first line names {width} columns")
        yield cells


def _npz(path: Path) -> Mapping[str, Sequence[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        why = "it holds pickled objects, which are not loaded" if "pickle" in str(error) else error
        raise TableError(f"{path}: is no npz file of plain arrays: {why}") from None
    for name in ("x_ref", "x", "X"):
        if name in arrays:
            return _matrix(path, name, arrays[name])
    if arrays and all(x.ndim == 1 and len(x) == len(next(iter(arrays.values()))) for x in arrays.values()):
        return {name: x.tolist() for name, x in arrays.items()}
    if len(arrays) == 1:
        return _matrix(path, *next(iter(arrays.items())))
    raise TableError(
        f"{path}: needs an array named x_ref or x, or one array of the same length a column; "
        f"there are {', '.join(arrays) or 'none'}"
    )


def _matrix(path: Path, name: str, x: npt.NDArray[Any]) -> Mapping[str, Sequence[Any]]:
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise TableError(f"{path}: array {name} must be numeric, of shape (n, d), got {x.dtype} {x.shape}")
    x = x.reshape(len(x), -1)
    return {feature.name: x[:, i].tolist() for i, feature in enumerate(default_features(x.shape[1]))}


def _parquet(path: Path) -> Mapping[str, Sequence[Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise TableError(f'{path}: reading Parquet needs pyarrow: pip install "offpath[parquet]"') from None
    try:
        return dict(pq.read_table(path).to_pydict())
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: is no readable Parquet file: {error}") from None
