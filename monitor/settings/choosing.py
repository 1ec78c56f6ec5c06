"""What the sidecar captures of the traffic, and what of it must not leave: sampling and redaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field

from monitor.settings.section import Conflict, Section, exactly_one, given
from monitor.settings.values import Number, Text

_TARGETS = ("header", "pointer", "tensor", "column")
_POINTER = r"(/([^~]|~[01])*)+"


class SampleRuleSettings(Section):
    """The sampling rate of some models, or of one side of them."""

    model: str = Field(default="*", description="Model name in the path; `*` and `?` are wildcards.")
    side: Literal["request", "response"] | None = Field(default=None, description="Default: both.")
    rate: Number = Field(ge=0.0, le=1.0, description="Share that is captured, 0 to 1.")


class RedactRuleSettings(Section):
    """What must not leave: exactly one of ``header``, ``pointer``, ``tensor`` or ``column``."""

    model_config = ConfigDict(json_schema_extra=exactly_one(*_TARGETS))

    header: Text | None = Field(default=None, description="Name of a header that events take over.")
    pointer: str | None = Field(
        default=None,
        description="JSON pointer into the body; `*` is any member or element.",
        json_schema_extra={"pattern": f"^{_POINTER}$"},
    )
    tensor: Text | None = Field(default=None, description="Name of a tensor: an input, an output, `instances`.")
    column: Text | None = Field(default=None, description="Name of a column, of the payload or of the model.")
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

    def conflicts(self) -> Iterator[Conflict]:
        """Several targets, or none; one that is empty."""
        targets = given(self, _TARGETS)
        if len(targets) != 1:
            words = f"give exactly one of {', '.join(_TARGETS)} (given: {', '.join(targets) or 'none'})"
            yield Conflict(words, _TARGETS)
        for name in targets:
            if not getattr(self, name):
                yield Conflict(f"{name}: is empty", (name,))
        if self.pointer and not re.fullmatch(_POINTER, self.pointer):
            words = (
                "a JSON pointer begins with /, for example /instances/*/name; ~ is written ~0, and / within a name ~1"
            )
            yield Conflict(f"pointer: {words}", ("pointer",))
