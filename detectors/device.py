"""torch, and the device that it computes on."""

from __future__ import annotations

from typing import Any

from detectors.base import DetectorError


def import_torch(detector_type: str) -> Any:
    """torch, for a detector of that type.

    Raises
    ------
    DetectorError : it is not installed; the message says how to have it.
    """
    try:
        import torch
    except ImportError:
        raise DetectorError(f'{detector_type} needs torch: pip install "offpath[torch]"') from None
    # The first exp of a process, where two threads share it, is now and then right to 9 digits in one thread's half
    # (MKL chooses its accuracy on first use, unguarded). One element is one thread's work, and makes the choice.
    torch.exp(torch.zeros(1, dtype=torch.float64))
    return torch


def check_device(name: object) -> None:
    """Whether it can be the name of a device; raises :class:`DetectorError`. torch is not needed for this."""
    if not isinstance(name, str):
        raise DetectorError(f"device must be cpu, cuda or auto, got {name!r}")


def find_device(torch: Any, name: str) -> Any:
    """torch's device of that name, ``auto`` a GPU if there is one.

    Raises
    ------
    DetectorError : it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DetectorError(
            f"device must be cpu, auto, or one that torch can use here, got {name!r}: {error}"
        ) from None
    return device
