"""CloudEvents over HTTP: real senders' requests, the specification's rules, and its SDK as an oracle."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from monitor.events import Delivery, InvalidEvent, Record, payload_event
from monitor.structured import UNSUPPORTED
from monitor.transport.cloudevent_http import decode_value, encode_value, http_headers, record_from_http

NOW = 1000.0

KSERVE = """\
Host: 127.0.0.1:19201
User-Agent: Go-http-client/1.1
Content-Length: 19
Ce-Annotations: {"team":"fraud"}
Ce-Component: predictor
Ce-Endpoint: default
Ce-Id: caller-id-7
Ce-Inferenceservicename: my-isvc
Ce-Metadata: {"X-Tenant":["acme"]}
Ce-Namespace: my-ns
Ce-Recordedtime: 2026-11-23T01:33:19.772262595Z
Ce-Source: http://localhost:9081/
Ce-Specversion: 1.0
Ce-Time: 2026-11-23T01:33:19.772083909Z
Ce-Type: org.kubeflow.serving.inference.request
Content-Type: application/json
Accept-Encoding: gzip"""

KNATIVE = """\
Host: 127.0.0.1:19782
Ce-Id: 1
Ce-Knativearrivaltime: 2026-11-23T02:10:55.307877086Z
Ce-Source: /s
Ce-Specversion: 1.0
Ce-Type: org.kubeflow.serving.inference.request
Content-Type: application/json
Kn-Namespace: t
Prefer: reply"""

SELDON = """\
Ce-Id: 8e4b
Ce-Source: http://:8000/
Ce-Specversion: 1.0
Ce-Type: io.seldon.serving.feedback
Ce-Requestid: r-1
Ce-Modelid: classifier
Ce-Inferenceservicename: movie
Ce-Namespace: seldon
Ce-Endpoint: main
Ce-Protocol: seldon
Content-Type: application/json"""

Headers = list[tuple[bytes, bytes]]


def raw(text: str) -> Headers:
    pairs = (line.split(": ", 1) for line in text.splitlines())
    return [(name.lower().encode(), value.encode()) for name, value in pairs]


def headers(**attributes: str) -> Headers:
    """A valid event's headers, with some attributes changed; an empty one is left out."""
    told = {"id": "1", "source": "s", "type": "t", "specversion": "1.0"} | attributes
    return [(b"ce-" + name.encode(), encode_value(value).encode()) for name, value in told.items() if value]


def structured(event: Any, content_type: bytes = b"application/cloudevents+json") -> Record:
    return record_from_http([(b"content-type", content_type)], json.dumps(event).encode(), NOW)


def test_kserves_event_passes_with_every_attribute() -> None:
    record = record_from_http(raw(KSERVE), b'{"instances":[[4]]}', NOW)
    assert record.headers == {
        "ce_annotations": '{"team":"fraud"}',
        "ce_component": "predictor",
        "ce_endpoint": "default",
        "ce_id": "caller-id-7",
        "ce_inferenceservicename": "my-isvc",
        "ce_metadata": '{"X-Tenant":["acme"]}',
        "ce_namespace": "my-ns",
        "ce_recordedtime": "2026-11-23T01:33:19.772262595Z",
        "ce_source": "http://localhost:9081/",
        "ce_specversion": "1.0",
        "ce_time": "2026-11-23T01:33:19.772083909Z",
        "ce_type": "org.kubeflow.serving.inference.request",
        "content-type": "application/json",
    }
    assert (record.key, record.value, record.timestamp) == ("my-ns/my-isvc", b'{"instances":[[4]]}', NOW)
    event = payload_event(Delivery("payloads/0", 0, record._replace(timestamp=1795397600.0)))  # when it was captured
    assert (event.model, event.namespace, event.side, event.derived) == ("my-isvc", "my-ns", "request", ())


def test_kserves_get_without_content_type_or_body() -> None:
    text = "\n".join(line for line in KSERVE.splitlines() if not line.startswith("Content"))
    record = record_from_http(raw(text), b"", NOW)
    assert record.value == b""
    assert "content-type" not in record.headers


