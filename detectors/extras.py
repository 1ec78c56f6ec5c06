"""Packages beyond the core's, imported when a detector needs them."""

from __future__ import annotations

import importlib
from typing import Any

from detectors.base import DetectorError

LICENCE = "Business Source Licence 1.1: production use only for non-profit educational institutions"


def how_to_have(package: str) -> str:
    """What to do about a package that a detector needs and that is not there.

    >>> how_to_have("torch")
    'needs torch: pip install "offpath[torch]"'
    """
    if package == "alibi_detect":
        return (
            'needs alibi-detect: pip install "offpath[alibi]", in an environment of its own with numpy below 2 '
            f"({LICENCE})"
        )
    return f'needs {package}: pip install "offpath[{package}]"'


def need(module: str, detector_type: str) -> Any:
    """The module, of a package that an extra installs.

    Raises
    ------
    DetectorError : it is not installed; the message says how to have it.

    >>> need("json.tool", "GMM").__name__
    'json.tool'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise DetectorError(f"{detector_type} {how_to_have(package)}") from None
