"""A captured body on its way into an event: inflated and redacted, or withheld."""

from __future__ import annotations

from monitor.capture.metrics import Counters, sample
from monitor.capture.plan import Shipping
from monitor.capture.redact_binary import UnreadableError
from monitor.capture.redaction import LENGTH, BodyRules
from monitor.codecs.inflate import inflate
from monitor.events import InvalidEvent

REDACTED, WITHHELD = "true", "withheld"
"""What the ``redacted`` attribute says: rules were applied; or they could not be, so that there is no body."""

_REDACTED, _WITHHELD = (sample("redacted_total", outcome=outcome) for outcome in ("redacted", "withheld"))
_INFLATED, _LEFT = (sample("inflated_total", outcome=outcome) for outcome in ("inflated", "left"))
_CUT = sample("truncated_total", reason="max_body")


class Bodies:
    """Makes bodies ready.

    Parameters
    ----------
    plan : whether to inflate what no rule needs inflated; limits.
    counters : where outcomes are counted.
    """

    def __init__(self, plan: Shipping, counters: Counters) -> None:
        self._inflating, self._limit, self._max_body = plan.inflate, plan.inflate_limit, plan.max_body
        self._counters = counters

    def ready(self, headers: dict[str, str], body: bytes, rules: BodyRules | None) -> bytes:
        """The body as the event carries it; ``headers``, the event's, say what was done to it."""
        if rules is not None and body:
            return self._redacted(headers, body, rules)
        if self._inflating and body and "ce_contentencoding" in headers and "ce_truncated" not in headers:
            return self._inflated(headers, body)
        return body

    def _redacted(self, headers: dict[str, str], body: bytes, rules: BodyRules) -> bytes:
        try:
            if "ce_truncated" in headers:
                raise UnreadableError("the body is cut")
            plain = inflate(body, headers.pop("ce_contentencoding", ""), self._limit)
            ready = rules.apply(headers, plain)
        except (UnreadableError, InvalidEvent):
            self._counters[_WITHHELD] += 1
            headers["ce_redacted"] = WITHHELD
            headers.pop(LENGTH, None)
            return b""
        self._counters[_REDACTED] += 1
        headers["ce_redacted"] = REDACTED
        if len(ready) > self._max_body:
            self._counters[_CUT] += 1
            headers["ce_truncated"] = "true"
            return ready[: self._max_body]
        return ready

    def _inflated(self, headers: dict[str, str], body: bytes) -> bytes:
        """The body inflated, or as it is where it cannot be, or would be larger than an event may be."""
        try:
            plain = inflate(body, headers["ce_contentencoding"], min(self._limit, self._max_body))
        except InvalidEvent:
            self._counters[_LEFT] += 1
            return body
        self._counters[_INFLATED] += 1
        del headers["ce_contentencoding"]
        return plain
