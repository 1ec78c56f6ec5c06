"""Are the columns that reach a detector those that it was fitted on? Names alone do not tell: codes have an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from detectors.base import Feature


class Difference(NamedTuple):
    """One way in which columns are others than at fitting.

    ``column`` is the index of the column, or ``None`` if the columns themselves are others, in which case nothing else
    is told. ``what`` is ``columns``, ``kind`` or ``categories``; ``fitted`` and ``given`` are in words.
    """

    column: int | None
    what: str
    fitted: str
    given: str


def differences(fitted: Sequence[Feature], given: Sequence[Feature]) -> Iterator[Difference]:
    """What a detector fitted on some columns would misread in others; nothing if they agree.

    >>> was, now = Feature("sex", "categorical", ("F", "M")), Feature("sex", "categorical", ("M", "F"))
    >>> list(differences([was], [now]))
    [Difference(column=0, what='categories', fitted='F, M', given='M, F')]
    """
    names, known = [feature.name for feature in given], [feature.name for feature in fitted]
    if names != known:
        yield Difference(None, "columns", _listed(known), _listed(names))
        return
    for i, (was, now) in enumerate(zip(fitted, given, strict=True)):
        if was.kind != now.kind:
            yield Difference(i, "kind", was.kind, now.kind)
        elif was.categories != now.categories:
            yield Difference(i, "categories", _listed(was.categories), _listed(now.categories))


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
