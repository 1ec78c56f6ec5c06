"""What all events of one path have in common: worked out once, remembered for the next ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from monitor.capture.grpc_methods import protocol_of
from monitor.capture.plan import Shipping
from monitor.capture.redaction import BodyRules, Redactor
from monitor.capture.sampling import attributes, rate_of
from monitor.codecs.combined import COMBINED_TYPE, CONTENT_TYPE
from monitor.events import model_from_path

Side = Literal["request", "response", "feedback", "exchange"]

SIDES: tuple[Side, ...] = ("request", "response", "feedback", "exchange")

TYPES = {
    "kserve": ("org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"),
    "seldon": ("io.seldon.serving.inference.request", "io.seldon.serving.inference.response"),
}
FEEDBACK = "io.seldon.serving.feedback"

LONGEST_ATTRIBUTE = 256
"""Characters of a client's header that an attribute takes over."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Route(NamedTuple):
    """What holds by side. ``rates`` is ``None`` where everything is captured, ``secrets`` where nothing is redacted."""

    model: str
    key: str
    headers: Mapping[Side, dict[str, str]]
    rates: Mapping[Side, float] | None
    secrets: Mapping[Side, Secrets] | None


class Secrets(NamedTuple):
    """What is redacted of a side: its headers, as names and actions, and its bodies."""

    headers: tuple[tuple[str, str], ...]
    bodies: BodyRules | None


class Routes(dict["str | tuple[str, str]", Route]):
    """The routes of paths, or of paths and the models that messages name; made when they are asked for.

    Parameters
    ----------
    plan : names, types, rates.
    redactor : ``None`` if nothing is redacted.
    """

    def __init__(self, plan: Shipping, redactor: Redactor | None) -> None:
        super().__init__()
        self._plan, self._redactor = plan, redactor
        request, response = TYPES[plan.types]
        self._types: Mapping[Side, str] = {
            "request": request,
            "response": response,
            "feedback": FEEDBACK,
            "exchange": COMBINED_TYPE,
        }

    def __missing__(self, key: str | tuple[str, str]) -> Route:
        path, named = (key, "") if isinstance(key, str) else key
        made = self._make(path, named)
        if len(self) < 4096:  # paths and models are the clients' to choose
            self[key] = made
        return made

    def _make(self, path: str, named: str) -> Route:
        plan = self._plan
        model = attribute(model_from_path(path) or named) or plan.model
        key = f"{plan.namespace}/{model}"
        shared = {
            "ce_specversion": "1.0",
            "ce_source": plan.source,
            "ce_partitionkey": key,
            "ce_namespace": plan.namespace,
            "ce_path": attribute(path),
        }
        if model:
            shared |= {"ce_modelid": model, "ce_inferenceservicename": model}
        if protocol := protocol_of(path):
            shared["ce_protocol"] = protocol
        if plan.endpoint:
            shared["ce_endpoint"] = plan.endpoint
        rates = {side: rate_of(plan.sample, plan.sample_rules, model, side) for side in SIDES}
        headers = {side: {**shared, "ce_type": self._types[side], **attributes(rates[side])} for side in SIDES}
        headers["exchange"]["content-type"] = CONTENT_TYPE
        return Route(model, key, headers, None if min(rates.values()) >= 1.0 else rates, self._secrets(model))

    def _secrets(self, model: str) -> Mapping[Side, Secrets] | None:
        redactor = self._redactor
        if redactor is None:
            return None
        return {side: Secrets(redactor.headers(model, side), redactor.bodies(model, side)) for side in SIDES}


def attribute(text: str) -> str:
    """A client's text as a CloudEvents attribute: no control characters, not longer than others will take."""
    text = text.strip()
    if len(text) <= LONGEST_ATTRIBUTE and text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", text)[:LONGEST_ATTRIBUTE]
