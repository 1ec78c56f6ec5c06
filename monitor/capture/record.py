"""Exchanges to records: CloudEvents in Kafka's binary mode, headers by hand (the SDK costs ten times as much).

Types are KServe's or Seldon's, so that existing triggers and consumers work. Each event has an id of its own; what
joins request and response is ``requestid``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count
from typing import Literal

from monitor.capture.exchange import Exchange, Memory, Message
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.selection import asks_to_skip, select
from monitor.events import model_from_path
from sinks.base import Record

Side = Literal["request", "response", "feedback"]

TYPES = {
    "kserve": ("org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"),
    "seldon": ("io.seldon.serving.inference.request", "io.seldon.serving.inference.response"),
}
FEEDBACK = "io.seldon.serving.feedback"

LONGEST_ATTRIBUTE = 256
"""Characters of a client's header that an attribute takes over."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LENGTH = "inference-header-content-length"
_EVENTS = {side: sample("events_total", side=side) for side in ("request", "response", "feedback")}


class Recorder:
    """Makes the configured events of what a parser finds, and counts what it leaves out.

    Parameters
    ----------
    plan : types, names, caps.
    put : takes each record.
    counters : where events, skipped requests, cuts and discarded messages are counted.
    offset : seconds from the frames' clock to the epoch, now.
    """

    def __init__(
        self, plan: Shipping, put: Callable[[Record], None], counters: Counters, offset: Callable[[], float]
    ) -> None:
        self.memory = Memory(plan.held)
        self.max_body = plan.max_body
        self._plan, self._put, self._counters, self._offset = plan, put, counters, offset
        self._sides = ("request", "response") if plan.mode == "all" else (plan.mode,)
        self._types = dict(zip(("request", "response"), TYPES[plan.types], strict=True))
        self._names: dict[tuple[str, Side], tuple[str, dict[str, str]]] = {}
        self._run = os.urandom(8).hex()
        self._next = count()
        self._second, self._written = -1, ""

    def begin(self, exchange: Exchange) -> None:
        """Decide whether the exchange is captured, and how its events are joined."""
        headers = exchange.request.headers
        exchange.kind, reason = select(exchange.method, exchange.path)
        if exchange.kind is not None and asks_to_skip(headers.get("seldon-skip-logging", "")):
            exchange.kind, reason = None, "header"
        if exchange.kind is None:
            assert reason is not None
            self._counters[sample("skipped_total", reason=reason)] += 1
            return
        given = headers.get("x-request-id") or headers.get("ce-id") or ""
        exchange.request_id = _attribute(given) or self._identity()

    def request(self, exchange: Exchange) -> None:
        """The request is complete: its event does not wait for the response."""
        if exchange.kind == "feedback":
            self._emit(exchange, exchange.request, "feedback")
        elif exchange.kind is not None and "request" in self._sides:
            self._emit(exchange, exchange.request, "request")
        else:
            exchange.request.body.drop()

    def response(self, exchange: Exchange) -> None:
        """The response is complete. What a feedback call answers says nothing."""
        if exchange.kind == "inference" and "response" in self._sides:
            self._emit(exchange, exchange.response, "response")
        else:
            exchange.response.body.drop()

    def discard(self, exchange: Exchange, reason: str) -> None:
        """Count the messages that would have become events, as far as they had begun."""
        known = bool(exchange.method)  # else the request's head is incomplete: it may have been anything
        if known and exchange.kind is None:
            return
        lost = int(not exchange.request.done and (exchange.kind == "feedback" or "request" in self._sides))
        response = exchange.response
        lost += int(exchange.kind == "inference" and response.started > 0 and "response" in self._sides)
        self._counters[sample("discarded_messages_total", reason=reason)] += lost

    def _emit(self, exchange: Exchange, message: Message, side: Side) -> None:
        key, fixed = self._fixed(exchange.path, side)
        ended = message.ended + self._offset()
        headers = {
            **fixed,
            "ce_id": self._identity(),
            "ce_time": self._time(ended),
            "ce_requestid": exchange.request_id,
            "ce_method": exchange.method,
        }
        self._describe(headers, exchange, message)
        if side == "response":
            headers["ce_status"] = str(exchange.status)
            headers["ce_latencyms"] = f"{max(message.ended - exchange.request.started, 0.0) * 1000:.3f}"
        if message.body.cut:
            headers["ce_truncated"] = "true"
            self._counters[sample("truncated_total", reason=message.body.cut)] += 1
        self._counters[_EVENTS[side]] += 1
        self._put(Record(key, headers, message.body.take(), ended))

    def _describe(self, headers: dict[str, str], exchange: Exchange, message: Message) -> None:
        """What the message's own headers say of its body, and the request's trace."""
        own = message.headers
        if "content-type" in own:
            headers["content-type"] = own["content-type"]
        if "content-encoding" in own:
            headers["ce_contentencoding"] = own["content-encoding"]
        if _LENGTH in own:
            headers[_LENGTH] = own[_LENGTH]
        asked = exchange.request.headers
        for name in ("traceparent", "tracestate"):
            if name in asked:
                headers["ce_" + name] = _attribute(asked[name])

    def _fixed(self, path: str, side: Side) -> tuple[str, dict[str, str]]:
        """The key and the attributes that every event of this path and side has."""
        found = self._names.get((path, side))
        if found is None:
            found = self._fix(path, side)
            if len(self._names) < 4096:  # paths are the clients' to choose
                self._names[path, side] = found
        return found

    def _fix(self, path: str, side: Side) -> tuple[str, dict[str, str]]:
        plan = self._plan
        model = _attribute(model_from_path(path)) or plan.model
        key = f"{plan.namespace}/{model}"
        headers = {
            "ce_specversion": "1.0",
            "ce_source": plan.source,
            "ce_type": FEEDBACK if side == "feedback" else self._types[side],
            "ce_partitionkey": key,
            "ce_namespace": plan.namespace,
            "ce_path": _attribute(path),
        }
        if model:
            headers |= {"ce_modelid": model, "ce_inferenceservicename": model}
        if plan.endpoint:
            headers["ce_endpoint"] = plan.endpoint
        return key, headers

    def _identity(self) -> str:
        """Unique: 64 random bits a process, and a number."""
        return f"{self._run}-{next(self._next):x}"

    def _time(self, moment: float) -> str:
        """RFC 3339 in UTC, with microseconds; the second is written once."""
        second = int(moment)
        if second != self._second:
            written = datetime.fromtimestamp(second, timezone.utc).isoformat()
            self._second, self._written = second, written[: -len("+00:00")]
        return f"{self._written}.{int((moment - second) * 1e6):06d}Z"


def _attribute(text: str) -> str:
    """A client's text as a CloudEvents attribute: no control characters, not longer than others will take."""
    text = text.strip()
    if len(text) <= LONGEST_ATTRIBUTE and text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", text)[:LONGEST_ATTRIBUTE]
