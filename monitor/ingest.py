"""The CloudEvents endpoint: takes events over HTTP (KServe, Seldon, Knative, any sender) into a transport.

An answer of 202 means that the event is stored. Its body is empty: on a Kafka broker of Knative a body that is no
CloudEvent would count as a failure.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Hashable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, disable_created_metrics, generate_latest
from starlette.requests import ClientDisconnect

from monitor.events import InvalidEvent, Record
from monitor.structured import UNSUPPORTED
from monitor.transport.base import Publisher, Rejected, Unavailable
from monitor.transport.cloudevent_http import record_from_http

RETRY_AFTER = "1"
"""Seconds that a sender is asked to wait while the transport is away."""

OUTCOMES = (
    "accepted",
    "duplicate",
    "invalid",
    "too_large",
    "unsupported",
    "unauthorized",
    "unavailable",
    "aborted",
)

_logger = logging.getLogger("offpath.ingest")


class _TooLarge(ValueError):
    pass


class _Recent:
    """The last ``size`` keys."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[Hashable, None] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def add(self, key: Hashable) -> None:
        self._keys[key] = None
        if len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]


def create_app(
    publisher: Publisher,
    *,
    max_body: int,
    token: str | None = None,
    seen: int = 100_000,
    ready: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application: ``POST`` to any path, ``GET /healthz``, ``/readyz`` and ``/metrics``.

    Parameters
    ----------
    publisher : takes the records.
    max_body : bytes; larger bodies are answered 413.
    token : if given, senders must show it as ``Authorization: Bearer``.
    seen : so many events are remembered by (source, id, type); the same one again is answered 202 and not stored.
    ready : raises :class:`Unavailable` while the transport is away; for ``/readyz``.
    clock : epoch seconds, the timestamp of records.

    Answers: 202 stored or known; 400 no valid CloudEvent, 401, 413, 415 batch or another format (all final for
    Knative); 503 with ``Retry-After`` when the transport is away.
    """
    endpoint = _Endpoint(publisher, max_body, token, seen, ready, clock)
    app = FastAPI(title="offpath ingest", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/healthz", endpoint.healthz, methods=["GET"])
    app.add_api_route("/readyz", endpoint.readyz, methods=["GET"])
    app.add_api_route("/metrics", endpoint.metrics, methods=["GET"])
    app.add_api_route("/{path:path}", endpoint.take, methods=["POST"])
    return app


class _Endpoint:
    def __init__(
        self,
        publisher: Publisher,
        max_body: int,
        token: str | None,
        seen: int,
        ready: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self._publisher, self._max_body, self._ready, self._clock = publisher, max_body, ready, clock
        self._authorization = f"Bearer {token}".encode() if token else None
        self._recent = _Recent(seen)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which tells nothing here
        self._registry = CollectorRegistry()
        self._events = Counter(
            "offpath_ingest_events_total",
            "Requests that brought an event, by outcome.",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in OUTCOMES:
            self._events.labels(outcome)

    async def take(self, request: Request) -> Response:
        """One event."""
        outcome, response = await self._judge(request)
        self._events.labels(outcome).inc()
        return response

    async def _judge(self, request: Request) -> tuple[str, Response]:
        if self._authorization and not self._authorized(request):
            return "unauthorized", _error(
                401, "unauthorized", "a valid bearer token is needed", "WWW-Authenticate", "Bearer"
            )
        try:
            record = record_from_http(request.headers.raw, await self._body(request), self._clock())
        except ClientDisconnect:
            return "aborted", Response(status_code=400)
        except _TooLarge:
            return "too_large", _error(413, "too_large", f"the body is larger than {self._max_body} bytes")
        except InvalidEvent as error:
            unsupported = error.reason == UNSUPPORTED
            outcome = "unsupported" if unsupported else "invalid"
            return outcome, _error(415 if unsupported else 400, error.reason, str(error))
        return await self._store(record)

    async def _store(self, record: Record) -> tuple[str, Response]:
        key = tuple(record.headers[name] for name in ("ce_source", "ce_id", "ce_type"))
        if key in self._recent:
            return "duplicate", Response(status_code=202)
        try:
            await self._publisher.publish([record])
        except Rejected as error:
            return "invalid", _error(400, "rejected", str(error))
        except Unavailable as error:
            _logger.warning("an event was sent back to its sender: %s", error)
            return "unavailable", _error(
                503, "unavailable", "the event cannot be stored now", "Retry-After", RETRY_AFTER
            )
        self._recent.add(key)
        return "accepted", Response(status_code=202)

    async def _body(self, request: Request) -> bytes:
        """The body, bounded: a length is believed when it is too large, never when it is small."""
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body:
            raise _TooLarge
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body:
                raise _TooLarge
        return bytes(body)

    def _authorized(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").encode("latin-1", "replace")
        return hmac.compare_digest(shown, self._authorization or b"")

    async def healthz(self) -> Response:
        """The process answers."""
        return Response("ok\n", media_type="text/plain")

    async def readyz(self) -> Response:
        """The transport can be reached."""
        try:
            await asyncio.to_thread(self._ready)
        except (Unavailable, ValueError) as error:
            return Response(f"{error}\n", status_code=503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


def _error(status: int, reason: str, message: str, *header: str) -> JSONResponse:
    headers = {header[0]: header[1]} if header else None
    return JSONResponse({"error": message, "reason": reason}, status, headers)
