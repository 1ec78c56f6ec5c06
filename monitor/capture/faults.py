"""What is logged where an exchange cannot be recorded by a mistake of ours."""

from __future__ import annotations

import logging
import traceback

_logger = logging.getLogger("offpath.capture.shipper")


def report(cause: BaseException | None) -> None:
    """Where it happened, and never what it says: that may be a payload's."""
    where = traceback.extract_tb(cause.__traceback__)[-1] if cause is not None and cause.__traceback__ else None
    place = f" in {where.filename}, line {where.lineno}" if where else ""
    _logger.error("an exchange cannot be recorded: %s%s", type(cause).__name__, place)
