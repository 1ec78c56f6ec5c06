"""Mistakes in how a command was called."""

from __future__ import annotations

import argparse


class UsageError(ValueError):
    """Flags that do not go together, or one whose value is none: exit status 2."""


def host_port(text: str) -> str:
    """An address to listen on, as argparse takes types."""
    from monitor.settings.values import is_address

    if not is_address(text):
        raise argparse.ArgumentTypeError(f"expected host:port, for example 127.0.0.1:9090, got {text!r}")
    return text