def test_what_knatives_broker_delivers() -> None:
    record = record_from_http(raw(KNATIVE), b'{"a":1}', NOW)
    assert record.headers["ce_knativearrivaltime"] == "2026-11-23T02:10:55.307877086Z"
    assert record.key == "/s"
    assert not {"prefer", "kn-namespace", "host"} & set(record.headers)


def test_seldons_event_is_keyed_by_its_model() -> None:
    record = record_from_http(raw(SELDON), b"{}", NOW)
    assert record.key == "seldon/classifier"
    assert payload_event(Delivery("payloads/0", 0, record)).request_id == "r-1"


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"partitionkey": "k", "modelid": "m"}, "k"),
        ({"modelid": "m"}, "default/m"),
        ({"path": "/v2/models/income/infer", "namespace": "ns"}, "ns/income"),
        ({}, "s"),
    ],
)
def test_key(attributes: dict[str, str], key: str) -> None:
    assert record_from_http(headers(**attributes), b"", NOW).key == key


@pytest.mark.parametrize(
    ("attributes", "key"),
    [({"partitionkey": "k", "requestid": "r-1"}, "r-1"), ({"partitionkey": "k", "modelid": "m"}, "1")],
)
def test_key_by_request(attributes: dict[str, str], key: str) -> None:
    """A request and its response share it, whatever the sender's own key is."""
    assert record_from_http(headers(**attributes), b"", NOW, by_request=True).key == key


def test_content_encoding_is_kept_and_the_body_is_not_inflated() -> None:
    record = record_from_http([*headers(), (b"content-encoding", b"gzip")], b"\x1f\x8b...", NOW)
    assert (record.headers["ce_contentencoding"], record.value) == ("gzip", b"\x1f\x8b...")


@pytest.mark.parametrize("missing", ["id", "source", "type"])
def test_a_missing_attribute_is_named(missing: str) -> None:
    with pytest.raises(InvalidEvent, match=f"lacks ce-{missing}") as caught:
        record_from_http(headers(**{missing: ""}), b"", NOW)
    assert caught.value.reason == "missing_attribute"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [({"time": "yesterday"}, "invalid_time"), ({"specversion": "2.0"}, "unsupported_version")],
)
def test_unusable_attributes(attributes: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        record_from_http(headers(**attributes), b"", NOW)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u20ac \U0001f600"),
        (b'"quoted \\"pair\\" \\\\"', 'quoted "pair" \\'),
        (b'"', '"'),
        (b"100%", "100%"),
        (b"%zz", "%zz"),
        (b"%2520", "%20"),
        ("größe".encode(), "größe"),
        (b"%ff", "\ufffd"),
    ],
)
def test_decoding_a_value(value: bytes, text: str) -> None:
    assert decode_value(value) == text


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_and_is_printable_ascii_on_the_wire(text: str) -> None:
    wire = encode_value(text)
    assert all(0x21 <= ord(character) <= 0x7E for character in wire)
    assert decode_value(wire.encode()) == text


names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: name not in {"id", "source", "type", "time", "specversion", "datacontenttype", "data", "dataschema"}
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)


@given(st.dictionaries(names, texts, max_size=5), st.text("abc /é%\"'", min_size=1), st.binary(), st.none() | texts)
def test_there_and_back(extensions: dict[str, str], identity: str, value: bytes, key: str | None) -> None:
    told = {"id": identity, "source": "/s", "type": "t", "specversion": "1.0", **extensions}
    record = Record(key, {f"ce_{name}": text for name, text in told.items()}, value, NOW)
    wire = [(name.encode(), text.encode()) for name, text in http_headers(record).items()]
    back = record_from_http(wire, value, NOW)
    expected = dict(record.headers)
    if key is not None:
        expected.setdefault("ce_partitionkey", key)
    assert back.headers == expected
    assert back.value == value


@given(st.dictionaries(names, texts, max_size=5), st.dictionaries(st.text("ab"), st.integers()))
def test_the_sdks_events_are_read(extensions: dict[str, str], data: dict[str, int]) -> None:
    attributes = {
        "id": "1",
        "source": "/s",
        "type": "t",
        "specversion": "1.0",
        "time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
        "datacontenttype": "application/json",
        **extensions,
    }
    event = CloudEvent(attributes=attributes, data=data)
    for message in (to_binary(event, JSONFormat()), to_structured(event, JSONFormat())):
        wire = [(name.lower().encode(), text.encode()) for name, text in message.headers.items()]
        record = record_from_http(wire, message.body, NOW)
        assert record.headers["ce_time"].startswith("2026-01-02T03:04:05.678901")
        assert record.headers["content-type"] == "application/json"
        assert {name: record.headers["ce_" + name] for name in extensions} == extensions
        assert json.loads(record.value or b"") == data


