"""One event a request: who may send, what is taken, and what is answered.

An answer of 202 means that the event is stored. Its body is empty: on a Kafka broker of Knative a body that is no
CloudEvent would count as a failure.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import ClientDisconnect

from monitor.events import InvalidEvent, Record
from monitor.ingest.metrics import Metrics
from monitor.ingest.recent import Recent
from monitor.ingest.room import Full, Place, Room
from monitor.ingest.tokens import Tokens
from monitor.structured import UNSUPPORTED, check_type
from monitor.transport.base import Publisher, Rejected, Unavailable
from monitor.transport.cloudevent_http import record_from_http

RETRY_AFTER = 1
"""Seconds that a sender is asked to wait at least."""

_logger = logging.getLogger("offpath.ingest")


class _TooLarge(ValueError):
    pass


class Endpoint:
    """Takes events.

    Parameters
    ----------
    publisher : takes the records.
    max_body : bytes; larger bodies are answered 413.
    tokens : if there are any, senders must show one as ``Authorization: Bearer``.
    remember : so many events are remembered by (source, id, type); the same one again is answered 202 and not stored.
    waiting : bytes of requests under way; what does not fit beside them is answered 429.
    timeout : seconds within which a body must have come.
    ready : raises :class:`Unavailable` while the transport is away; for ``/readyz``.
    clock : epoch seconds, the timestamp of records.
    by_request : records are keyed by request, not by model.

    Answers: 202 stored or known; 400 no valid CloudEvent, or one of a type that no worker can use, 401, 413, 415 batch
    or another format (all final for Knative); 408 the body did not come, 429 too much is under way, 503 the
    transport is away (all tried again; the last two with ``Retry-After``).
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        max_body: int,
        tokens: Tokens | None = None,
        remember: int = 100_000,
        waiting: int = 64 * 1024 * 1024,
        timeout: float = 30.0,
        ready: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
        by_request: bool = False,
    ) -> None:
        self._by_request = by_request
        self._publisher, self._max_body, self._ready, self._clock = publisher, max_body, ready, clock
        self._tokens, self._timeout = tokens, timeout
        self._recent, self._room = Recent(remember), Room(waiting)
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, lambda: self._room.held)

    def app(self) -> FastAPI:
        """``POST`` to any path, and what :meth:`admin_app` has."""
        app = self.admin_app()
        app.add_api_route("/{path:path}", self.take, methods=["POST"])
        app.add_exception_handler(405, _not_posted)
        return app

    def admin_app(self) -> FastAPI:
        """``GET /healthz``, ``/readyz`` and ``/metrics``."""
        app = FastAPI(title="offpath ingest", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/healthz", self.healthz, methods=["GET"])
        app.add_api_route("/readyz", self.readyz, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])
        return app

    async def take(self, request: Request) -> Response:
        """One event."""
        outcome, response = await self._judge(request)
        self._metrics.count(outcome)
        return response

    async def _judge(self, request: Request) -> tuple[str, Response]:
        if self._tokens and not self._tokens.admits(request.headers.get("authorization", "").encode("latin-1")):
            return "unauthorized", _error(
                401, "unauthorized", "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"}
            )
        try:
            with self._room.request() as place:
                body = await asyncio.wait_for(self._body(request, place), self._timeout)
                record = record_from_http(request.headers.raw, body, self._clock(), by_request=self._by_request)
                check_type(record.headers)
                return await self._store(record)
        except Full:
            return "busy", _later(429, "busy", "too many events are under way", 0.0)
        except asyncio.TimeoutError:
            return "timeout", _error(408, "timeout", f"the body did not come within {self._timeout:g} seconds")
        except ClientDisconnect:
            return "aborted", Response(status_code=400)
        except _TooLarge:
            message = f"the body is larger than {self._max_body} bytes (ingest.max_body)"
            return "too_large", _error(413, "too_large", message)
        except InvalidEvent as error:
            unsupported = error.reason == UNSUPPORTED
            outcome = "unsupported" if unsupported else "invalid"
            return outcome, _error(415 if unsupported else 400, error.reason, str(error))

    async def _store(self, record: Record) -> tuple[str, Response]:
        key = [record.headers[name] for name in ("ce_source", "ce_id", "ce_type")]
        try:
            stored = await self._recent.once(key, lambda: self._publisher.publish([record]))
        except Rejected as error:
            return "invalid", _error(400, "rejected", str(error))
        except Unavailable as error:
            _logger.warning("an event was sent back to its sender: %s", error)
            return "unavailable", _later(503, "unavailable", "the event cannot be stored now", error.retry_after)
        return "accepted" if stored else "duplicate", Response(status_code=202)

    async def _body(self, request: Request, place: Place) -> bytes:
        """The body, bounded: a length is believed when it is too large, never when it is small."""
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._max_body:
            raise _TooLarge
        body = bytearray()
        async for chunk in request.stream():
            place.grow(len(chunk))
            body += chunk
            if len(body) > self._max_body:
                raise _TooLarge
        return bytes(body)

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


async def _not_posted(*_: object) -> Response:
    allowed = {"Allow": "POST"}
    return _error(405, "method", "events are sent with POST; GET is for /healthz, /readyz and /metrics", allowed)


def _later(status: int, reason: str, message: str, seconds: float) -> JSONResponse:
    return _error(status, reason, message, {"Retry-After": str(max(RETRY_AFTER, math.ceil(seconds)))})


def _error(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message, "reason": reason}, status, headers)
