"""CloudEvents over HTTP to records and back.

References: CloudEvents 1.0.2, HTTP protocol binding section 3 and JSON event format section 3. KServe's agent and
Seldon's executor send binary mode; their attributes pass unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_to_bytes

from monitor.events import InvalidEvent, model_from_path, parse_time
from monitor.structured import STRUCTURED, structured, unwrapped
from sinks.records import Record

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


def record_from_http(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, now: float, *, by_request: bool = False
) -> Record:
    """The record of one HTTP request; ``now`` (epoch seconds) is its timestamp.

    ``headers`` as ASGI gives them: lower-case names. Its key is the ``partitionkey`` extension, else
    ``namespace/model``, else the source: the events of one model stay in order. With ``by_request`` it is the request's
    id, else the event's, which a request and its response share: the events of one model spread.

    Raises
    ------
    InvalidEvent : no CloudEvent, or one without id, source or type, or with an unreadable time. Its reason is
        :data:`UNSUPPORTED` for batches, other formats than JSON, and compressed structured events.
    """
    sent = dict(headers)
    content_type = sent.get(b"content-type", b"").decode("latin-1")
    if content_type.lower().startswith(STRUCTURED):
        told, value = structured(content_type, sent.get(b"content-encoding", b""), body)
    else:
        told, value = _binary(sent), body
    _check(told)
    plain = unwrapped(told)
    return Record(_request(plain) if by_request else _key(plain), told, value, now)


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


def _request(told: Mapping[str, str]) -> str:
    return told.get("ce_requestid") or told["ce_id"]


def _key(told: Mapping[str, str]) -> str:
    if key := told.get("ce_partitionkey"):
        return key
    model = told.get("ce_modelid") or told.get("ce_inferenceservicename") or model_from_path(told.get("ce_path", ""))
    return f"{told.get('ce_namespace') or 'default'}/{model}" if model else told["ce_source"]
