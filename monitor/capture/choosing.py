"""Whether an exchange is captured, which of its messages, and under which request id."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count

from monitor.capture.exchange import Exchange, Message
from monitor.capture.masking import MASK
from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.redaction import Redactor
from monitor.capture.route import SIDES, Route, Routes, Side, attribute
from monitor.capture.sampling import place
from monitor.capture.selection import asks_to_skip, selector

_SAMPLED_OUT = {side: sample("sampled_out_total", side=side) for side in SIDES}
_SKIPPED_SAMPLED = sample("skipped_total", reason="sampled")


class Chooser:
    """Decides when a request's headers are complete; the recorder is one, as a call saved is a call saved.

    Parameters
    ----------
    plan : patterns, sides, rates.
    redactor : of request headers; ``None`` if nothing is redacted.
    counters : where skipped requests and messages left out by sampling are counted.
    """

    def __init__(self, plan: Shipping, redactor: Redactor | None, counters: Counters) -> None:
        self._select = selector(plan.include, plan.exclude)
        self._redactor, self._counters = redactor, counters
        self._routes = Routes(plan, redactor)
        self._requests, self._responses = plan.mode != "response", plan.mode != "request"
        self._combined = plan.combined
        self._run = os.urandom(8).hex()
        self._next = count()

    def begin(self, exchange: Exchange) -> None:
        """The request's headers are complete: set its kind, route and request id, and which messages are wanted.

        Where the model is not known yet, rates and rules wait for :meth:`named`.
        """
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
        exchange.request_id = attribute(_given(headers)) or self.identity()
        feedback = exchange.kind == "feedback"
        exchange.request.wanted = feedback or self._requests
        exchange.response.wanted = not feedback and self._responses
        if not exchange.naming:
            self._decide(exchange, route)

    def named(self, exchange: Exchange) -> None:
        """The model is known now, or was not named in time: then only what holds for any model does."""
        exchange.naming = False
        if exchange.model:
            exchange.route = self._routes[exchange.path, exchange.model]
        assert exchange.route is not None
        self._decide(exchange, exchange.route)

    def identity(self) -> str:
        """Unique: 64 random bits a process, and a number."""
        return f"{self._run}-{next(self._next):x}"

    def _decide(self, exchange: Exchange, route: Route) -> None:
        """What depends on the model."""
        if route.rates is not None:
            self._sample(exchange, route)
        if route.secrets is not None:
            self._hide(exchange, exchange.request.headers, route.secrets["request"].headers)

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

    def _hide(self, exchange: Exchange, headers: dict[str, str], rules: tuple[tuple[str, str], ...]) -> None:
        """Redact the request's headers; sampling has seen the id as it came, so that replicas agree all the same."""
        assert self._redactor is not None
        before = _given(headers)
        self._redactor.redact_headers(rules, headers)
        after = _given(headers)
        if after != before:
            exchange.request_id = (attribute(after) if after != MASK else "") or self.identity()


def _given(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id") or headers.get("ce-id") or ""
