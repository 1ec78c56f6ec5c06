"""The status page of a real worker in headless Chromium: what a person sees, clicks and reads."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
import yaml
from prometheus_client import CollectorRegistry
from servers import free_port
from websockets.sync.client import connect

from detectors import artifact, registry
from detectors.base import Feature, FeatureVerdict, Histogram, Reason, Verdict
from monitor import configuration, wiring
from monitor.events import Record
from monitor.web.app import create_app
from monitor.web.overview import MonitorInfo, Overview
from monitor.web.server import PageServer
from sinks.base import Finding, FlaggedInstance, Position
from sinks.store import FindingStore, StoreSink

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
FEATURES = (Feature("Age"), Feature("Hours"), Feature("Sex", "categorical", ("Female", "Male")))


until = partial(servers.until, despite=(OSError,))


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def write_story(folder: Path) -> Path:
    """Reference, detectors, a log with clean and then young people, and a configuration; answers its path."""
    rng = np.random.default_rng(0)
    x_ref = np.column_stack(
        [rng.normal(40, 12, 4000).round(), rng.normal(40, 8, 4000).round(), rng.integers(0, 2, 4000)]
    )
    for kind in ("TabularDrift", "IForest"):
        detector: Any = registry.create(kind)
        artifact.save(detector.fit(x_ref, FEATURES), folder / kind)
    columns = [{"name": f.name, "type": f.kind, "categories": f.categories} for f in FEATURES]
    document = {
        "models": [{"name": "income", "features": json.loads(json.dumps(columns))}],
        "monitors": [
            {"name": name, "model": "income", "window": {"count": 200}, "detector": {"type": kind, "artifact": kind}}
            for name, kind in (("income-drift", "TabularDrift"), ("income-outliers", "IForest"))
        ],
    }
    path = folder / "offpath.yaml"
    path.write_text(yaml.safe_dump(document))
    people = random.Random(1)
    log = wiring.open_log(configuration.load(path, {}))
    log.append("payloads", [record(i, people) for i in range(2400)])
    log.close()
    return path


def record(i: int, people: random.Random) -> Record:
    age = people.gauss(40, 12) if i < 1600 else people.gauss(24, 4)
    row = [190 if i == 700 else round(age), round(people.gauss(40, 8)), people.choice(["Female", "Male"])]
    headers = {
        "ce_id": str(i), "ce_source": "test", "ce_type": "org.kubeflow.serving.inference.request",
        "ce_modelid": "income", "ce_time": f"2026-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z",
    }  # fmt: skip
    return Record("default/income", headers, json.dumps({"instances": [row]}).encode(), 1.7e9)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a worker that has judged the story."""
    config = write_story(tmp_path_factory.mktemp("story"))
    listen = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor", "worker", "--config", str(config), "--listen", listen],
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: get(f"http://{listen}/api/monitors/income-drift")["counts"]["alarms"] >= 3, "the alarm")
        yield f"http://{listen}"
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


