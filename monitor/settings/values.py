"""Kinds of single values: numbers, names, addresses, patterns of paths, names of headers.

Numbers and flags are taken as they are: ``yes`` is no number, and ``"10"`` is text. What a kind's JSON Schema says is
what its validator says, so that editors find what ``offpath check`` finds.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Field, Strict

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Flag = Annotated[bool, Strict()]

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$",
        description="Letters, digits, '.', '_', '-'.",
    ),
]


def _path_pattern(text: str) -> str:
    if text != "inference" and not text.startswith(("/", "*")):
        raise ValueError(
            "expected a pattern of the whole path that begins with / or *, for example /v1/models/income:*, "
            "or the word inference"
        )
    return text


def _header_name(text: str) -> str:
    if not re.fullmatch(_HEADER, text):
        raise ValueError("expected the name of an HTTP header")
    return text.lower()


Text = Annotated[str, Field(min_length=1)]

_PORT = r":[0-9]{1,5}"
_ADDRESS = rf"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]/]*){_PORT}"
_HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SENDABLE = r"[^\s\x00-\x1f\x7f]"
_URL = (
    r"https?://([^/?#\s\x00-\x1f\x7f]*@)?"
    rf"(\[[0-9A-Fa-f:.]+\]|[^/?#\s\x00-\x1f\x7f@:\[\]]+)(:[0-9]{{0,5}})?([/?#]{_SENDABLE}*)?"
)


def same_place(one: str, other: str) -> bool:
    """Would a process that listens on both find the second one taken?

    >>> same_place("127.0.0.1:80", ":80"), same_place("model:80", ":80"), same_place(":0", ":0")
    (True, False, False)
    """
    if one.startswith("unix:") or other.startswith("unix:"):
        return one == other
    (host, _, port), (host_too, _, port_too) = one.rpartition(":"), other.rpartition(":")
    here = (host in _HERE) == (host_too in _HERE) and (host in _HERE or host == host_too)
    return here and int(port) == int(port_too) != 0


_HERE = ("", "0.0.0.0", "127.0.0.1", "localhost", "[::]", "[::1]")  # noqa: S104 - told apart, not listened on


def is_address(text: str) -> bool:
    """``host:port``, ``[IPv6]:port``, or ``:port`` for every interface."""
    return re.fullmatch(_ADDRESS, text) is not None and int(text.rpartition(":")[2]) < 65536


def _no_port_alone(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError("expected host:port, for example 127.0.0.1:9090")
    return value


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("expected host:port, for example 127.0.0.1:9090")
    return text


def _address_or_path(text: str) -> str:
    if not (is_address(text) or re.fullmatch(r"unix:.+", text)):
        raise ValueError("expected host:port, for example 127.0.0.1:9081, or unix:path")
    return text


def _url(text: str) -> str:
    """What a publisher over HTTP can be opened for."""
    if not re.match(r"https?://[^/]", text):
        raise ValueError("expected an address that begins with http:// or https://")
    host = "expected http:// or https:// and a host, for example http://broker.example:8080/path"
    try:
        parts = urlsplit(text)
        name = parts.hostname or ""
        name = name if ":" in name else name.encode("idna").decode("ascii")
    except ValueError:
        raise ValueError(f"{host}: this host cannot be read") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"{host}: its port is none from 1 to 65535")
    if not name or not re.fullmatch(_URL, text):
        raise ValueError(f"{host}: this cannot be read")
    return text


PathPattern = Annotated[str, AfterValidator(_path_pattern), Field(json_schema_extra={"pattern": r"^(inference$|[/*])"})]
HeaderName = Annotated[str, AfterValidator(_header_name), Field(json_schema_extra={"pattern": f"^{_HEADER}$"})]
Address = Annotated[
    str,
    BeforeValidator(_no_port_alone),
    AfterValidator(_address),
    Field(json_schema_extra={"pattern": f"^{_ADDRESS}$"}),
]
AddressOrPath = Annotated[
    str,
    BeforeValidator(_no_port_alone),
    AfterValidator(_address_or_path),
    Field(json_schema_extra={"pattern": f"^(unix:.+|{_ADDRESS})$"}),
]
Url = Annotated[str, AfterValidator(_url), Field(json_schema_extra={"pattern": f"^{_URL}$"})]
