"""Exchanges to records: CloudEvents in Kafka's binary mode, headers by hand (the SDK costs ten times as much).

Types are KServe's or Seldon's, so that existing triggers and consumers work. Each event has an id of its own; what
joins request and response is ``requestid``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count

from monitor.capture.exchange import Exchange, Memory, Message
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.route import SIDES, Route, Routes, Side, attribute
from monitor.capture.sampling import place
from monitor.capture.selection import asks_to_skip, selector
from monitor.codecs import combined
from sinks.base import Record

_LENGTH = "inference-header-content-length"
_EVENTS = {side: sample("events_total", side=side) for side in SIDES}
_SAMPLED_OUT = {side: sample("sampled_out_total", side=side) for side in SIDES}
_SKIPPED_SAMPLED = sample("skipped_total", reason="sampled")


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
        self._put, self._counters, self._offset = put, counters, offset
        self._select = selector(plan.include, plan.exclude)
        self._routes = Routes(plan)
        self._requests, self._responses = plan.mode != "response", plan.mode != "request"
        self._combined = plan.combined
        self._run = os.urandom(8).hex()
        self._next = count()
        self._second, self._written = -1, ""

    def begin(self, exchange: Exchange) -> None:
        """Decide whether the exchange is captured, which of it, and how its events are joined."""
        headers = exchange.request.headers
        exchange.kind, reason = self._select(exchange.method, exchange.path)
        if (
            exchange.kind is not None
            and "seldon-skip-logging" in headers
            and asks_to_skip(headers["seldon-skip-logging"])
        ):
            exchange.kind, reason = None, "header"
        if exchange.kind is None:
            assert reason is not None
            self._counters[sample("skipped_total", reason=reason)] += 1
            return
        exchange.route = route = self._routes[exchange.path]
        given = headers.get("x-request-id") or headers.get("ce-id") or ""
        exchange.request_id = attribute(given) or self._identity()
        feedback = exchange.kind == "feedback"
        exchange.request.wanted = feedback or self._requests
        exchange.response.wanted = not feedback and self._responses
        if route.rates is not None:
            self._sample(exchange, route)

    def request(self, exchange: Exchange) -> None:
        """The request is complete: unless events are combined, its event does not wait for the response."""
        if exchange.kind == "feedback":
            self._emit(exchange, exchange.request, "feedback")
        elif not exchange.request.wanted:
            exchange.request.body.drop()
        elif not self._combined:
            self._emit(exchange, exchange.request, "request")
        elif exchange.response.done:
            self._emit_both(exchange)
        else:
            exchange.held = True

    def response(self, exchange: Exchange) -> None:
        """The response is complete. What a feedback call answers says nothing."""
        if not exchange.response.wanted:
            exchange.response.body.drop()
        elif not self._combined:
            self._emit(exchange, exchange.response, "response")
        elif exchange.request.done:
            self._emit_both(exchange)

    def discard(self, exchange: Exchange, reason: str) -> None:
        """Count the messages that would have become events, as far as they had begun.

        In combined mode the one that is complete becomes an event without the other.
        """
        request, response = exchange.request, exchange.response
        known = bool(exchange.method)  # else the request's head is incomplete: it may have been anything
        if known and exchange.kind is None:
            return
        lost = int(not request.done and (request.wanted if known else self._requests))
        lost += int(response.started > 0 and response.wanted and not response.done)
        self._counters[sample("discarded_messages_total", reason=reason)] += lost
        if exchange.held or (self._combined and response.wanted and response.done):
            self._emit_both(exchange)

    def _sample(self, exchange: Exchange, route: Route) -> None:
        assert route.rates is not None
        at = place(exchange.request_id)
        request, response = exchange.request, exchange.response
        sides: tuple[tuple[Side, tuple[Message, ...]], ...]
        if exchange.kind == "feedback":
            sides = (("feedback", (request,)),)
        elif self._combined:
            sides = (("exchange", (request, response)),)
        else:
            sides = (("request", (request,)), ("response", (response,)))
        for side, messages in sides:
            if messages[0].wanted and at >= route.rates[side]:
                self._counters[_SAMPLED_OUT[side]] += 1
                for message in messages:
                    message.wanted = False
        if not (request.wanted or response.wanted):
            exchange.kind = None
            self._counters[_SKIPPED_SAMPLED] += 1

    def _emit(self, exchange: Exchange, message: Message, side: Side) -> None:
        ended = message.ended + self._offset()
        headers = self._headers(exchange, side, ended)
        self._describe(headers, message)
        if side == "response":
            self._answered(headers, exchange)
        assert exchange.route is not None
        self._counters[_EVENTS[side]] += 1
        self._put(Record(exchange.route.key, headers, message.body.take(), ended))

    def _emit_both(self, exchange: Exchange) -> None:
        """One event of both messages, or of the one that is complete."""
        exchange.held = False
        request, response = exchange.request, exchange.response
        ended = max(request.ended, response.ended) + self._offset()
        headers = self._headers(exchange, "exchange", ended)
        if response.done:
            self._answered(headers, exchange)
        parts = [self._part(message) if message.done else None for message in (request, response)]
        if any(part is not None and "ce_truncated" in part[0] for part in parts):
            headers["ce_truncated"] = "true"
        assert exchange.route is not None
        self._counters[_EVENTS["exchange"]] += 1
        self._put(Record(exchange.route.key, headers, combined.join(*parts), ended))

    def _part(self, message: Message) -> combined.Part:
        told: dict[str, str] = {}
        self._describe(told, message)
        return told, message.body.take()

    def _headers(self, exchange: Exchange, side: Side, ended: float) -> dict[str, str]:
        assert exchange.route is not None
        headers = {
            **exchange.route.headers[side],
            "ce_id": self._identity(),
            "ce_time": self._time(ended),
            "ce_requestid": exchange.request_id,
            "ce_method": exchange.method,
        }
        asked = exchange.request.headers
        for name in ("traceparent", "tracestate"):
            if name in asked:
                headers["ce_" + name] = attribute(asked[name])
        return headers

    def _describe(self, headers: dict[str, str], message: Message) -> None:
        """What the message's own headers say of its body, and whether it is whole."""
        own = message.headers
        if "content-type" in own:
            headers["content-type"] = own["content-type"]
        if "content-encoding" in own:
            headers["ce_contentencoding"] = own["content-encoding"]
        if _LENGTH in own:
            headers[_LENGTH] = own[_LENGTH]
        if message.body.cut:
            headers["ce_truncated"] = "true"
            self._counters[sample("truncated_total", reason=message.body.cut)] += 1

    def _answered(self, headers: dict[str, str], exchange: Exchange) -> None:
        headers["ce_status"] = str(exchange.status)
        headers["ce_latencyms"] = f"{max(exchange.response.ended - exchange.request.started, 0.0) * 1000:.3f}"

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