@given(st.dictionaries(names, texts, max_size=5), texts)
def test_the_sdk_reads_ours(extensions: dict[str, str], key: str) -> None:
    told = {"id": "1", "source": "/s", "type": "t", "time": "2026-01-02T03:04:05Z", **extensions}
    record = Record(
        key, {**{f"ce_{name}": text for name, text in told.items()}, "content-type": "application/json"}, b"[1]", NOW
    )
    event = from_binary(HTTPMessage(http_headers(record), record.value or b""), JSONFormat())
    assert event.get_data() == [1]
    assert event.get_datacontenttype() == "application/json"
    assert {name: event.get_extension(name) for name in extensions} == extensions
    assert event.get_extension("partitionkey") == extensions.get("partitionkey", key)


def test_structured_data_in_its_forms() -> None:
    base = {"id": "1", "source": "s", "type": "t", "specversion": "1.0"}
    assert structured({**base, "data": {"a": "é"}}).value == '{"a": "é"}'.encode()
    assert structured({**base, "data": "text"}).value == b'"text"'
    assert structured({**base, "datacontenttype": "text/plain", "data": "text"}).value == b"text"
    assert structured({**base, "datacontenttype": "application/x", "data_base64": "AP8="}).value == b"\x00\xff"
    assert structured({**base, "data": [float("nan"), 2**70]}).value == b"[NaN, 1180591620717411303424]"
    empty = structured(base)
    assert empty.value == b""
    assert "content-type" not in empty.headers


def test_structured_attributes_become_text() -> None:
    record = structured(
        {"id": "1", "source": "s", "type": "t", "specversion": "1.0", "count": 3, "flag": True, "none": None},
        b"application/cloudevents+json; charset=utf-8",
    )
    assert (record.headers["ce_count"], record.headers["ce_flag"]) == ("3", "true")
    assert "ce_none" not in record.headers


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"id": {}}', "invalid_attribute"),
        (b'{"id": 1.5}', "invalid_attribute"),
        (b'{"data": 1, "data_base64": "AA=="}', "invalid_data"),
        (b'{"data_base64": "?"}', "invalid_data"),
        (b'{"data_base64": 7}', "invalid_data"),
        (b'{"id": "1"}', "missing_attribute"),
    ],
)
def test_structured_events_that_cannot_be_used(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        record_from_http([(b"content-type", b"application/cloudevents+json")], body, NOW)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "wire",
    [
        [(b"content-type", b"application/cloudevents-batch+json")],
        [(b"content-type", b"application/cloudevents+avro")],
        [(b"content-type", b"application/cloudevents+json"), (b"content-encoding", b"gzip")],
    ],
)
def test_modes_that_are_not_taken(wire: Headers) -> None:
    with pytest.raises(InvalidEvent) as caught:
        record_from_http(wire, b"[]", NOW)
    assert caught.value.reason == UNSUPPORTED


def test_a_record_cannot_smuggle_headers() -> None:
    evil = {
        "ce_id": "1\r\nx: y",
        "ce_a b": "no token",
        "content-type": "text/plain\r\nx: y",
        "host": "evil",
        "authorization": "evil",
        "transfer-encoding": "chunked",
        "offpath-reason": "kept",
    }
    assert http_headers(Record(None, evil, b"", NOW)) == {
        "ce-specversion": "1.0",
        "ce-id": "1%0D%0Ax:%20y",
        "content-type": "text/plain%0D%0Ax: y",
        "offpath-reason": "kept",
    }


@given(st.lists(st.tuples(st.binary(max_size=20).map(bytes.lower), st.binary(max_size=40))), st.binary(max_size=200))
def test_nothing_but_invalid_event_is_raised(wire: Headers, body: bytes) -> None:
    for start in ([], [(b"content-type", b"application/cloudevents+json")]):
        try:
            record_from_http([*start, *wire], body, NOW)
        except InvalidEvent:
            continue
