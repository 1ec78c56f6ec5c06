"""The status page and its API, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from detectors.base import FeatureVerdict, Histogram, Reason, Verdict
from monitor.web.app import create_app
from monitor.web.overview import MonitorInfo, Overview
from sinks.base import Finding, FlaggedInstance, Position
from sinks.store import FindingStore, StoreSink

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
NOW = START.timestamp() + 3600
HOSTILE = "<script>alert(1)</script>\"'&"


class Client:
    """Calls the application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://page") as client:
                return await client.request(method, path, **options)

        return asyncio.run(call())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


def finding(i: int, *, alarm: bool = False, monitor: str = "drift", text: str = "no drift") -> Finding:
    features = (
        FeatureVerdict(
            "Age", "numeric", "alert" if alarm else "ok", 0.5, 1e-9 if alarm else 0.5, 0.001, 0.4, 100, 2, 0, "",
            Histogram((0.5, 0.5), (0.1, 0.9), (10.0, 20.0, 30.0)),
        ),
        FeatureVerdict("Sex", "categorical", "ok", 1.0, 0.7, 0.001, 0.1, 100, 0, 1, "",
                       Histogram((0.4, 0.6), (0.5, 0.5), (), ("F", "M"))),
    )  # fmt: skip
    reasons = (Reason("Age", "mean", 38.6, 22.2, "Age: mean 38.6 -> 22.2"),) if alarm else ()
    verdict = Verdict("alert" if alarm else "ok", 100, 9.0 if alarm else 0.3, 3.0, 0.01, 0.4, features, reasons)
    end = START + timedelta(minutes=i)
    return Finding(
        f"f{i}-{monitor}", monitor, "default", "income", "drift", "window", "TabularDrift", verdict, alarm, end, START,
        end, Position("p/0", i, 0), Position("p/0", i, 9), 5, "Age: mean 38.6 -> 22.2" if alarm else text,
    )  # fmt: skip


def flagged(i: int) -> Finding:
    instance = FlaggedInstance(2, 0.71, {"Age": 190, "Sex": "F"}, {"Age": 0.9, "Sex": 0.1})
    made = finding(i, monitor="outliers", text="Age = 190 (score 0.71, threshold 0.69)")
    return replace(
        made, kind="outlier", scope="instance", alarm=True, instances=(instance,), event_id="e-1", request_id="r-1"
    )


def serve(folder: Path, *findings: Finding, names: tuple[str, ...] = ("drift", "outliers")) -> Iterator[Client]:
    async def fill() -> None:
        sink = StoreSink(folder / "f.db")
        await sink.write(findings)
        await sink.flush()
        await sink.close()

    asyncio.run(fill())
    infos = tuple(
        MonitorInfo(
            n, "default", "income", "outlier" if n == "outliers" else "drift", "TabularDrift", "windows of 100 rows"
        )
        for n in names
    )
    registry = CollectorRegistry()
    Counter("offpath_events", "Events.", registry=registry).inc(3)
    overview = Overview(infos, lambda: NOW, lambda: {"events": 3, "behind": 0})
    store = FindingStore(folder / "f.db")
    yield Client(create_app(store, registry, overview))
    store.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Client]:
    yield from serve(tmp_path, *(finding(i, alarm=i >= 8) for i in range(10)), flagged(4))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Client]:
    yield from serve(tmp_path)


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action") and value]


def crawl(client: Client) -> dict[str, str]:
    """Every page that can be reached from the front by links."""
    found: dict[str, str] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in found or path.startswith("#"):
            continue
        answer = client.get(path)
        assert answer.status_code == 200, path
        found[path] = answer.text
        if "html" in answer.headers["content-type"]:
            waiting += Links(answer.text).links
    return found


def test_the_front_page_shows_every_state_at_a_glance(page: Client) -> None:
    text = page.get("/").text
    assert re.search(r'class="card alarm">.*?drift', text, flags=re.DOTALL)
    assert "Age: mean 38.6 \N{RIGHTWARDS ARROW} 22.2" in text
    assert "Age = 190" in text
    assert "2 watching, 1 in alarm" in text


def test_a_monitor_page_has_everything(page: Client) -> None:
    text = page.get("/monitors/drift").text
    for wanted in (
        "Statistic against threshold",
        "<svg",
        "Reference against window",
        "Columns, last window",
        "Age",
        "Sex",
    ):
        assert wanted in text
    assert "Flagged instances" in page.get("/monitors/outliers").text
    assert "190" in page.get("/monitors/outliers").text


