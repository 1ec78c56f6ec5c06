"""The files that tables are read from, as columns by name: CSV (also gzipped), Parquet, npz, npy."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile, is_zipfile

import numpy as np
import numpy.typing as npt

from detectors.base import default_features

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "None"})
"""Cells of a CSV file that mean no value, unless they are labels of their column."""

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""Of files that are no comma-separated values, though named so."""

ROWS_A_LOOK = 1000
"""Rows of a CSV file between two words on how far it is read."""

_INDEX = re.compile(r"__index_level_\d+__")
"""Columns in which pandas keeps the labels of rows of a frame that was filtered or shuffled."""

Progress = Callable[[float], object]
"""Is told the share that is done, 0 to 1."""

Columns = Mapping[str, Sequence[Any]]


class TableError(ValueError):
    """A table cannot be used; the message says which cell, column or file, and why."""


def read_columns(path: Path, progress: Progress) -> Columns:
    """Every column of a file by name, all of the same length; ``None`` is a missing value. CSV gives text only.

    Raises
    ------
    TableError : no such file, an unknown kind of file, a damaged one, columns without a name of their own.
    """
    if not path.is_file():
        raise TableError(f"{path}: {'is a directory' if path.is_dir() else 'there is no such file'}")
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _csv(path, progress)
    if name.endswith((".parquet", ".pq")):
        return _parquet(path, progress)
    if name.endswith(".npz"):
        return _npz(path)
    if name.endswith(".npy"):
        return _npy(path)
    raise TableError(f"{path}: unknown kind of file; .csv, .csv.gz, .parquet, .npz and .npy can be read")


def means_missing(path: Path) -> frozenset[str]:
    """The texts that mean no value in a file of this kind; in others than CSV there are real blanks."""
    return MISSING if path.name.lower().endswith((".csv", ".csv.gz")) else frozenset()


def _csv(path: Path, progress: Progress) -> Columns:
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            data = stack.enter_context(gzip.open(raw)) if path.suffix.lower() == ".gz" else raw
            # Excel and others begin a file with a byte-order mark, which is no part of the first name.
            text = stack.enter_context(io.TextIOWrapper(cast(BinaryIO, data), "utf-8-sig", newline=""))
            lines = csv.reader(text, skipinitialspace=True)
            names = _names(path, next(lines, None))
            columns: list[list[Any]] = [[] for _ in names]
            for cells in _whole(path, lines, len(names), raw, progress):
                for column, cell in zip(columns, cells, strict=True):
                    column.append(cell)
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not text in UTF-8, save it as such: {error}") from None
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        raise TableError(f"{path}: is no readable CSV: {error}") from None
    return dict(zip(names, columns, strict=True))


def _names(path: Path, cells: Sequence[str] | None) -> list[str]:
    """The columns that the first line names."""
    if not cells:
        raise TableError(f"{path}: is empty; the first line must name the columns")
    names = [cell.strip() for cell in cells]
    for mark, called in SEPARATORS.items():
        if len(names) == 1 and mark in names[0]:
            raise TableError(f"{path}: its columns are separated by {called}; offpath reads commas")
    _distinct(path, names)
    return names


def _distinct(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: more than one column is named {', '.join(map(repr, twice))}; give each its own name")


def _whole(
    path: Path, lines: Iterator[list[str]], width: int, raw: BinaryIO, progress: Progress
) -> Iterator[list[str]]:
    size = max(path.stat().st_size, 1)
    for number, cells in enumerate(lines, 1):
        if number % ROWS_A_LOOK == 0:
            progress(raw.tell() / size)
        if not cells:
            continue
        if len(cells) != width:
            has = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
            raise TableError(f"{path}: row {number} has {has}, the first line names {width} columns")
        yield cells


def _npz(path: Path) -> Columns:
    if not is_zipfile(path):
        raise TableError(f"{path}: is no npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: _array(path, archive, name) for name in archive.files}
    except TableError:
        raise
    except ValueError as error:
        raise TableError(f"{path}: is no readable npz file: {error}") from None
    except (OSError, EOFError, BadZipFile) as error:
        raise TableError(f"{path}: is no readable npz file: {error}") from None
    for name in ("x_ref", "x", "X"):
        if name in arrays and (arrays[name].ndim > 1 or len(arrays) == 1):
            return _matrix(path, name, arrays[name])
    if arrays and all(x.ndim == 1 and len(x) == len(next(iter(arrays.values()))) for x in arrays.values()):
        return {name: x.tolist() for name, x in arrays.items()}
    if len(arrays) == 1:
        return _matrix(path, *next(iter(arrays.items())))
    raise TableError(
        f"{path}: needs an array named x_ref or x, or one array of the same length a column; "
        f"there are {', '.join(arrays) or 'none'}"
    )


def _npy(path: Path) -> Columns:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)  # np.load would take other files, too
            file.seek(0)
            x = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        said = "holds Python objects, which are not read" if "pickle" in str(error) else f"is no readable npy: {error}"
        raise TableError(f"{path}: {said}") from None
    except (OSError, EOFError, MemoryError) as error:
        raise TableError(f"{path}: is no readable npy file: {error}") from None
    return _matrix(path, path.stem, x)


def _array(path: Path, archive: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    try:
        x = archive[name]
    except ValueError:  # NumPy's words for it advise to load what runs code
        raise TableError(
            f"{path}: array {name} holds Python objects, which are not read: save numbers or text"
        ) from None
    except MemoryError as error:
        raise TableError(f"{path}: array {name} is too large: {error}") from None
    kind = x.dtype.kind if isinstance(x, np.ndarray) else None  # what is no array comes as bytes
    if kind is None or kind not in "fiubUS":
        what = "is no array" if kind is None else f"is of type {x.dtype}"
        raise TableError(f"{path}: {name} {what}; numbers and text can be read")
    if kind == "S":
        try:
            return np.char.decode(x, "utf-8")
        except UnicodeDecodeError as error:
            raise TableError(f"{path}: array {name} is no text in UTF-8: {error}") from None
    return x


def _matrix(path: Path, name: str, x: npt.NDArray[Any]) -> Columns:
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise TableError(f"{path}: array {name} must be numeric, of shape (n, d), got {x.dtype} {x.shape}")
    if not x.size:
        raise TableError(f"{path}: holds no rows")
    x = x.reshape(len(x), -1)
    return {feature.name: x[:, i].tolist() for i, feature in enumerate(default_features(x.shape[1]))}


def _parquet(path: Path, progress: Progress) -> Columns:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise TableError(f'{path}: reading Parquet needs pyarrow: pip install "offpath[parquet]"') from None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _distinct(path, names)
            names = [name for name in names if not _INDEX.fullmatch(name)]
            columns: dict[str, list[Any]] = {name: [] for name in names}
            for group in range(file.num_row_groups):
                for name, column in file.read_row_group(group, names).to_pydict().items():
                    columns[name].extend(column)
                progress((group + 1) / file.num_row_groups)
    except TableError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        raise TableError(f"{path}: is no readable Parquet file: {error}") from None
    return columns
