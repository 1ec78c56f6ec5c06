"""A share of the traffic, chosen by request id: request, response and every replica agree without talking.

A request id has a place between 0 and 1: the first 53 bits of the SHA-256 of its UTF-8 bytes, as a binary fraction. A
message is captured if its place is below its rate. So what a rate of 0.1 takes is part of what 0.5 takes, whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from hashlib import sha256

from monitor.capture.rules import SampleRule

MAX_INTEGER = 2**31 - 1
"""What an integer attribute of CloudEvents may be."""


def place(request_id: str) -> float:
    """Where a request id stands, in [0, 1).

    >>> round(place("r-1"), 6), place("r-1") == place("r-1")
    (0.648353, True)
    """
    return (int.from_bytes(sha256(request_id.encode()).digest()[:8], "big") >> 11) / 2**53


def rate_of(rate: float, rules: Sequence[SampleRule], model: str, side: str) -> float:
    """The rate of a model's side: that of the first rule that fits, else ``rate``.

    >>> rules = [SampleRule("movie", "response", 0.5), SampleRule("m*", "", 1.0)]
    >>> [rate_of(0.1, rules, model, "response") for model in ("movie", "music", "income")]
    [0.5, 1.0, 0.1]
    """
    for rule in rules:
        if rule.side in ("", side) and fnmatchcase(model, rule.model):
            return rule.rate
    return rate


def attributes(rate: float) -> dict[str, str]:
    """What an event says of its rate, so that consumers can weigh it.

    ``samplerate`` is the rate. ``sampledrate`` is CloudEvents' own extension, for how many events one stands; it is an
    integer, and left out where that would not be true.

    >>> attributes(0.1), attributes(0.3), attributes(1.0)
    ({'ce_samplerate': '0.1', 'ce_sampledrate': '10'}, {'ce_samplerate': '0.3'}, {})
    """
    if rate >= 1.0 or rate <= 0.0:
        return {}
    told = {"ce_samplerate": f"{rate:.15g}"}
    stands_for = round(min(1 / rate, MAX_INTEGER + 1))
    if stands_for <= MAX_INTEGER and abs(stands_for * rate - 1) < 1e-9:
        told["ce_sampledrate"] = str(stands_for)
    return told