class Browser:
    """A tab of headless Chromium, spoken to over its DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._closing = ExitStack()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        try:
            self._connect(folder)
        except BaseException:
            self.close()
            raise

    def _connect(self, folder: Path) -> None:
        told = folder / "DevToolsActivePort"  # it is there before its first line is
        port = until(lambda: (told.read_text().splitlines() or [""])[0], "Chromium's start")
        tab = next(t for t in until(lambda: get(f"http://127.0.0.1:{port}/json")) if t["type"] == "page")
        self._socket = self._closing.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None))
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=60))
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]
            self.events.append(told)

    def evaluate(self, script: str) -> Any:
        """Its value; again, where the page, which renews itself, is being loaded just then and there is no document."""
        for _ in range(100):
            answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
            if "exceptionDetails" not in answer:
                return answer["result"].get("value")
            time.sleep(0.05)
        raise AssertionError(f"{script}: {answer['exceptionDetails']}")

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        until(lambda: self.evaluate("document.readyState") == "complete" and self.evaluate("location.href") == url)

    def click(self, text: str) -> None:
        """Click, with the mouse, on the first link that reads so, and wait for its page."""
        before = self.evaluate("location.href")
        found = self.evaluate(
            f"(() => {{const text = {json.dumps(text)};"
            "const a = [...document.querySelectorAll('a')].find(a => a.innerText.trim() === text);"
            "if (!a) return null; a.scrollIntoView(); const r = a.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        assert found, f"no link {text!r}"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1)
        until(lambda: self.evaluate("location.href") != before and self.evaluate("document.readyState") == "complete")

    def look(self, width: int, height: int, *, dark: bool = False) -> bytes:
        """A screenshot (PNG)."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def close(self) -> None:
        self._closing.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    running = Browser(tmp_path / "profile")
    yield running
    running.close()


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and unfiltered scan lines of a PNG of 8-bit RGB or RGBA; a filter byte begins each line."""
    width, height, _, colour = struct.unpack(">IIBB", png[16:26])
    at, packed = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        packed += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    return width, height * (4 if colour == 6 else 3), zlib.decompress(packed)


def corner(png: bytes) -> int:
    """Brightness of the top left pixel, whatever filter its line has."""
    return pixels(png)[2][1]


def keep(name: str, png: bytes) -> None:
    """Leave the picture where somebody can look at it, if asked to."""
    if folder := os.environ.get("OFFPATH_TEST_SCREENSHOTS"):
        Path(folder, name).write_bytes(png)


def test_a_person_finds_the_reason_of_an_alarm(page: str, browser: Browser) -> None:
    browser.go(page + "/")
    text = browser.evaluate("document.body.innerText")
    assert "income-drift" in text
    assert "Alarm" in text
    assert re.search(r"Age: mean \d+(\.\d+)? \N{RIGHTWARDS ARROW} 2\d", text)
    browser.click("income-drift")
    assert browser.evaluate("location.pathname") == "/monitors/income-drift"
    text = browser.evaluate("document.body.innerText")
    for wanted in (
        "Statistic against threshold",
        "Reference against window",
        "Columns, last window",
        "Last evaluations",
    ):
        assert wanted in text
    assert browser.evaluate("document.querySelectorAll('svg.chart polyline').length") >= 1
    assert browser.evaluate("document.querySelectorAll('svg.hist').length") == 3
    first = browser.evaluate("document.querySelector('td.t a').innerText")
    browser.click(first)
    assert browser.evaluate("location.pathname").startswith("/findings/")
    assert "Age" in browser.evaluate("document.body.innerText")
    browser.click("offpath")
    assert browser.evaluate("location.pathname") == "/"
    browser.click("income-outliers")
    text = browser.evaluate("document.body.innerText")
    assert "Flagged instances" in text
    assert "190" in text


def test_no_errors_no_scripts_and_nothing_from_elsewhere(page: str, browser: Browser) -> None:
    for path in ("/", "/monitors/income-drift", "/monitors/income-outliers"):
        browser.go(page + path)
    browser.evaluate("1")
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(page) for url in asked if not url.startswith("about:"))
    complaints = [e["params"]["entry"] for e in browser.events if e["method"] == "Log.entryAdded"]
    assert [c for c in complaints if "favicon" not in c.get("url", "")] == []
    assert browser.evaluate("document.scripts.length") == 0


@pytest.mark.parametrize("path", ["/", "/monitors/income-drift", "/monitors/income-outliers"])
def test_light_dark_and_phone(page: str, browser: Browser, path: str) -> None:
    browser.go(page + path)
    name = path.strip("/").replace("/", "-") or "front"
    light, dark = browser.look(1280, 900), browser.look(1280, 900, dark=True)
    keep(f"{name}-light.png", light)
    keep(f"{name}-dark.png", dark)
    assert corner(light) > 200
    assert corner(dark) < 80
    phone = browser.look(390, 844)
    keep(f"{name}-phone.png", phone)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390, (
        "nothing is cut off, nothing scrolls sideways"
    )


def test_the_keyboard_shows_where_it_is(page: str, browser: Browser) -> None:
    browser.go(page + "/")
    names = []
    for _ in range(4):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        names.append(browser.evaluate("document.activeElement.innerText.trim()"))
    assert names[:2] == ["Skip to the content", "offpath"]
    assert "income-drift" in names
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid"


START = datetime(2026, 1, 1, tzinfo=timezone.utc)
LONG = "column_" * 17 + "x"
WIDE = "W" * 160
LABELS = tuple(f"WIDE OCCUPATION {i}" for i in range(43))


def crowded(i: int) -> Finding:
    """A finding of a long name and of many categories; the 120th, the newest, is an alarm."""
    shares = tuple(1 / 43 for _ in LABELS)
    after = tuple(share * (4 if j in (3, 20, 42) else 0.775) for j, share in enumerate(shares))
    features = (
        FeatureVerdict(LONG, "numeric", "alert", 0.5, 1e-9, 0.001, 0.4, 100, 2, 0, "",
                       Histogram((0.5, 0.5), (0.1, 0.9), (10.0, 20.0, 30.0))),
        FeatureVerdict("occupation", "categorical", "ok", 1.0, 0.7, 0.001, 0.1, 100, 0, 1, "",
                       Histogram(shares, after, (), LABELS)),
        FeatureVerdict("Age", "numeric", "ok", 0.5, 0.5, 0.001, 0.4, 100, 2, 0, ""),
    )  # fmt: skip
    told = f"{LONG}: mean 38.6 -> 22.2"
    verdict = Verdict("alert", 100, 9.0, 3.0, 0.01, 0.4, features, (Reason(LONG, "mean", 38.6, 22.2, told),))
    end = START + timedelta(minutes=i)
    row = FlaggedInstance(2, 0.71, {LONG: 190, "occupation": WIDE}, {LONG: 0.9})
    return Finding(
        f"f{i}", "drift", "default", "income", "drift", "window", "TabularDrift", verdict, i == 119, end, START,
        end, Position("p/0", i, 0), Position("p/0", i, 9), 5, told, instances=(row,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page whose names, values and categories are longer and more than there is room for."""
    path = tmp_path_factory.mktemp("tight") / "findings.db"

    async def fill() -> None:
        sink = StoreSink(path)
        await sink.write([crowded(i) for i in range(120)])
        await sink.flush()
        await sink.close()

    asyncio.run(fill())
    store = FindingStore(path)
    info = MonitorInfo("drift", "default", "income", "drift", "TabularDrift", "windows of 100 rows")
    overview = Overview((info,), START.timestamp, lambda: {"events": 1})
    server = PageServer(create_app(store, CollectorRegistry(), overview), "127.0.0.1:0", close=store.close)
    yield server.address
    server.stop()


