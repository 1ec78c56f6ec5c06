"""Exchanges to records: CloudEvents in Kafka's binary mode, headers by hand (the SDK costs ten times as much).

Types are KServe's or Seldon's, so that existing triggers and consumers work. Each event has an id of its own; what
joins request and response is ``requestid``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import orjson

from monitor.capture.bodies import WITHHELD, Bodies
from monitor.capture.choosing import Chooser
from monitor.capture.claims import Claims
from monitor.capture.exchange import WANTED, Exchange, Memory, Message, ShortWay
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.redaction import LENGTH, Redactor
from monitor.capture.route import SIDES, Side, attribute
from monitor.codecs import combined
from sinks.records import Record

STREAMS = ("text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl")
"""Content types of responses that are of use up to wherever they end."""

_LEFT = ("incomplete", "reset", "shutdown")
_EVENTS = {side: sample("events_total", side=side) for side in SIDES}


class Recorder(Chooser):
    """Makes the configured events of what a parser finds, and counts what it leaves out.

    Parameters
    ----------
    plan : types, names, caps, rules.
    put : takes each record.
    counters : where events, skipped requests, cuts and discarded messages are counted.
    offset : seconds from the frames' clock to the epoch, now.
    key : of hashes of redacted values.
    claims : where large bodies go; ``None``: they stay in their events.
    """

    def __init__(
        self,
        plan: Shipping,
        put: Callable[[Record], None],
        counters: Counters,
        offset: Callable[[], float],
        key: bytes = b"",
        claims: Claims | None = None,
    ) -> None:
        super().__init__(plan, Redactor(plan.redact, plan.columns, key) if plan.redact else None, counters)
        self.memory = Memory(plan.held)
        self.short: ShortWay | None = None
        self.max_body = plan.max_body
        self.wanted = WANTED | {name.encode() for name in plan.headers}
        self._put, self._offset, self._claims = put, offset, claims
        self._told = plan.headers
        self._bodies = Bodies(plan, counters) if plan.inflate or plan.redact else None
        self._by_request = plan.key == "request"
        self._second, self._written = -1, ""

    def request(self, exchange: Exchange) -> None:
        """The request is complete: unless events are combined, its event does not wait for the response."""
        if exchange.request.told:
            return
        if not exchange.request.wanted:
            exchange.request.body.drop()
        elif exchange.kind == "feedback":
            self._emit(exchange, exchange.request, "feedback")
        elif not self._combined:
            self._emit(exchange, exchange.request, "request")
        elif exchange.response.done:
            self._emit_both(exchange)
        else:
            exchange.held = True

    def response(self, exchange: Exchange) -> None:
        """The response is complete. What a feedback call answers says nothing."""
        if exchange.response.told:
            return
        if not exchange.response.wanted:
            exchange.response.body.drop()
        elif not self._combined:
            self._emit(exchange, exchange.response, "response")
        elif exchange.request.done:
            self._emit_both(exchange)

    def capped(self, exchange: Exchange, message: Message) -> None:
        """The event of a body without a length does not wait for its end, which may never come."""
        message.done = True
        if message is exchange.request:
            self.request(exchange)
        else:
            self.response(exchange)

    def discard(self, exchange: Exchange, reason: str) -> None:
        """Count the messages that would have become events, as far as they had begun.

        A stream that a client leaves becomes an event all the same, marked as truncated. In combined mode the message
        that is complete becomes an event without the other.
        """
        request, response = exchange.request, exchange.response
        known = bool(exchange.method)  # else the request's head is incomplete: it may have been anything
        if known and exchange.kind is None:
            return
        if reason in _LEFT and response.wanted and not response.done and _is_stream(exchange):
            response.body.cut = response.body.cut or "incomplete"
            self.capped(exchange, response)
        lost = int(not request.done and (request.wanted if known else self._requests))
        lost += int(response.started > 0 and response.wanted and not response.done)
        self._counters[sample("discarded_messages_total", reason=reason)] += lost
        if exchange.held or (self._combined and response.wanted and response.done and not response.told):
            self._emit_both(exchange)

    def _emit(self, exchange: Exchange, message: Message, side: Side) -> None:
        message.told = True
        if exchange.model:
            exchange.route = self._routes[exchange.path, exchange.model]
        ended = message.ended + self._offset()
        headers = self._headers(exchange, side, ended)
        if self._bodies is None:
            self._describe(headers, message)
            body = message.body.take()
        else:
            body = self._part(headers, exchange, message, side)
        if side == "response":
            self._answered(headers, exchange)
        self._counters[_EVENTS[side]] += 1
        if self._claims is not None:
            body = self._claims.check(headers, body)
        self._put(Record(headers["ce_partitionkey"], headers, body, ended))

    def _emit_both(self, exchange: Exchange) -> None:
        """One event of both messages, or of the one that is complete."""
        exchange.held = False
        request, response = exchange.request, exchange.response
        request.told = response.told = True
        if exchange.model:
            exchange.route = self._routes[exchange.path, exchange.model]
        ended = max(request.ended, response.ended) + self._offset()
        headers = self._headers(exchange, "exchange", ended)
        if response.done:
            self._answered(headers, exchange)
        parts: list[combined.Part | None] = [None, None]
        for i, message in enumerate((request, response)):
            if message.done:
                told: dict[str, str] = {}
                body = self._part(told, exchange, message, ("request", "response")[i])
                parts[i] = (told, body)
                if headers.get("ce_redacted") != WITHHELD:
                    headers |= {name: told[name] for name in ("ce_truncated", "ce_redacted") if name in told}
        body = combined.join(*parts)
        self._counters[_EVENTS["exchange"]] += 1
        if self._claims is not None:
            body = self._claims.check(headers, body)
        self._put(Record(headers["ce_partitionkey"], headers, body, ended))

    def _headers(self, exchange: Exchange, side: Side, ended: float) -> dict[str, str]:
        headers = {
            **exchange.route.headers[side],  # type: ignore[union-attr]  # begin() gave it one
            "ce_id": self.identity(),
            "ce_time": self._time(ended),
            "ce_requestid": exchange.request_id,
            "ce_method": exchange.method,
        }
        if self._by_request:
            headers["ce_partitionkey"] = exchange.request_id
        asked = exchange.request.headers
        if "traceparent" in asked:
            headers["ce_traceparent"] = attribute(asked["traceparent"])
            if "tracestate" in asked:  # W3C: of no meaning alone
                headers["ce_tracestate"] = attribute(asked["tracestate"])
        return headers

    def _part(self, headers: dict[str, str], exchange: Exchange, message: Message, side: Side) -> bytes:
        """The message's body, ready to be sent; ``headers`` gain what there is to say of it."""
        assert exchange.route is not None
        secrets = exchange.route.secrets
        if secrets is not None and side == "response" and self._redactor is not None:
            self._redactor.redact_headers(secrets[side].headers, message.headers)
        self._describe(headers, message)
        body = message.body.take()
        if self._bodies is None:
            return body
        return self._bodies.ready(headers, body, secrets[side].bodies if secrets is not None else None)

    def _describe(self, headers: dict[str, str], message: Message) -> None:
        """What the message's own headers say, and whether its body is whole."""
        own = message.headers
        if "content-type" in own:
            headers["content-type"] = own["content-type"]
        if "content-encoding" in own:
            headers["ce_contentencoding"] = own["content-encoding"]
        if "grpc-status" in own:
            headers["ce_grpcstatus"] = own["grpc-status"]
        if "grpc-message" in own:
            headers["ce_grpcmessage"] = attribute(own["grpc-message"])
        if LENGTH in own:
            headers[LENGTH] = own[LENGTH]
        if self._told and (told := {name: [attribute(own[name])] for name in self._told if name in own}):
            headers["ce_metadata"] = orjson.dumps(told).decode()
        if message.body.cut:
            headers["ce_truncated"] = "true"
            self._counters[sample("truncated_total", reason=message.body.cut)] += 1

    def _answered(self, headers: dict[str, str], exchange: Exchange) -> None:
        headers["ce_status"] = str(exchange.status)
        seconds = exchange.response.ended - exchange.request.started
        headers["ce_latencyms"] = f"{seconds * 1000:.3f}" if seconds > 0.0 else "0.000"

    def _time(self, moment: float) -> str:
        """RFC 3339 in UTC, with microseconds; the second is written once."""
        second = int(moment)
        if second != self._second:
            written = datetime.fromtimestamp(second, timezone.utc).isoformat()
            self._second, self._written = second, written[: -len("+00:00")]
        return f"{self._written}.{int((moment - second) * 1e6):06d}Z"


def _is_stream(exchange: Exchange) -> bool:
    """Whether a response has begun that is one."""
    media_type = exchange.response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return exchange.status >= 200 and media_type in STREAMS
