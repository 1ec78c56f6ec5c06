"""What is asked of a model: monitors, their windows, detectors and alarms."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from monitor.settings.section import Section
from monitor.settings.values import Duration, Name, parse_duration


class WindowSettings(Section):
    """How rows become windows: exactly one of ``count``, ``time`` or ``sliding``."""

    count: int | None = Field(default=None, ge=1, description="Tumbling windows of so many rows.")
    time: Duration | None = Field(default=None, description="Tumbling windows of so much event time.")
    lateness: Duration = Field(default="0s", description="With time: how late an event may come and still count.")
    max_rows: int = Field(default=100_000, ge=1, description="With time: a window keeps at most so many rows.")
    sliding: int | None = Field(default=None, ge=1, description="The last so many rows, judged every `step` rows.")
    step: int | None = Field(default=None, ge=1, description="With sliding; default: a tenth of it.")

    @model_validator(mode="after")
    def _one_kind(self) -> WindowSettings:
        given = [name for name in ("count", "time", "sliding") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of count, time or sliding (given: {', '.join(given) or 'none'})")
        if self.time is not None and parse_duration(self.time) <= 0:
            raise ValueError("time must be longer than 0")
        return self


class DetectorSettings(Section):
    """A fitted detector: an artefact of ``offpath fit``, or a reference to fit on at start."""

    type: str = Field(description="A detector_type, for example TabularDrift or IForest.")
    artifact: str | None = Field(default=None, description="Directory written by `offpath fit`.")
    reference: str | None = Field(default=None, description="CSV, Parquet or npz file to fit on at start.")
    params: dict[str, Any] = Field(default_factory=dict, description="The detector's own parameters.")

    @model_validator(mode="after")
    def _one_origin(self) -> DetectorSettings:
        if (self.artifact is None) == (self.reference is None):
            raise ValueError("give either artifact or reference")
        return self


class AlarmSettings(Section):
    """When alerts of a windowed monitor become an alarm."""

    consecutive: int = Field(default=1, ge=1, description="So many alerting windows in a row.")
    min_effect_size: float = Field(default=0.0, ge=0.0, description="Smaller effects are no alarm, however certain.")


class MonitorSettings(Section):
    """One question asked of one model's traffic."""

    name: Name
    model: Name = Field(description="Name of a model above.")
    side: Literal["request", "response", "joined"] = Field(
        default="request", description="joined: request and response side by side, paired by request id."
    )
    tensor: str | None = Field(default=None, description="Which tensor of several; default: all, side by side.")
    columns: tuple[str, ...] | None = Field(default=None, description="Which columns; default: all.")
    window: WindowSettings = Field(
        default=WindowSettings(count=1000), description="How rows become windows; default: count: 1000."
    )
    detector: DetectorSettings = Field(description="What judges.")
    alarm: AlarmSettings = Field(default=AlarmSettings(), description="When alerts become an alarm.")
    sinks: tuple[Name, ...] | None = Field(default=None, description="Names of sinks; default: all.")
