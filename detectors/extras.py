"""Packages beyond the core's, imported when a detector needs them."""

from __future__ import annotations

import importlib
from typing import Any

from detectors.base import DetectorError


def need(module: str, detector_type: str) -> Any:
    """The module, of a package whose extra has the package's name.

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
        raise DetectorError(f'{detector_type} needs {package}: pip install "offpath[{package}]"') from None