def test_after_an_alarm_its_window_is_shown_and_said_to_be(tmp_path: Path) -> None:
    for page in serve(tmp_path, finding(1, alarm=True), finding(2)):
        text = page.get("/monitors/drift").text
        assert re.search(r"Reference against window of the last alarm, [0-9-]+ [0-9:]+: the columns", text)


def test_every_link_works_and_none_leads_away(page: Client) -> None:
    found = crawl(page)
    assert {
        "/",
        "/monitors/drift",
        "/monitors/outliers",
        "/findings/f9-drift",
        "/api/monitors",
        "/metrics",
    } <= found.keys()
    for path, text in found.items():
        if text.startswith("<!doctype"):
            parsed = Links(text)
            assert not parsed.tags & {"script", "img", "iframe", "link", "object"}, path
            assert all(link.startswith(("/", "#")) for link in parsed.links), path
            assert "url(" not in text
            assert "@import" not in text


def test_the_api_says_the_same(page: Client) -> None:
    monitors = page.get("/api/monitors").json()
    assert [(m["name"], m["state"]) for m in monitors] == [("drift", "alarm"), ("outliers", "waiting")]
    detail = page.get("/api/monitors/drift").json()
    assert detail["counts"] == {"ok": 8, "alert": 2, "insufficient_data": 0, "alarms": 2, "flagged_events": 0}
    assert [row["name"] for row in detail["features"]] == ["Age", "Sex"]
    timeline = page.get("/api/monitors/drift/timeline?limit=3").json()
    assert [entry["id"] for entry in timeline] == ["f7-drift", "f8-drift", "f9-drift"]
    assert [f["id"] for f in page.get("/api/findings?alarm=true").json()] == ["f9-drift", "f8-drift", "f4-outliers"]
    assert [f["id"] for f in page.get("/api/findings?scope=instance").json()] == ["f4-outliers"]
    assert page.get("/api/findings/f4-outliers").json()["instances"][0]["values"] == {"Age": 190, "Sex": "F"}
    assert page.get("/api/pipeline").json() == {"events": 3, "behind": 0}
    assert "/api/monitors/{name}" in page.get("/api/openapi.json").json()["paths"]


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_the_api_lists_its_paths(page: Client, path: str) -> None:
    told = page.get(path)
    assert told.status_code == 200
    paths = told.json()
    assert paths["/api/monitors"] == "Every monitor's state at a glance."
    assert paths.keys() >= {"/api/findings", "/api/pipeline", "/api/openapi.json"}
    known = {"{name}": "drift", "{identity}": "f9-drift"}
    for there in paths:
        asked = re.sub(r"\{\w+\}", lambda found: known[found.group()], there)
        assert page.get(asked).status_code == 200, there


def test_findings_of_a_monitor_that_is_configured_no_more(tmp_path: Path) -> None:
    for client in serve(tmp_path, finding(1, alarm=True, monitor="old")):
        assert [f["id"] for f in client.get("/api/findings?monitor=old").json()] == ["f1-old"]
        assert client.get("/api/findings?monitor=old&alarm=false").json() == []
        assert client.get("/api/findings?monitor=drift").json() == []


@pytest.mark.parametrize(("alarms", "said"), [(0, "0 alarms"), (1, "1 alarm &middot;"), (2, "2 alarms")])
def test_one_alarm_is_one_alarm(tmp_path: Path, alarms: int, said: str) -> None:
    made = (replace(finding(i, alarm=True), events=1) for i in range(alarms))
    for client in serve(tmp_path, *made, names=("drift",)):
        assert said in client.get("/").text
        if alarms:
            assert "100 of 1 event," in client.get("/findings/f0-drift").text


def test_of_many_categories_those_that_differ_most(tmp_path: Path) -> None:
    labels = tuple(f"c{i}" for i in range(43))
    reference = tuple(1 / 43 for _ in labels)
    window = tuple(share * (4 if i in (3, 20, 42) else 0.775) for i, share in enumerate(reference))
    made = finding(1, alarm=True)
    column = made.verdict.features[1]._replace(histogram=Histogram(reference, window, (), labels))
    for client in serve(tmp_path, replace(made, verdict=replace(made.verdict, features=(column,)))):
        (picture,) = re.findall(r'<svg class="hist".*?</svg>', client.get("/findings/f1-drift").text)
        texts = re.findall(r"<text[^>]*>(.*?)</text>", picture)
        assert {"c3", "c20", "c42"} <= set(texts)
        assert texts[4] == "39 others"
        assert texts[5:] == ["90.7%", "\N{RIGHTWARDS ARROW} 70.3%"]
        assert picture.count("<rect") == 8
        assert f'y="8.0" width="27.9" height="104.0"><title>c20: {4 / 43:.1%}' in picture, "the others set no scale"
        assert f"<title>c20: {4 / 43:.1%}</title>" in picture


