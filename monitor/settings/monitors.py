"""What is asked of a model: monitors, their windows, detectors and alarms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from monitor.settings.quantities import Duration, in_words, parse_duration
from monitor.settings.section import Conflict, Section, exactly_one, given
from monitor.settings.values import Flag, Name, Number, Text, Whole

_KINDS = ("count", "time", "sliding")
_ONLY_WITH = {"lateness": "time", "max_rows": "time", "merge": "time", "step": "sliding"}


class WindowSettings(Section):
    """How rows become windows: exactly one of ``count``, ``time`` or ``sliding``."""

    model_config = ConfigDict(
        json_schema_extra={
            **exactly_one(*_KINDS),
            "dependentRequired": {**{key: [kind] for key, kind in _ONLY_WITH.items()}, "sample": ["merge"]},
        }
    )

    count: Whole | None = Field(
        default=None,
        ge=1,
        description="Tumbling windows of so many rows. Detectors that judge row by row (`...Online`) have no windows: "
        "for them a finding every so many rows.",
    )
    time: Duration | None = Field(default=None, description="Tumbling windows of so much event time.")
    lateness: Duration = Field(default="0s", description="With time: how late an event may come and still count.")
    max_rows: Whole = Field(default=100_000, ge=1, description="With time: a window keeps at most so many rows.")
    merge: Flag = Field(
        default=False,
        description="With time: the windows of all partitions are merged and judged as one. [kafka.md](kafka.md) "
        "explains when.",
    )
    sample: Whole = Field(
        default=2000, ge=100, le=100_000, description="With merge: of larger windows so many rows are kept, at random."
    )
    sliding: Whole | None = Field(default=None, ge=1, description="The last so many rows, judged every `step` rows.")
    step: Whole | None = Field(default=None, ge=1, description="With sliding; default: a tenth of it.")

    def conflicts(self) -> Iterator[Conflict]:
        """More than one kind of window, or none; what belongs to another kind."""
        kinds, told = given(self, _KINDS), self.model_fields_set
        if len(kinds) != 1:
            words = f"give exactly one of count, time or sliding (given: {', '.join(kinds) or 'none'})"
            yield Conflict(words, _KINDS)
        for key, kind in _ONLY_WITH.items():
            if key in told and kind not in kinds:
                yield Conflict(f"{key}: has no meaning without {kind}: leave it out", (key, kind))
        if "sample" in told and not self.merge:
            yield Conflict("sample: has no meaning without merge: leave it out", ("sample", "merge"))
        if "max_rows" in told and self.merge and self.time is not None:
            words = "max_rows: has no meaning with merge, which sums up all rows: leave it out, or say sample"
            yield Conflict(words, ("max_rows", "merge"))
        if self.time is not None and parse_duration(self.time) <= 0:
            yield Conflict("time: expected a duration longer than 0", ("time",))
        if self.sliding is not None and self.every > self.sliding:
            words = f"step: expected at most the window's {self.sliding:,} rows; others would not be judged"
            yield Conflict(words, ("sliding", "step"))

    @property
    def every(self) -> int:
        """With ``sliding``: so many rows lie between the ends of two windows."""
        return self.step or max(1, (self.sliding or 1) // 10)

    @property
    def most_rows(self) -> int:
        """The rows of the largest window that there can be."""
        return self.count or self.sliding or self.max_rows

    def __str__(self) -> str:
        """As people say it.

        >>> str(WindowSettings(count=1000)), str(WindowSettings(sliding=1000)), str(WindowSettings(time=300))
        ('windows of 1,000 rows', 'the last 1,000 rows, every 100', 'windows of 300s')
        """
        if self.time is not None:
            return f"windows of {in_words(self.time)}{', of all partitions' if self.merge else ''}"
        if self.sliding is not None:
            return f"the last {self.sliding:,} rows, every {self.every:,}"
        return f"windows of {self.count:,} rows"


class DetectorSettings(Section):
    """A fitted detector: an artefact of ``offpath fit``, or a reference to fit on at start."""

    model_config = ConfigDict(json_schema_extra=exactly_one("artifact", "reference"))

    type: Text = Field(description="A detector_type, for example TabularDrift or IForest.")
    artifact: Text | None = Field(default=None, description="Directory written by `offpath fit`.")
    reference: Text | None = Field(default=None, description="CSV, Parquet, npz or npy file to fit on at start.")
    params: dict[str, Any] = Field(default_factory=dict, description="The detector's own parameters.")
    allow_code: Flag = Field(
        default=False, description="Run a program that params or the artefact name; only if you trust its origin."
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Two origins, or none."""
        if (self.artifact is None) == (self.reference is None):
            yield Conflict("give either artifact or reference", ("artifact", "reference"))


class AlarmSettings(Section):
    """When alerts of a windowed monitor become an alarm."""

    consecutive: Whole = Field(default=1, ge=1, description="So many alerting windows in a row.")
    min_effect_size: Number = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Smaller effects are no alarm, however certain. Effect sizes are 0 to 1 for every detector.",
    )


class MonitorSettings(Section):
    """One question asked of one model's traffic."""

    name: Name
    model: Name = Field(description="Name of a model above.")
    side: Literal["request", "response", "joined"] = Field(
        default="request", description="joined: request and response side by side, paired by request id."
    )
    tensor: Text | None = Field(default=None, description="Which tensor of several; default: all, side by side.")
    columns: Annotated[tuple[str, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})] | None = Field(
        default=None, description="Which columns; default: all."
    )
    window: WindowSettings = Field(
        default=WindowSettings(count=1000), description="How rows become windows; default: count: 1000."
    )
    detector: DetectorSettings = Field(description="What judges.")
    alarm: AlarmSettings = Field(default=AlarmSettings(), description="When alerts become an alarm.")
    sinks: tuple[Name, ...] | None = Field(default=None, description="Names of sinks; default: all.")
