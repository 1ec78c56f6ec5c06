"""The values that travel: deliveries, payload events, checkpoints. And the mapping from transport headers.

A payload event is one request to, or response of, a model, copied on its way. Whatever sent it (our sidecar,
KServe's agent, Seldon's executor over HTTP or over Kafka with bare headers), :func:`payload_event` makes one
value of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Literal, NamedTuple

from sinks.records import Record

__all__ = [
    "Checkpoint",
    "DeadLetter",
    "Delivery",
    "InvalidEvent",
    "Partition",
    "PayloadEvent",
    "Record",
    "payload_event",
]

Partition = str
"""A topic's partition, written ``topic/number``: ``"payloads/0"``."""

Side = Literal["request", "response", "feedback", "exchange"]

SIDES: Mapping[str, Side] = {
    "org.kubeflow.serving.inference.request": "request",
    "org.kubeflow.serving.inference.response": "response",
    "io.seldon.serving.inference.request": "request",
    "io.seldon.serving.inference.response": "response",
    "io.seldon.serving.feedback": "feedback",
    "io.offpath.inference.exchange": "exchange",
}
"""CloudEvents type -> side, for every producer offpath takes in. An ``exchange`` holds a request and its response."""


class InvalidEvent(ValueError):
    """An event or its payload cannot be used. ``reason`` is a short word from a bounded list, for metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Delivery(NamedTuple):
    """One record as a source delivered it, and where it stands."""

    partition: Partition
    offset: int
    record: Record


class PayloadEvent(NamedTuple):
    """One copied request or response, or both.

    ``time`` is seconds since the epoch; ``derived`` names what was missing and had to be derived (``missing_id``,
    ``missing_time``), or was impossible (``future_time``). ``headers`` are all headers of the record, ``ce_`` prefix
    included.
    """

    id: str
    source: str
    type: str
    side: Side
    time: float
    namespace: str
    model: str
    endpoint: str
    request_id: str
    protocol: str
    content_type: str
    content_encoding: str
    path: str
    status: int
    data: bytes
    headers: Mapping[str, str]
    derived: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same event again: KServe's pair shares one id, so the type belongs to it."""
        return (self.source, self.id, self.type)


class DeadLetter(NamedTuple):
    """A delivery that could not be used, why, and for whom. ``monitor`` is empty if it was of no use to any."""

    delivery: Delivery
    reason: str
    message: str
    monitor: str = ""


class Checkpoint(NamedTuple):
    """Where to resume a partition: the lowest offset an open window needs, and the state that goes with it (JSON)."""

    offset: int
    state: str = ""


AHEAD_SECONDS = 300.0
"""How far an event's time may be ahead of its record's: one wrong clock must not close the windows of all others."""

_LATEST = datetime(3000, 1, 1, tzinfo=timezone.utc).timestamp()
_MODEL_IN_PATH = re.compile(r"/v[12]/models/([^/:]+)")
_SELDON_PATH = re.compile(r"/seldon/([^/]+)/([^/]+)/")
_FRACTION = re.compile(r"\.(\d+)")


@lru_cache(maxsize=1024)
def model_from_path(path: str) -> str:
    """The model named in a V1, V2 or Seldon path, else ``""``.

    >>> model_from_path("/v2/models/income/infer"), model_from_path("/seldon/ns/movie/api/v1.0/predictions")
    ('income', 'movie')
    """
    if found := _MODEL_IN_PATH.search(path):
        return found[1]
    if found := _SELDON_PATH.search(path):
        return found[2]
    return ""


def parse_time(text: str) -> float:
    """RFC 3339 to seconds since the epoch; any number of fraction digits, as Go writes nine.

    >>> parse_time("1970-01-01T00:00:01.500000000Z")
    1.5
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _older_time(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    if not 1970 <= moment.year < 3000:  # windows calculate with it, and years end at 9999
        raise InvalidEvent("invalid_time", f"the event's time {text!r} is not between 1970 and 3000")
    return moment.timestamp()


def is_count(text: str) -> bool:
    """Whether a header's text is a whole number, of a length that ``int`` takes.

    >>> is_count("200"), is_count(""), is_count("\u00b2")
    (True, False, False)
    """
    return text.isascii() and text.isdigit() and len(text) < 20


def _older_time(text: str) -> datetime:
    """Python 3.10 takes neither ``Z`` nor other than three or six fraction digits."""
    whole = text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text
    try:
        return datetime.fromisoformat(_FRACTION.sub(lambda m: "." + m[1][:6].ljust(6, "0"), whole, count=1))
    except ValueError:
        raise InvalidEvent("invalid_time", f"the event's time {text!r} is no RFC 3339 time") from None


def payload_event(delivery: Delivery) -> PayloadEvent:
    """The payload event of a delivery in CloudEvents binary mode, or with Seldon's bare headers.

    An event without id is named after its position and the record's timestamp (the same at every redelivery), one
    without time takes the record's timestamp, and so does one that is far ahead of it; all is noted in ``derived``.

    Raises
    ------
    InvalidEvent : it is a tombstone, has no type, a type that is no inference traffic, or an unreadable time.
    """
    record = delivery.record
    headers = record.headers
    if record.value is None:
        raise InvalidEvent("tombstone", "the record has no value")
    get = headers.get
    kind = get("ce_type") or get("type", "")
    side = SIDES.get(kind)
    if side is None:
        raise InvalidEvent("unknown_type", f"type {kind!r} is no inference request, response or feedback")
    event_id = get("ce_id", "")
    time, derived = _time_of(record)
    if not event_id:  # with the record's time: a log that is deleted and begun anew has the same places again
        place = f"{delivery.partition}:{delivery.offset}@{record.timestamp:.6f}"
        event_id, derived = place, ("missing_id", *derived)
    path = get("ce_path", "")
    status = get("ce_status", "")
    ce = "ce_type" in headers  # else Seldon's bare headers
    model = get("ce_modelid" if ce else "modelid") or get("ce_inferenceservicename" if ce else "inferenceservicename")
    return PayloadEvent(
        event_id, get("ce_source", ""), kind, side, time,
        get("ce_namespace" if ce else "namespace") or "default",
        model or model_from_path(path),
        get("ce_endpoint" if ce else "endpoint", ""),
        get("ce_requestid" if ce else "requestid") or event_id,
        get("ce_protocol" if ce else "protocol", ""),
        get("content-type") or get("ce_datacontenttype", ""),
        get("ce_contentencoding", ""),
        path, int(status) if is_count(status) else 0, record.value, headers, derived,
    )  # fmt: skip


def _time_of(record: Record) -> tuple[float, tuple[str, ...]]:
    """The event's time, and what was wrong with it."""
    written = record.headers.get("ce_time")
    if not written:
        if not 0.0 <= record.timestamp < _LATEST:  # some write micro- or nanoseconds where Kafka has milliseconds
            raise InvalidEvent(
                "invalid_time", f"the record's time, {record.timestamp:g} s, is not between 1970 and 3000"
            )
        return record.timestamp, ("missing_time",)
    time = parse_time(written)
    if time > record.timestamp + AHEAD_SECONDS and record.timestamp > 0.0:
        return record.timestamp, ("future_time",)
    return time, ()
