"""What the sidecar captures of the traffic, and what of it must not leave: sampling and redaction."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from monitor.settings.section import Section

_TARGETS = ("header", "pointer", "tensor", "column")


class SampleRuleSettings(Section):
    """The sampling rate of some models, or of one side of them."""

    model: str = Field(default="*", description="Model name in the path; `*` and `?` are wildcards.")
    side: Literal["request", "response"] | None = Field(default=None, description="Default: both.")
    rate: float = Field(ge=0.0, le=1.0, description="Share that is captured, 0 to 1.")


class RedactRuleSettings(Section):
    """What must not leave: exactly one of ``header``, ``pointer``, ``tensor`` or ``column``."""

    header: str | None = Field(default=None, description="Name of a header that events take over.")
    pointer: str | None = Field(default=None, description="JSON pointer into the body; `*` is any member or element.")
    tensor: str | None = Field(default=None, description="Name of a tensor: an input, an output, `instances`.")
    column: str | None = Field(default=None, description="Name of a column, of the payload or of the model.")
    action: Literal["drop", "mask", "hash"] = Field(description="Take it out, make it `***` or null, or a keyed hash.")
    model: str = Field(default="*", description="Model name in the path; `*` and `?` are wildcards.")
    side: Literal["request", "response"] | None = Field(default=None, description="Default: both.")

    @property
    def target(self) -> tuple[str, str]:
        """What kind of thing is meant, and its name."""
        for kind in _TARGETS:
            if (name := getattr(self, kind)) is not None:
                return kind, name
        return "", ""

    @model_validator(mode="after")
    def _one_target(self) -> RedactRuleSettings:
        given = [kind for kind in _TARGETS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_TARGETS)} (given: {', '.join(given) or 'none'})")
        if not self.target[1]:
            raise ValueError(f"{given[0]} is empty")
        if self.pointer is not None and not re.fullmatch(r"(/([^~]|~[01])*)+", self.pointer):
            raise ValueError(
                "a JSON pointer begins with /, for example /instances/*/name; ~ is written ~0, and / within a name ~1"
            )
        return self
