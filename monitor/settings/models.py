"""What is watched: models and their columns."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from monitor.settings.section import Section
from monitor.settings.values import Name, Text


class FeatureSettings(Section):
    """One column of a model's input or output."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["categories"], "properties": {"categories": {"minItems": 1}}},
            "then": {"required": ["type"], "properties": {"type": {"const": "categorical"}}},
        }
    )

    name: Text = Field(description="As payloads that name their columns call it.")
    type: Literal["numeric", "categorical"] = Field(default="numeric", description="What its values are.")
    categories: tuple[str, ...] = Field(
        default=(),
        description="Labels of the codes 0, 1, ... of a categorical column.",
        json_schema_extra={"uniqueItems": True},
    )


class MatchSettings(Section):
    """Which events belong to the model. Every given field must match; ``*`` and ``?`` are wildcards."""

    model: Text | None = Field(default=None, description="Model name in the event; default: the model's own name.")
    namespace: Text | None = Field(default=None, description="Namespace in the event.")
    endpoint: Text | None = Field(default=None, description="Endpoint or predictor: default, canary.")
    source: Text | None = Field(default=None, description="CloudEvents source: which sidecar or logger.")


class ModelSettings(Section):
    """One model whose traffic is watched."""

    name: Name
    namespace: Name = Field(default="default", description="Label of its metrics and findings.")
    match: MatchSettings = Field(default=MatchSettings(), description="Which events are the model's.")
    protocol: Literal["auto", "v1", "v2", "seldon"] = Field(
        default="auto", description="auto: what the event, its path or else its body says."
    )
    features: tuple[FeatureSettings, ...] = Field(default=(), description="Columns of the request, in order.")
    outputs: tuple[FeatureSettings, ...] = Field(default=(), description="Columns of the response, in order.")
