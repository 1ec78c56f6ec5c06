"""CloudEvents over HTTP to records and back.

References: CloudEvents 1.0.2, HTTP protocol binding section 3 and JSON event format section 3. KServe's agent and
Seldon's executor send binary mode; their attributes pass unchanged.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from monitor.events import InvalidEvent, model_from_path, parse_time
from sinks.base import Record

UNSUPPORTED = "unsupported_mode"
"""Reason of an :class:`InvalidEvent` whose content mode, not its content, is the matter."""

_STRUCTURED = "application/cloudevents"
_REQUIRED = ("id", "source", "type")
_PASSED = frozenset({"content-type", "inference-header-content-length", "traceparent", "tracestate"})
_TOKEN = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]+")
_QUOTED_PAIR = re.compile(r"\\(.)")
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def encode_value(text: str) -> str:
    """An attribute as a header value: spaces, ``"``, ``%`` and all that is not printable ASCII percent-encoded.

    >>> encode_value('Euro \u20ac "100%"')
    'Euro%20%E2%82%AC%20%22100%25%22'
    """
    return quote(text, safe=_PLAIN, errors="replace")


def decode_value(value: bytes) -> str:
    """A header value as an attribute: unquoted, then percent-decoded, once each.

    >>> decode_value(b'"Euro \\\\"%E2%82%AC\\\\""'), decode_value(b"100%2525")
    ('Euro "\u20ac"', '100%25')
    """
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1].decode("latin-1")).encode("latin-1")
    return unquote_to_bytes(value).decode("utf-8", "replace")


def http_headers(record: Record) -> dict[str, str]:
    """The HTTP headers of a record in binary mode; the body is its value.

    Only CloudEvents attributes, the content type, trace context and ``offpath-`` headers go out: a record's headers
    come from elsewhere and must not become ``Host`` or ``Authorization``.

    >>> http_headers(Record("income", {"ce_id": "1", "content-type": "text/plain", "host": "x"}, b"", 0.0))
    {'ce-specversion': '1.0', 'ce-id': '1', 'content-type': 'text/plain', 'ce-partitionkey': 'income'}
    """
    told = {"ce-specversion": "1.0"}
    for name, value in record.headers.items():
        if name.startswith("ce_"):
            name = "ce-" + name[3:]
        elif name not in _PASSED and not name.startswith("offpath-"):
            continue
        if name == "ce-datacontenttype":
            told.setdefault("content-type", quote(value, safe=_PLAIN + ' "%', errors="replace"))
        elif name == "content-type":
            told[name] = quote(value, safe=_PLAIN + ' "%', errors="replace")
        elif _TOKEN.fullmatch(name):
            told[name] = encode_value(value)
    if record.key is not None:
        told.setdefault("ce-partitionkey", encode_value(record.key))
    return told


def record_from_http(headers: Iterable[tuple[bytes, bytes]], body: bytes, now: float) -> Record:
    """The record of one HTTP request; ``now`` (epoch seconds) is its timestamp.

    ``headers`` as ASGI gives them: lower-case names. Its key is the ``partitionkey`` extension, else
    ``namespace/model``, else the source: the events of one model stay in order.

    Raises
    ------
    InvalidEvent : no CloudEvent, or one without id, source or type, or with an unreadable time. Its reason is
        :data:`UNSUPPORTED` for batches, other formats than JSON, and compressed structured events.
    """
    sent = dict(headers)
    content_type = sent.get(b"content-type", b"").decode("latin-1")
    if content_type.lower().startswith(_STRUCTURED):
        told, value = _structured(content_type, sent.get(b"content-encoding", b""), body)
    else:
        told, value = _binary(sent), body
    _check(told)
    return Record(_key(told), told, value, now)


def _binary(sent: Mapping[bytes, bytes]) -> dict[str, str]:
    told = {}
    for raw, value in sent.items():
        name = raw.decode("latin-1").lower()
        if name.startswith("ce-"):
            told["ce_" + name[3:]] = decode_value(value)
        elif name in _PASSED:
            told[name] = value.decode("latin-1")
    if encoding := sent.get(b"content-encoding"):
        told.setdefault("ce_contentencoding", encoding.decode("latin-1"))
    return told


def _structured(content_type: str, encoding: bytes, body: bytes) -> tuple[dict[str, str], bytes]:
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


def _check(told: Mapping[str, str]) -> None:
    missing = [name for name in _REQUIRED if not told.get("ce_" + name)]
    if missing:
        raise InvalidEvent(
            "missing_attribute", f"no CloudEvent: it lacks {', '.join('ce-' + name for name in missing)}"
        )
    version = told.get("ce_specversion", "1.0")
    if not version.startswith(("1.", "0.3")):
        raise InvalidEvent("unsupported_version", f"CloudEvents version {version!r} is not known here, 1.0 is")
    if time := told.get("ce_time"):
        parse_time(time)


def _key(told: Mapping[str, str]) -> str:
    if key := told.get("ce_partitionkey"):
        return key
    model = told.get("ce_modelid") or told.get("ce_inferenceservicename") or model_from_path(told.get("ce_path", ""))
    return f"{told.get('ce_namespace') or 'default'}/{model}" if model else told["ce_source"]
