"""Which monitors an event goes to: models match events, feeds pick what their monitors judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

import numpy as np

from detectors.base import Array
from monitor.codecs.base import Tensors
from monitor.events import PayloadEvent
from monitor.findings import MonitorSpec

MAX_ROUTES = 4096
"""Different (namespace, model, endpoint, source) whose routes are remembered: senders choose them, memory is ours."""


class Columns(Protocol):
    """Picks a monitor's columns out of a payload: see :class:`monitor.columns.Columns`."""

    def rows(self, tensors: Tensors) -> Array: ...


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """One selection of one model's traffic and the monitors that judge it; decoded once for all of them."""

    request: Columns | None
    response: Columns | None
    monitors: tuple[MonitorSpec, ...]
    width: int = field(init=False)
    """Columns that its monitors' detectors were fitted on; 0 if they take any."""
    coded: list[int] = field(init=False)
    """The categorical ones among them."""
    levels: Array = field(init=False)
    """How many categories each of these has; infinitely many where none are named."""

    def __post_init__(self) -> None:
        features = max((spec.features for spec in self.monitors), key=len, default=())
        object.__setattr__(self, "width", len(features))
        coded = [i for i, feature in enumerate(features) if feature.kind == "categorical"]
        object.__setattr__(self, "coded", coded)
        object.__setattr__(self, "levels", np.array([len(features[i].categories) or np.inf for i in coded]))

    @property
    def names(self) -> str:
        return ", ".join(spec.name for spec in self.monitors)

    @property
    def summed(self) -> bool:
        """Whether its monitors' windows are to be merged with those of other partitions; all of them, or none."""
        return any(spec.summariser is not None for spec in self.monitors)

    @property
    def joined(self) -> bool:
        return self.request is not None and self.response is not None


@dataclass(frozen=True, slots=True, eq=False)
class ModelRoute:
    """Which events belong to a model (wildcards; ``None`` matches all), and what is asked of them."""

    name: str
    namespace: str
    match: Mapping[str, str]
    protocol: str
    feeds: tuple[Feed, ...]

    def matches(self, event: PayloadEvent) -> bool:
        return all(fnmatchcase(getattr(event, name), pattern) for name, pattern in self.match.items())


class Target(NamedTuple):
    """A model, and its feeds that take the side of the event."""

    route: ModelRoute
    feeds: tuple[tuple[Feed, Columns], ...]


class Router:
    """Finds the models of an event; remembers what it found."""

    def __init__(self, routes: Sequence[ModelRoute]) -> None:
        self._routes = tuple(routes)
        self._known: dict[tuple[str, ...], tuple[Target, ...]] = {}

    def targets(self, event: PayloadEvent) -> tuple[Target, ...]:
        """The models that the event belongs to."""
        key = (event.namespace, event.model, event.endpoint, event.source, event.side)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_ROUTES:
                self._known.clear()
            found = self._known[key] = tuple(
                Target(route, tuple(_feeds(route, event.side))) for route in self._routes if route.matches(event)
            )
        return found


def _feeds(route: ModelRoute, side: str) -> Iterator[tuple[Feed, Columns]]:
    for feed in route.feeds:
        columns: Columns | None = getattr(feed, side, None)
        if columns is not None:
            yield feed, columns
