"""Structured mode over a transport: the same payload event as in binary mode, or a reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from monitor.events import Delivery, InvalidEvent, Record, payload_event
from monitor.structured import event_of

ATTRIBUTES = {
    "specversion": "1.0", "id": "1", "source": "s", "type": "org.kubeflow.serving.inference.request",
    "time": "2026-01-01T00:00:00Z", "inferenceservicename": "income", "namespace": "n", "requestid": "r",
}  # fmt: skip
BODY = {"instances": [[1, 2.5]]}


def delivery(value: bytes | None, content_type: str = "application/cloudevents+json; charset=utf-8") -> Delivery:
    return Delivery("t/0", 7, Record("k", {"content-type": content_type}, value, 1.0))


def structured(**told: Any) -> Delivery:
    return delivery(json.dumps({**ATTRIBUTES, **told}).encode())


def test_it_is_the_event_of_binary_mode() -> None:
    headers = {f"ce_{name}": value for name, value in ATTRIBUTES.items()} | {"content-type": "application/json"}
    value = json.dumps(BODY, separators=(",", ":")).encode()
    binary = payload_event(Delivery("t/0", 7, Record("k", headers, value, 1.0)))
    event = event_of(structured(data=BODY))
    assert json.loads(event.data) == BODY
    assert event._replace(data=b"") == binary._replace(data=b"")


def test_data_in_base64() -> None:
    told = base64.b64encode(b"\x00\xff").decode()
    event = event_of(structured(data_base64=told, datacontenttype="application/octet-stream"))
    assert (event.data, event.content_type) == (b"\x00\xff", "application/octet-stream")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (delivery(b"{"), "invalid_json"),
        (delivery(b"[]"), "invalid_json"),
        (delivery(b"[]", "application/cloudevents-batch+json"), "unsupported_mode"),
        (structured(data_base64="?"), "invalid_data"),
        (structured(type="other", data={}), "unknown_type"),
        (delivery(None), "tombstone"),
        (delivery(b"{}", "application/json"), "unknown_type"),
    ],
)
def test_what_is_no_event_has_a_reason(sent: Delivery, reason: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        event_of(sent)
    assert raised.value.reason == reason
