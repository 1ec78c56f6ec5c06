"""Reference data as rows for a detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detectors.base import Array, Feature, default_features
from monitor.events import InvalidEvent
from monitor.labels import Labels
from monitor.strangers import Strangers, strangers
from monitor.table_files import Columns, Progress, TableError, means_missing, read_columns

__all__ = ["Progress", "Table", "TableError", "read"]


MAX_LABELS = 1000
"""Labels of a column of which nobody said that it is categorical."""


MANY = 50
"""So many labels, each of one row, are no categories."""


class Table(NamedTuple):
    """Rows ``(n, d)``, what their columns are, and which values are none of a column's categories.

    ``mixed`` has a sentence for each column of numbers that was taken for labels, since some cells are none.
    """

    rows: Array
    features: tuple[Feature, ...]
    strangers: tuple[Strangers, ...] = ()
    mixed: tuple[str, ...] = ()

    def only(self, columns: Sequence[str] | None, path: Path) -> Table:
        """Just these columns, in this order; all for ``None``. Raises :class:`TableError` for one that there is not.

        >>> Table(np.array([[1.0, 2.0]]), default_features(2)).only(["x1"], Path("log.db")).rows.tolist()
        [[2.0]]
        """
        if columns is None:
            return self
        names = [feature.name for feature in self.features]
        _known(path, columns, names)
        at = [names.index(name) for name in columns]
        chosen = tuple(self.features[i] for i in at)
        return Table(self.rows[:, at], chosen, tuple(found for found in self.strangers if found.feature in chosen))

    def empty(self) -> tuple[str, ...]:
        """Names of the columns in which no value is finite.

        >>> Table(np.array([[1.0, np.nan], [2.0, np.inf]]), default_features(2)).empty()
        ('x1',)
        """
        there = np.isfinite(self.rows)
        return tuple(feature.name for j, feature in enumerate(self.features) if not there[:, j].any())


def read(
    path: Path,
    features: Sequence[Feature] = (),
    columns: Sequence[str] | None = None,
    progress: Progress = lambda _: None,
) -> Table:
    """The rows of a CSV (also gzipped), Parquet, npz or npy file.

    With ``features`` their columns are taken, by name where the file names its columns. Without, a column of numbers
    is numeric, and one with text categorical, its categories sorted. ``columns`` takes only those. ``progress`` is
    told the share of the file that is read.

    Raises
    ------
    TableError : no such file, an unknown kind of file, no rows, a missing column, text where a number belongs.
    """
    found = read_columns(path, progress)
    if not found or not len(next(iter(found.values()))):
        raise TableError(f"{path}: holds no rows")
    return _table(path, found, features, columns)


def _table(path: Path, found: Columns, features: Sequence[Feature], columns: Sequence[str] | None) -> Table:
    wanted = tuple(features)
    if wanted and not all(feature.name in found for feature in wanted) and _unnamed(found):
        if len(found) != len(wanted):
            raise TableError(f"{path}: has {len(found)} columns, {len(wanted)} are configured")
        found = {feature.name: values for feature, values in zip(wanted, found.values(), strict=True)}
    names = [feature.name for feature in wanted] or list(found)
    if columns is not None:
        _known(path, columns, names)
        names = list(columns)
    elif not wanted and "" in names:
        at = names.index("") + 1
        raise TableError(f"{path}: column {at} has no name; name it, or say which columns to take (--columns)")
    known = {feature.name: feature for feature in wanted}
    wanted = tuple(known[name] if known else _infer(path, name, found[name]) for name in names)
    missing = [feature.name for feature in wanted if feature.name not in found]
    if missing:
        raise TableError(f"{path}: no column {', '.join(missing)}; there are {', '.join(found)}")
    rows = np.column_stack([_column(path, f, found[f.name]) for f in wanted])
    odd = (strangers(feature, rows[:, i], found[feature.name]) for i, feature in enumerate(wanted))
    mixed = () if known else (_mixed(path, feature, found[feature.name]) for feature in wanted)
    return Table(rows, wanted, tuple(filter(None, odd)), tuple(filter(None, mixed)))


def _mixed(path: Path, feature: Feature, values: Sequence[Any]) -> str:
    """What to say of a column of labels most of which are numbers, or would be without commas; ``""`` of any other."""
    if feature.kind == "numeric":
        return ""
    cells = [_cell(path, feature.name, value) for value in values]
    texts = [(row, cell) for row, cell in enumerate(cells, 1) if isinstance(cell, str)]
    present = sum(cell is not None for cell in cells)
    if present >= MANY and len(feature.categories) == present:
        return (
            f"column {feature.name} was taken for labels, each row with another: leave it out, if it is a time or an id"
        )
    odd = [text for _, text in texts if not isinstance(_cell(path, feature.name, text.replace(",", "")), float)]
    if not texts or 2 * len(odd) >= present:
        return _blanks(path, feature, values)
    row, text = next(((row, text) for row, text in texts if text in odd[:1]), texts[0])
    mend = "" if odd else ": write a decimal point, and no separators of thousands"
    return (
        f"column {feature.name} was taken for labels, though most of its {present:,} values are numbers: "
        f"row {row} holds {text[:40]!r}{mend}"
    )


def _blanks(path: Path, feature: Feature, values: Sequence[Any]) -> str:
    """What to say of words among labels that mean no value: they may be labels, too."""
    found = Counter(value for value in values if isinstance(value, str) and value and value in means_missing(path))
    told = ", ".join(f"{n:,} cells {word!r}" for word, n in found.most_common())
    return (
        f"{told} of column {feature.name} were taken for missing: where they are labels, configure them" if told else ""
    )


def _known(path: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise TableError(f"{path}: no column {', '.join(unknown)}; there are {', '.join(names)}")


def _unnamed(found: Mapping[str, Any]) -> bool:
    return list(found) == [feature.name for feature in default_features(len(found))]


def _infer(path: Path, name: str, values: Sequence[Any]) -> Feature:
    """Numeric, or categorical if there is any text or boolean; of many texts nobody learns anything."""
    cells = [_cell(path, name, value) for value in values]
    texts = {str(cell) for cell in cells if isinstance(cell, (str, bool))}
    if not texts:
        return Feature(name)
    labels = {str(value) for value, cell in zip(values, cells, strict=True) if cell is not None}
    if len(labels) > MAX_LABELS:
        raise TableError(
            f"{path}: column {name} holds {len(labels):,} different values, and text such as {min(texts)[:40]!r}: "
            "correct it if it is numeric, else leave it out (--columns)"
        )
    return Feature(name, "categorical", tuple(sorted(labels)))


def _column(path: Path, feature: Feature, values: Sequence[Any]) -> Array:
    """As a payload's column, but that a file's text may be a number."""
    known = frozenset(feature.categories)
    cells = [_cell(path, feature.name, value, known) for value in values]
    try:
        return np.array(Labels(feature).of(cells))
    except InvalidEvent:
        row, text = next((i, cell) for i, cell in enumerate(cells, 1) if isinstance(cell, str))
        raise TableError(f"{path}: row {row}, column {feature.name}: {text[:40]!r} where a number belongs") from None


def _cell(path: Path, name: str, value: Any, known: Container[str] = ()) -> float | str | bool | None:
    """The value as a label that is known, a number, a boolean, or text."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value in known):
        return value
    if isinstance(value, str) and value in means_missing(path):
        return None
    if isinstance(value, (list, dict)):
        raise TableError(f"{path}: column {name} holds lists or objects; a column has one value a row")
    if isinstance(value, str) and "_" in value:  # which Python takes in numbers, and nobody else does
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