BOXES = (
    "(chosen => [...document.querySelectorAll(chosen)].map(e => e.getBoundingClientRect())"
    ".filter(r => r.width).map(r => [r.left, r.top, r.right, r.bottom]))"
)


def boxes(browser: Browser, chosen: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of what a CSS selector chooses and the page shows."""
    return [tuple(box) for box in browser.evaluate(f"{BOXES}({json.dumps(chosen)})")]


def pictured(browser: Browser, name: str) -> None:
    for dark in (True, False):
        browser.look(1200, 900, dark=dark)
        shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        keep(f"{name}-{'dark' if dark else 'light'}.png", base64.b64decode(shot))


@pytest.mark.parametrize("path", ["/monitors/drift", "/findings/f119", "/"])
def test_long_names_and_values_hide_no_other_column(tight: str, browser: Browser, path: str) -> None:
    browser.go(tight + path)
    pictured(browser, f"tight-{path.strip('/').replace('/', '-') or 'front'}")
    cells = boxes(browser, "th, td, h1, h3, p")
    assert len(cells) > 5
    assert max(right for _, _, right, _ in cells) <= 1200
    assert not browser.evaluate("[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)")
    browser.look(390, 844)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    narrow = browser.evaluate(
        "[...document.querySelectorAll('td.v')].filter(e => e.getBoundingClientRect().width < 100).length"
    )
    assert narrow == 0, "on a phone a table scrolls rather than break names at every letter"


@pytest.mark.parametrize(("width", "marks"), [(390, 120), (1200, 120)])
def test_the_newest_point_is_seen_and_its_text_can_be_read(
    tight: str, browser: Browser, width: int, marks: int
) -> None:
    browser.go(tight + "/monitors/drift")
    keep(f"tight-chart-{width}.png", browser.look(width, 844))
    (card,) = boxes(browser, ".plot")
    (alarm,) = boxes(browser, "svg.chart .alarm")
    assert card[0] < alarm[0] < alarm[2] <= card[2] <= width
    assert len(boxes(browser, "svg.chart .mark, svg.chart .alarm")) == marks
    texts = boxes(browser, "svg.chart text")
    assert all(card[0] <= left and right <= card[2] for left, _, right, _ in texts)
    assert min(bottom - top for _, top, _, bottom in texts) >= 9


@pytest.mark.parametrize("width", [390, 1200])
def test_labels_of_many_categories_stand_apart(tight: str, browser: Browser, width: int) -> None:
    browser.go(tight + "/monitors/drift")
    keep(f"tight-histograms-{width}.png", browser.look(width, 844))
    texts = boxes(browser, "svg.hist[aria-label^=occupation] text")
    lowest = max(bottom for _, _, _, bottom in texts)
    labels = sorted(box for box in texts if box[3] > lowest - 1)
    assert len(labels) == 5
    assert all(one[2] <= other[0] for one, other in pairwise(labels))
    (picture,) = boxes(browser, "svg.hist[aria-label^=occupation]")
    assert picture[0] <= labels[0][0]
    assert labels[-1][2] <= picture[2]
