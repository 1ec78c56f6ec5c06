"""The status page and its JSON API: server-rendered, without scripts, fonts or anything else from a network."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jinja2
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from monitor.web import charts, views
from monitor.web.histogram import histogram
from monitor.web.overview import MonitorInfo, Overview
from sinks.base import Scope
from sinks.records import Unavailable
from sinks.store import FindingStore

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Page = Callable[..., HTMLResponse]
Known = Callable[[str], MonitorInfo]
READ = ["GET", "HEAD"]
Limit = Annotated[int, Query(ge=1, le=1000)]


def create_app(store: FindingStore, registry: CollectorRegistry, overview: Overview) -> FastAPI:
    """The application; ``store`` and ``registry`` are only read."""
    app = FastAPI(title="offpath", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
    )
    pages.filters.update(number=views.number, moment=views.moment, words=views.words, counted=views.counted)

    @app.middleware("http")
    async def secure(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers.update(SECURITY)
        return response

    def known(name: str) -> MonitorInfo:
        info = overview.monitor(name)
        if info is None:
            there = ", ".join(monitor.name for monitor in overview.monitors)
            raise HTTPException(404, f"there is no monitor {name!r}; there are: {there}")
        return info

    def page(template: str, **values: Any) -> HTMLResponse:
        pipeline = overview.pipeline()
        return HTMLResponse(pages.get_template(template).render(title=overview.title, pipeline=pipeline, **values))

    _errors(app, page)
    _pages(app, store, overview, page, known)
    _api(app, store, overview, known)
    _api_findings(app, store, known)
    _operations(app, registry)
    return app


def _errors(app: FastAPI, page: Page) -> None:
    def told(request: Request, status: int, text: str) -> Response:
        if request.url.path.startswith("/api"):
            return JSONResponse({"detail": text}, status)
        shown = page("error.html", status=f"{status} {HTTPStatus(status).phrase}", text=text)
        shown.status_code = status
        return shown

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> Response:
        plain = error.detail == HTTPStatus(error.status_code).phrase
        return told(request, error.status_code, "there is no such page" if plain else str(error.detail))

    @app.exception_handler(Unavailable)
    async def away(request: Request, error: Unavailable) -> Response:
        return told(request, 503, str(error))


def _pages(app: FastAPI, store: FindingStore, overview: Overview, page: Page, known: Known) -> None:
    @app.api_route("/", methods=READ, response_class=HTMLResponse, include_in_schema=False)
    def front() -> HTMLResponse:
        monitors = views.front(overview, store)
        for monitor in monitors:
            entries = store.timeline(monitor["name"], 40)
            monitor["spark"] = charts.sparkline(
                [e["statistic"] for e in entries], [e["state"] == "alert" for e in entries]
            )
        return page("front.html", monitors=monitors, findings=store.findings(alarm=True, limit=10))

    @app.get("/monitors/{name}", response_class=HTMLResponse, include_in_schema=False)
    def monitor(name: str) -> HTMLResponse:
        info = known(name)
        entries = store.timeline(name, 120)
        for entry, when in zip(entries, views.clock_times([entry["end"] for entry in entries]), strict=True):
            entry["when"] = when
        shown = views.detail(info, store, overview.clock())
        for column in shown["worst"]:
            column["picture"] = histogram(column["histogram"], f"{column['name']}: reference against window")
        return page(
            "monitor.html",
            monitor=shown,
            chart=charts.timeline(entries, f"{name}: statistic against threshold"),
            windows=store.findings(monitor=name, scope="window", limit=15),
            flagged=store.findings(monitor=name, scope="instance", limit=25),
        )

    @app.get("/findings/{identity}", response_class=HTMLResponse, include_in_schema=False)
    def finding(identity: str) -> HTMLResponse:
        found = store.finding(identity)
        if found is None:
            raise HTTPException(404, "there is no such finding, or it was pruned")
        columns = views.worst(found)
        for column in columns:
            column["picture"] = histogram(column["histogram"], f"{column['name']}: reference against window")
        return page("finding.html", finding=found, features=views.feature_rows(found), worst=columns)


def _api(app: FastAPI, store: FindingStore, overview: Overview, known: Known) -> None:
    @app.get("/api", include_in_schema=False)
    @app.get("/api/", include_in_schema=False)
    def index() -> dict[str, str]:
        """What can be asked for: paths, and what each answers."""
        paths = {path: asked["get"]["description"] for path, asked in app.openapi()["paths"].items()}
        return {**paths, "/api/openapi.json": "All this in OpenAPI's words, with parameters."}

    @app.get("/api/monitors")
    def monitors() -> list[dict[str, Any]]:
        """Every monitor's state at a glance."""
        return views.front(overview, store)

    @app.get("/api/monitors/{name}")
    def monitor(name: str) -> dict[str, Any]:
        """One monitor: state, last evaluation, columns, counts."""
        return views.detail(known(name), store, overview.clock())

    @app.get("/api/monitors/{name}/timeline")
    def timeline(name: str, limit: Limit = 200) -> list[dict[str, Any]]:
        """The last evaluations, oldest first."""
        return store.timeline(known(name).name, limit)

    @app.get("/api/pipeline")
    def pipeline() -> dict[str, Any]:
        """Whether the pipeline itself is well."""
        return dict(overview.pipeline())


def _api_findings(app: FastAPI, store: FindingStore, known: Known) -> None:
    @app.get("/api/findings")
    def findings(
        monitor: str | None = None, scope: Scope | None = None, alarm: bool | None = None, limit: Limit = 50
    ) -> list[dict[str, Any]]:
        """The newest findings that fit, newest first; ``scope`` is ``window`` or ``instance``."""
        if monitor is not None and not store.findings(monitor=monitor, limit=1):
            known(monitor)  # a monitor that is configured no more may have findings
        return store.findings(monitor=monitor, scope=scope, alarm=alarm, limit=limit)

    @app.get("/api/findings/{identity}")
    def finding(identity: str) -> dict[str, Any]:
        """One finding."""
        found = store.finding(identity)
        if found is None:
            raise HTTPException(404, "there is no such finding, or it was pruned")
        return found


def _operations(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.api_route("/metrics", methods=READ, include_in_schema=False)
    def metrics(request: Request) -> Response:
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": kind})

    @app.api_route("/healthz", methods=READ, include_in_schema=False)
    @app.api_route("/readyz", methods=READ, include_in_schema=False)
    def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})
