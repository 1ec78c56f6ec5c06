"""Are the labels of a reference the configured categories?"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.configuration.mistakes import nearest
from monitor.strangers import Strangers

SHOWN = 5
"""Examples in a warning."""


def none_known(found: Strangers, file: str) -> tuple[str, str]:
    """What is wrong with a column of which no value is a category, and the category most like its values."""
    holds = ", ".join(found.examples)
    return f"no value of the column in {file} is one of them; it holds {holds}", likely(found)


def some_unknown(found: Strangers, file: str) -> str:
    """A warning of values that the detector will take for one more category."""
    examples = ", ".join(map(repr, found.examples[:SHOWN]))
    near = likely(found)
    hint = f"; is {near!r} meant?" if near else ""
    return (
        f"column {found.feature.name} of {file}: {found.n:,} of {found.present:,} values are none of its categories, "
        f"such as {examples}{hint}"
    )


def judged(strangers: Sequence[Strangers], file: str) -> tuple[list[str], list[str]]:
    """Mistakes and warnings of a reference that a detector is to be fitted on."""
    mistakes, warnings = [], []
    for found in strangers:
        if found.everybody:
            what, near = none_known(found, file)
            known = ", ".join(found.feature.categories) or "none"
            hint = f'; did you mean "{near}"?' if near else ""
            mistakes.append(f"column {found.feature.name}: its categories are {known}, but {what}{hint}")
        else:
            warnings.append(some_unknown(found, file))
    return mistakes, warnings


def likely(found: Strangers) -> str:
    """The category most like one of the values, or ``""``."""
    near = (nearest(text, found.feature.categories) for text in found.examples)
    return next(filter(None, near), "")
