"""How a gRPC call ended: the status in its trailers.

Source: gRPC over HTTP/2 (Status, Status-Message).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from monitor.capture.exchange import Exchange
from monitor.events import is_count

HTTP_STATUS = {
    1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip
"""gRPC's status codes as HTTP's, after google/rpc/code.proto: a failed call is told by its status, as any other."""


def code_of(told: Mapping[str, str]) -> int:
    """The code in the trailers; -1 if there is none, or something that is none.

    >>> code_of({"grpc-status": "14"}), code_of({}), code_of({"grpc-status": "x"})
    (14, -1, -1)
    """
    written = told.get("grpc-status", "")
    return int(written) if is_count(written) and len(written) < 4 else -1


def note_status(exchange: Exchange, code: int, told: Mapping[str, str]) -> None:
    """Tell the call's end with this response: a failed one by HTTP's status too."""
    headers = exchange.response.headers
    headers["grpc-status"] = str(code)
    if message := told.get("grpc-message", ""):
        headers["grpc-message"] = unquote(message)
    if code:
        exchange.status = HTTP_STATUS.get(code, 500)
