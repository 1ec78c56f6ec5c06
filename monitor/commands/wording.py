"""How commands say numbers."""

from __future__ import annotations


def counted(n: int, thing: str) -> str:
    """How many of what.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
