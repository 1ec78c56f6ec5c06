"""What all parts of the configuration are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def exactly_one(*keys: str) -> dict[str, Any]:
    """JSON Schema of a section that holds one of these keys; a null is as good as none."""
    return {"oneOf": [{"required": [key], "properties": {key: {"not": {"type": "null"}}}} for key in keys]}


def given(section: Section, keys: Sequence[str]) -> list[str]:
    """Which of the keys hold something."""
    return [key for key in keys if getattr(section, key) is not None]