def test_an_empty_store(empty: Client) -> None:
    crawl(empty)
    assert "no window has been judged yet" in empty.get("/").text
    assert "No window has been judged yet" in empty.get("/monitors/drift").text
    assert empty.get("/api/findings").json() == []


def test_without_monitors(tmp_path: Path) -> None:
    for client in serve(tmp_path, names=()):
        assert "No monitor is configured" in client.get("/").text


@pytest.mark.parametrize(
    "path", ["/monitors/nope", "/findings/nope", "/nowhere", "/monitors/" + HOSTILE.replace("/", "")]
)
def test_what_is_not_there_is_said_in_words(page: Client, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 404
    assert "there is no" in answer.text
    assert "<script" not in answer.text


def test_mistakes_in_api_calls(page: Client) -> None:
    answer = page.get("/api/monitors/drft")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no monitor 'drft'; there are: drift, outliers",
    )
    answer = page.get("/api/findings?monitor=drft")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no monitor 'drft'; there are: drift, outliers",
    )
    answer = page.get("/api/findings?scope=windw")
    assert answer.status_code == 422
    assert "'window' or 'instance'" in answer.json()["detail"][0]["msg"]
    assert page.get("/api/findings?limit=0").status_code == 422
    assert page.get("/api/findings?limit=100000").status_code == 422
    assert page.post("/api/monitors").status_code == 405


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    made = finding(1, alarm=True)
    column = made.verdict.features[0]._replace(name=HOSTILE)
    labels = Histogram((0.5, 0.5), (0.5, 0.5), (), (HOSTILE, "b"))
    other = made.verdict.features[1]._replace(name="x", histogram=labels, note=HOSTILE)
    reasons = (Reason(HOSTILE, "mean", 1.0, 2.0, HOSTILE),)
    verdict = replace(made.verdict, features=(column, other), reasons=reasons)
    odd = replace(made, verdict=verdict, text=HOSTILE)
    instance = FlaggedInstance(0, 1.0, {HOSTILE: HOSTILE}, {HOSTILE: 1.0})
    row = replace(flagged(2), instances=(instance,), text=HOSTILE, event_id=HOSTILE, request_id=HOSTILE)
    for client in serve(tmp_path, odd, row):
        for path, text in crawl(client).items():
            if text.startswith("<!doctype"):
                assert "<script" not in text, path
                assert HOSTILE not in text, path


def test_many_findings_make_no_endless_page(tmp_path: Path) -> None:
    for client in serve(tmp_path, *(finding(i, alarm=True) for i in range(5000))):
        assert len(client.get("/").text) < 100_000
        assert len(client.get("/monitors/drift").text) < 300_000


def test_headers_that_browsers_heed(page: Client) -> None:
    headers = page.get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert "json" in page.get("/api/monitors").headers["content-type"]


def test_operations(page: Client) -> None:
    assert "offpath_events_total 3.0" in page.get("/metrics").text
    assert (
        "openmetrics"
        in page.get("/metrics", headers={"accept": "application/openmetrics-text"}).headers["content-type"]
    )
    assert page.get("/healthz").json() == page.get("/readyz").json() == {"status": "ok"}


def test_a_store_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for client in serve(tmp_path, finding(1)):
        (tmp_path / "f.db").write_bytes(b"nonsense" * 1000)
        answer = client.get("/monitors/drift")
        assert answer.status_code == 503
        assert "cannot be used" in answer.text


def test_values_of_findings_are_json(page: Client) -> None:
    json.dumps(page.get("/api/findings/f9-drift").json(), allow_nan=False)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio."""

    def luminance(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_light_and_dark(page: Client) -> None:
    schemes: list[dict[str, Any]] = [
        dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root\{(.*?)\}", page.get("/").text, flags=re.DOTALL)
    ]
    assert len(schemes) == 2
    pairs = [("ink", "bg"), ("ink", "card"), ("soft", "bg"), ("soft", "card"), ("line", "card"), ("line", "bg")]
    pairs += [(name, f"{name}bg") for name in ("ok", "alarm", "alert", "low")]
    for colours in schemes:
        for text, ground in pairs:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
