"""Records to the bytes of HTTP/1.1 requests, CloudEvents in binary mode.

What an event has in common with the one before it is encoded once: on the path of every event the HTTP client must
not cost more than the parsing of what it sends.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from monitor.transport.cloudevent_http import http_headers
from sinks.records import Pattern, Patterned, Record

UNLIKE = frozenset({"ce_id", "ce_time", "ce_requestid", "ce_latencyms", "ce_traceparent", "ce_tracestate"})
"""Attributes that differ from event to event: never remembered."""

REMEMBERED = 1024
"""Forms kept; paths and content types are the clients' to choose."""

_plain = re.compile(r"[!#$&-~]*").fullmatch
"""Values that need no percent-encoding."""

_UNSENDABLE = re.compile(r"[\x00-\x20\x7f]")


class Endpoint(NamedTuple):
    """Where requests go. ``shown`` is the URL without what is secret: user, password and query.

    >>> endpoint = Endpoint.parse("https://me:secret@broker/ns/default?key=1")
    >>> endpoint.host, endpoint.port, endpoint.tls, endpoint.target, endpoint.shown
    ('broker', 443, True, '/ns/default?key=1', 'https://broker/ns/default')
    """

    host: str
    port: int
    tls: bool
    target: str
    authority: str
    credentials: str
    shown: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Raises :class:`ValueError`: it is no http or https URL."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host = host if ":" in host else host.encode("idna").decode("ascii")
        except ValueError:
            raise ValueError("the receiver's URL cannot be read") from None
        authority = f"[{host}]" if ":" in host else host
        authority += f":{port}" if port is not None else ""
        shown = f"{parts.scheme}://{authority}{parts.path}"
        if parts.scheme not in ("http", "https") or not host or _UNSENDABLE.search(url):
            raise ValueError(f"{shown} is no http:// or https:// URL")
        tls = parts.scheme == "https"
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
            f"?{quote(parts.query, safe='/%:@!$&()*+,;=?~')}" if parts.query else ""
        )
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
        credentials = "Basic " + base64.b64encode(user.encode()).decode() if user else ""
        return cls(host, port or (443 if tls else 80), tls, target, authority, credentials, shown)


class _Form(NamedTuple):
    """What many events have in common: these headers, written, and the names of those that they have besides."""

    shared: Mapping[str, str]
    written: str
    unlike: tuple[str, ...]
    fields: tuple[str, ...]


class _Template(NamedTuple):
    """A pattern's head, with places for what differs and for the body's length; ``size`` is how many headers there are.

    ``values`` picks what differs, ``given`` names those of which it must be seen that they need no encoding.
    """

    head: str
    size: int
    values: Callable[[Mapping[str, str]], tuple[str, ...]]
    given: tuple[str, ...]


class Requests:
    """Encodes records for one endpoint.

    >>> requests = Requests(Endpoint.parse("http://broker/"))
    >>> requests.encode(Record(None, {"ce_id": "1"}, b"hi", 0.0)).split(b"\\r\\n")[-4:]
    [b'ce-id: 1', b'content-length: 2', b'', b'hi']
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._forms: dict[tuple[object, ...], _Form] = {}
        self._templates: dict[Pattern, _Template] = {}
        self.authorize("")

    def authorize(self, token: str) -> None:
        """Send this bearer token from now on; without one, the URL's user and password."""
        authorization = f"Bearer {token}" if token else self._endpoint.credentials
        self._first = (
            f"POST {self._endpoint.target} HTTP/1.1\r\nhost: {self._endpoint.authority}\r\nuser-agent: offpath\r\n"
            + (f"authorization: {authorization}\r\n" if authorization else "")
        )
        self._forms.clear()
        self._templates.clear()

    def encode(self, record: Record) -> bytes:
        """The request: head and body."""
        key, headers, body, _ = record
        body = body or b""
        if type(headers) is Patterned and (head := self._filled(headers, len(body))):
            return head.encode("latin-1") + body
        get = headers.get
        kind = (key, len(headers), get("ce_type"), get("ce_path"), get("ce_status"), get("content-type"))
        form = self._forms.get(kind)
        if form is None or not form.shared.items() <= headers.items():
            form = self._remember(kind, record)
        try:
            values = [headers[name] for name in form.unlike]
        except KeyError:  # as many headers, but others
            values = ['"']
        if not _plain("".join(values)):
            head = self._first + _written(http_headers(record))
        else:
            head = form.written + "".join(map(str.__add__, form.fields, values))
        return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode("latin-1") + body

    def _filled(self, headers: Patterned, length: int) -> str:
        """The head, if the pattern tells all of it."""
        head, size, values, given = self._templates.get(headers.pattern) or self._template(headers.pattern)
        if len(headers) != size:
            return ""
        for name in given:
            if not _plain(headers[name]):
                return ""
        return head % (*values(headers), length)

    def _template(self, pattern: Pattern) -> _Template:
        """What is written of records of a pattern."""
        shared = self._first + _written(http_headers(Record(None, pattern.shared, None, 0.0)))
        fields = "".join(f"\r\n{name.replace('ce_', 'ce-', 1)}: %s" for name in pattern.unlike)
        head = shared.replace("%", "%%") + fields + "\r\ncontent-length: %d\r\n\r\n"
        template = _Template(
            head, len(pattern.shared) + len(pattern.unlike), itemgetter(*pattern.unlike), pattern.given
        )
        if len(self._templates) >= REMEMBERED:
            self._templates.clear()
        self._templates[pattern] = template
        return template

    def _remember(self, kind: tuple[object, ...], record: Record) -> _Form:
        """The form of events like this one."""
        shared = {name: value for name, value in record.headers.items() if name not in UNLIKE}
        unlike = tuple(name for name in record.headers if name in UNLIKE)
        written = self._first + _written(http_headers(record._replace(headers=shared)))
        form = _Form(shared, written, unlike, tuple(f"\r\nce-{name[3:]}: " for name in unlike))
        if len(self._forms) >= REMEMBERED:
            self._forms.clear()
        self._forms[kind] = form
        return form


def _written(headers: Mapping[str, str]) -> str:
    """Header lines, without the last one's end."""
    return "\r\n".join(f"{name}: {value}" for name, value in headers.items())
