"""The rarer ways in which an event comes: in structured mode, or wrapped by Knative's KafkaSource.

In structured mode attributes and data are one JSON document, over HTTP or Kafka. A KafkaSource makes an event of its
own of a record that is no CloudEvent, such as Seldon's executor writes them, and the record's headers attributes of it.

References: CloudEvents 1.0.2, JSON event format section 3; Kafka protocol binding section 3.3. Knative Eventing,
KafkaSource.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from monitor.events import SIDES, Delivery, InvalidEvent, PayloadEvent, payload_event

UNSUPPORTED = "unsupported_mode"
"""Reason of an :class:`InvalidEvent` whose content mode, not its content, is the matter."""

STRUCTURED = "application/cloudevents"
"""How the content type of an event in structured mode begins."""

KAFKA_SOURCE = "dev.knative.kafka.event"
"""Type of a KafkaSource's event about a record that is no CloudEvent."""

_CARRIED = "ce_kafkaheader"

REASONS = frozenset({UNSUPPORTED, "invalid_attribute", "invalid_data", "invalid_json"})


def event_of(delivery: Delivery) -> PayloadEvent:
    """:func:`~monitor.events.payload_event`, also of a delivery in structured mode or wrapped by a KafkaSource.

    Raises
    ------
    InvalidEvent : it can be used in no mode.
    """
    try:
        return payload_event(delivery)
    except InvalidEvent:  # the rarer modes are looked for only where the common one is not
        record = delivery.record
        headers, value = record.headers, record.value
        if value is None:
            raise
        content_type = headers.get("content-type", "")
        if "ce_type" not in headers and content_type.lower().startswith(STRUCTURED):
            headers, value = structured(content_type, b"", value)
        elif headers.get("ce_type") != KAFKA_SOURCE:
            raise
    return payload_event(delivery._replace(record=record._replace(headers=unwrapped(headers), value=value)))


def unwrapped(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of the record that a KafkaSource wrapped, as attributes; id, source and time stay the wrapper's.

    >>> unwrapped({"ce_id": "partition:0/offset:7", "ce_type": KAFKA_SOURCE, "ce_kafkaheadertype": "io.seldon.x"})
    {'ce_type': 'io.seldon.x', 'ce_id': 'partition:0/offset:7'}
    """
    if headers.get("ce_type") != KAFKA_SOURCE or _CARRIED + "type" not in headers:
        return headers
    own = {name: value for name, value in headers.items() if not name.startswith(_CARRIED)}
    carried = {"ce_" + name[len(_CARRIED) :]: value for name, value in headers.items() if name.startswith(_CARRIED)}
    return {**carried, **own, "ce_type": carried["ce_type"]}


def check_type(headers: Mapping[str, str]) -> None:
    """Raises :class:`InvalidEvent` for an event of a type that no worker can use."""
    kind = unwrapped(headers).get("ce_type", "")
    if kind not in SIDES:
        raise InvalidEvent("unknown_type", f"type {kind[:200]!r} is no inference request, response or feedback")


def structured(content_type: str, encoding: bytes, body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers with the ``ce_`` prefix and the data of a structured event.

    Raises
    ------
    InvalidEvent : it is a batch, of another format than JSON, compressed, or none.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/cloudevents+json":
        raise InvalidEvent(UNSUPPORTED, f"{media_type} is not taken: send one event a request, binary or JSON")
    if encoding not in (b"", b"identity"):
        raise InvalidEvent(UNSUPPORTED, "a structured event must not be compressed: send it plain, or in binary mode")
    try:
        event = json.loads(body)  # not orjson: a payload may hold NaN and integers of any length
    except (ValueError, RecursionError) as error:
        raise InvalidEvent("invalid_json", f"the structured event is no JSON: {error}") from None
    if not isinstance(event, dict):
        raise InvalidEvent("invalid_json", "the structured event is no JSON object")
    data, data_base64 = event.pop("data", None), event.pop("data_base64", None)
    told = {"ce_" + name: _attribute(name, value) for name, value in event.items() if value is not None}
    data_type = told.pop("ce_datacontenttype", "")
    if data_type or data is not None:
        told["content-type"] = data_type or "application/json"
    return told, _data(data, data_base64, data_type)


def _attribute(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise InvalidEvent("invalid_attribute", f"attribute {name!r} must be a string, a boolean or an integer")


def _data(data: Any, data_base64: Any, data_type: str) -> bytes:
    if data_base64 is not None:
        if data is not None:
            raise InvalidEvent("invalid_data", "an event has data or data_base64, not both")
        try:
            return base64.b64decode(data_base64, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise InvalidEvent("invalid_data", "data_base64 is not in Base64") from None
    if data is None:
        return b""
    media_type = data_type.partition(";")[0].strip().lower()
    is_json = not media_type or media_type.endswith(("/json", "+json"))
    text = data if isinstance(data, str) and not is_json else json.dumps(data, ensure_ascii=False)
    return text.encode("utf-8", "replace")
