"""Where findings go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from monitor.settings.quantities import Duration
from monitor.settings.section import Conflict, Section, exactly_one
from monitor.settings.values import Flag, Name, Text, Url, Whole


class StoreSink(Section):
    """Findings in an SQLite file, which the status page reads."""

    type: Literal["store"]
    name: Name = Field(default="store", description="What monitors call it.")
    path: Text = Field(default=".offpath/findings.db", description="The file.")
    keep: Whole = Field(default=100_000, ge=1, description="Findings kept; the oldest go first.")


class PrometheusSink(Section):
    """Findings as metrics, at /metrics of the worker."""

    type: Literal["prometheus"]
    name: Name = Field(default="prometheus", description="What monitors call it.")


class JsonLinesSink(Section):
    """Findings as JSON, one a line."""

    type: Literal["jsonlines"]
    name: Name = Field(default="jsonlines", description="What monitors call it.")
    path: Text = Field(description="File to append to, or '-' for standard output.")


class CloudEventsSink(Section):
    """Findings as CloudEvents: to an HTTP receiver (``url``) or to a topic of the transport (``topic``)."""

    model_config = ConfigDict(json_schema_extra=exactly_one("url", "topic"))

    type: Literal["cloudevents"]
    name: Name = Field(default="cloudevents", description="What monitors call it.")
    url: Url | None = Field(default=None, description="Receiver, http:// or https://.")
    topic: Name | None = Field(default=None, description="Topic of the transport, other than its own.")
    source: str = Field(default="offpath", description="The events' source attribute.")
    timeout: Duration = Field(default="10s", description="Of one call to the receiver.")
    only_alarms: Flag = Field(default=False, description="Leave out findings that are no alarm.")

    def conflicts(self) -> Iterator[Conflict]:
        """Two destinations, or none."""
        if (self.url is None) == (self.topic is None):
            yield Conflict("give either url or topic", ("url", "topic"))


SinkSettings = Annotated[StoreSink | PrometheusSink | JsonLinesSink | CloudEventsSink, Field(discriminator="type")]
