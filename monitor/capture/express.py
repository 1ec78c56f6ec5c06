"""The short way from bytes to records: of messages that came whole, with heads of a known form, as they are.

That is most of the traffic of a model. What the records of a form have in common is worked out once, by the long way;
of each message only what differs is written: its id, its time, its request id, its latency.
"""

from __future__ import annotations

from collections.abc import Callable
from re import Match
from typing import NamedTuple

from monitor.capture.claims import Claims
from monitor.capture.exchange import Exchange
from monitor.capture.http1_forms import Form, Forms
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.capture.redaction import LENGTH
from monitor.capture.route import LONGEST_ATTRIBUTE, Route, attribute
from sinks.records import Pattern, Patterned, Record

MOST_KNOWN = 1024
"""Forms of requests of which something is known."""

_TRACES = ("traceparent", "tracestate")
_GIVEN = ("ce_requestid", "ce_partitionkey", "ce_traceparent", "ce_tracestate", LENGTH)
_UNLIKE = ("ce_id", "ce_time", "ce_requestid", "ce_latencyms", *_GIVEN[2:])

_REQUESTS, _RESPONSES = sample("events_total", side="request"), sample("events_total", side="response")


class Known(NamedTuple):
    """What is known of requests of one form. ``identity`` is the group of the request id, or 0, ``traces`` the
    groups of its trace context.

    ``answers`` are the patterns of their responses, by the responses' form.
    """

    pattern: Pattern
    route: Route
    identity: int
    traces: tuple[tuple[str, int], ...]
    answers: dict[Form, Pattern]


class Express(Recorder):
    """A recorder that knows the short way, if the plan allows it."""

    def __init__(
        self,
        plan: Shipping,
        put: Callable[[Record], None],
        counters: Counters,
        offset: Callable[[], float],
        key: bytes = b"",
        claims: Claims | None = None,
    ) -> None:
        super().__init__(plan, put, counters, offset, key, claims)
        whole = plan.mode == "all" and plan.sample >= 1.0 and not plan.sample_rules
        plain = whole and not (plan.combined or plan.inflate or plan.redact or plan.headers)
        self.forms = Forms(self.wanted)
        self.short = self if plain else None
        self._known: dict[Form, Known | None] = {}

    def ask(self, form: Form, found: Match[bytes], body: bytes, since: float, now: float) -> Exchange | None:
        """Record a request: an exchange that is complete but for its response, or ``None`` if that takes a parser."""
        try:
            known = self._known[form]
        except KeyError:
            known = self._study(form, found)
        if known is None or len(body) > self.max_body:
            return None
        exchange = Exchange(self.memory)
        exchange.method, exchange.path, exchange.kind = form.method, form.path, "inference"
        exchange.route, exchange.known = known.route, known
        if known.identity:
            given = found[known.identity].decode()
            exchange.request_id = given if len(given) <= LONGEST_ATTRIBUTE else attribute(given)
        else:
            exchange.request_id = f"{self._run}-{next(self._next):x}"
        request = exchange.request
        request.started, request.ended = since, now
        request.wanted = request.done = request.told = exchange.response.wanted = True
        if known.traces:
            request.headers = {name: found[group].decode() for name, group in known.traces}
        self._counters[_REQUESTS] += 1
        self._send(exchange, known.pattern, form, found, body, now)
        return exchange

    def answer(self, exchange: Exchange, form: Form, found: Match[bytes], body: bytes, now: float) -> bool:
        """Record the response of an exchange of :meth:`ask`; false if that takes a parser."""
        known = exchange.known
        if known is None or len(body) > self.max_body:
            return False
        pattern = known.answers.get(form) or self._study_answer(known, exchange, form, found)
        self._counters[_RESPONSES] += 1
        self._send(exchange, pattern, form, found, body, now)
        return True

    def _send(
        self, exchange: Exchange, pattern: Pattern, form: Form, found: Match[bytes], body: bytes, now: float
    ) -> None:
        moment = now + self._offset()
        second = int(moment)
        if second != self._second:
            self._time(moment)
        headers = Patterned(pattern.blank)
        headers.pattern = pattern
        headers["ce_id"] = f"{self._run}-{next(self._next):x}"
        headers["ce_time"] = f"{self._written}.{int((moment - second) * 1e6):06d}Z"
        headers["ce_requestid"] = exchange.request_id
        if form.status:
            latency = now - exchange.request.started
            headers["ce_latencyms"] = f"{latency * 1000:.3f}" if latency > 0.0 else "0.000"
        if self._by_request:
            headers["ce_partitionkey"] = exchange.request_id
        if exchange.request.headers:  # traces
            for name, value in exchange.request.headers.items():
                headers["ce_" + name] = attribute(value)
        if LENGTH in form.groups:
            headers[LENGTH] = found[form.groups[LENGTH]].decode()
        if self._claims is not None:
            body = self._claims.check(headers, body)
        self._put(Record(headers["ce_partitionkey"], headers, body, moment))

    def _study(self, form: Form, found: Match[bytes]) -> Known | None:
        """What is common to requests of a form; ``None``: they go the long way."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        kind, _ = self._select(form.method, form.path)
        route = self._routes[form.path]
        groups = form.groups
        if kind != "inference" or "seldon-skip-logging" in groups:
            self._known[form] = None
            return None
        exchange = Exchange(self.memory)
        exchange.method, exchange.path, exchange.route = form.method, form.path, route
        exchange.request.headers = _headers(form, found)
        told = self._headers(exchange, "request", 0.0)
        self._describe(told, exchange.request)
        identity = groups.get("x-request-id") or groups.get("ce-id") or 0
        traces = tuple((name, groups[name]) for name in _TRACES if name in groups and "traceparent" in groups)
        known = self._known[form] = Known(self._pattern(told), route, identity, traces, {})
        return known

    def _study_answer(self, known: Known, exchange: Exchange, form: Form, found: Match[bytes]) -> Pattern:
        """What is common to responses of a form to requests of one."""
        if len(known.answers) >= MOST_KNOWN:
            known.answers.clear()
        told = self._headers(exchange, "response", 0.0)
        exchange.response.headers, exchange.status = _headers(form, found), form.status
        self._describe(told, exchange.response)
        self._answered(told, exchange)
        pattern = known.answers[form] = self._pattern(told)
        return pattern

    def _pattern(self, told: dict[str, str]) -> Pattern:
        unlike = (*_UNLIKE, "ce_partitionkey") if self._by_request else _UNLIKE
        return Pattern(
            {name: value for name, value in told.items() if name not in unlike},
            [name for name in unlike if name in told],
            [name for name in _GIVEN if name in told and name in unlike],
        )


def _headers(form: Form, found: Match[bytes]) -> dict[str, str]:
    return form.headers | {name: found[group].decode() for name, group in form.groups.items()}
