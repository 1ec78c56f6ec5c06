"""Heads of HTTP/1 messages that are like one that came before, but for some values: read by one regular expression.

The parser calls Python for every header; clients and servers send the same headers in the same order, over and over.
So a head that the parser has read becomes a form: its start line, its header names and the values that say what kind of
body follows are fixed, the other values are holes. What fits the form is what the parser would have made of it. Only
heads whose body has a length are learned, and none that says anything else of the connection or of how the body ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import Match

from monitor.capture.header_names import CODING, LENGTH

MOST_STARTS, MOST_FORMS = 64, 4
"""Start lines that are known, and forms of each; paths and names of headers are the clients' to choose."""

FIRST_CREDIT, CREDIT, LOOK = 64.0, 0.001, 0.05
"""Making a form costs as much as parsing dozens of messages, and seeing that there is none to make as much as one: so
many are made at first, then one in a thousand messages that fit none. A look costs that share of making one."""

LONGEST_START = 1024
"""Bytes of a start line."""

_START = (
    re.compile(rb"(POST|PUT|PATCH) ([!-~]+) HTTP/1\.1"),
    re.compile(rb"HTTP/1\.1 (?!204|304)([2-5][0-9][0-9])(?: [ -~]*)?"),
)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_KEPT = rb" ([!-~](?:[ -~]{0,1022}[!-~])?)"
_TEXT = re.compile(_KEPT)

_STEADY = frozenset({"content-type", "content-encoding"})
"""Their values are part of the form."""

_OTHER = frozenset({CODING, "upgrade", "expect", "proxy-connection", "http2-settings"})
"""A head with one of them is left to the parser."""

_NUMBER = rb" ([0-9]{1,9})"
_ANYTHING = rb"[\t -~\x80-\xff]*"


class Form:
    """A kind of head. Two messages of one form have the same method and path, or status, and headers of the same names.

    ``headers`` are those wanted whose values are part of the form, ``groups`` the numbers of ``match``'s groups that
    hold the others. ``length`` is the number of the one with the body's length.
    """

    __slots__ = ("groups", "headers", "length", "match", "method", "path", "pattern", "status")

    def __init__(self, start: Match[bytes], headers: dict[str, str], names: Sequence[str], pattern: bytes) -> None:
        self.headers = headers
        self.groups = {name: number for number, name in enumerate(names, start=1)}
        self.length = self.groups.pop(LENGTH)
        self.pattern, self.match = pattern, re.compile(pattern).match
        self.method = self.path = ""
        self.status = 0
        if start.re is _START[0]:
            self.method = start[1].decode()
            self.path = start[2].partition(b"?")[0].decode()
        else:
            self.status = int(start[1])


class Forms:
    """The forms that are known, by their start lines.

    Parameters
    ----------
    wanted : the headers that are kept, in lower case.

    Examples
    --------
    >>> forms = Forms(frozenset({b"x-id"}))
    >>> forms.learn(0, b"POST /a HTTP/1.1\\r\\nHost: m\\r\\nX-Id: 7\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    >>> form, found = forms.find(b"POST /a HTTP/1.1\\r\\nHost: n\\r\\nX-Id: 8\\r\\nContent-Length: 3\\r\\n\\r\\n[1]")
    >>> form.path, int(found[form.length]), found[form.groups["x-id"]]
    ('/a', 3, b'8')
    """

    def __init__(self, wanted: frozenset[bytes]) -> None:
        self._wanted = wanted
        self._forms: dict[bytes, tuple[Form, ...]] = {}
        self._credit = FIRST_CREDIT

    def find(self, data: bytes) -> tuple[Form, Match[bytes]] | None:
        """The form of the head that ``data`` begins with."""
        end = data.find(b"\r\n", 0, LONGEST_START)
        if end > 0:
            for form in self._forms.get(data[:end], ()):
                if (found := form.match(data)) is not None:
                    return form, found
        return None

    def learn(self, side: int, data: bytes) -> None:
        """The parser has accepted a head of ``side`` that ``data`` begins with: know it from now on, if it can be."""
        self._credit = min(self._credit + CREDIT, FIRST_CREDIT)
        end = data.find(b"\r\n\r\n")
        if end < 0 or self._credit < 1.0:
            return
        self._credit -= LOOK
        line, *fields = data[:end].split(b"\r\n")
        start = _START[side].fullmatch(line) if len(line) < LONGEST_START else None
        read = self._read(fields) if start is not None else None
        if start is None or read is None:
            return
        headers, names, pattern = read
        pattern = re.escape(line) + pattern + rb"\r\n\r\n"
        alike = self._forms.get(line, ())
        if any(form.pattern == pattern for form in alike):
            return
        if not alike and len(self._forms) >= MOST_STARTS:
            self._forms.clear()
        self._credit -= 1.0
        self._forms[line] = (Form(start, headers, names, pattern), *alike[: MOST_FORMS - 1])

    def _read(self, fields: Sequence[bytes]) -> tuple[dict[str, str], list[str], bytes] | None:
        """Header lines to the values that are fixed, the names of the pattern's groups, and the pattern."""
        headers: dict[str, str] = {}
        names: list[str] = []
        pattern = b""
        for line in fields:
            field = _FIELD.fullmatch(line)
            if field is None:
                return None
            written, value = field.groups()
            name = written.decode().lower()
            wanted = name == LENGTH or name.encode() in self._wanted
            if name in _OTHER or (wanted and (name in headers or name in names or not _TEXT.fullmatch(value))):
                return None
            if name == "connection" and value.strip().lower() != b"keep-alive":
                return None
            pattern += rb"\r\n" + re.escape(written) + b":"
            if name in _STEADY or name == "connection":
                pattern += re.escape(value)
                if wanted:
                    headers[name] = value.decode().strip()
            elif wanted:
                pattern += _NUMBER if name == LENGTH else _KEPT
                names.append(name)
            else:
                pattern += _ANYTHING
        return (headers, names, pattern) if LENGTH in names else None
