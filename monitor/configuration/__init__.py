"""Reads the configuration file: YAML, overridden by the environment, checked whole, every mistake with its line."""

from monitor.configuration.loading import Report, check, examine, load, load_unfitted, with_flags
from monitor.configuration.mistakes import ConfigurationError, Mistake, unknown_name

__all__ = [
    "ConfigurationError",
    "Mistake",
    "Report",
    "check",
    "examine",
    "load",
    "load_unfitted",
    "unknown_name",
    "with_flags",
]
