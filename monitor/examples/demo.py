"""The demo: a model in production with offpath beside it, from the first request to the alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from detectors.base import Array
from monitor.examples import deployment
from monitor.examples.outcome import Summary, summarise
from monitor.examples.processes import ProcessDied, Processes, free_port, reserve
from monitor.examples.story import Story
from monitor.examples.traffic import Sent, calls, send
from monitor.examples.watching import Seen, Watcher

START_SECONDS = 60.0
DRAIN_SECONDS = 30.0
LOOK_EVERY = 0.5
GENTLE_RATE = 40.0
"""Requests a second once everything has been shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent, how fast, and with which seed; ``window`` in rows."""

    seed: int = 1
    clean: int = 1400
    shifted: int = 500
    planted: int = 8
    rate: float = 250.0
    window: int = 500


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything answers."""

    model: str
    capture: str
    admin: str
    worker: str


Report = Callable[[str, Seen, Sent], None]


class Demo:
    """Everything started, in ``folder``; use as ``with Demo(...) as demo``."""

    def __init__(self, story: Story, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.story, self.plan, self.folder = story, plan, folder
        self.sent = Sent()
        self._say = say
        self._processes = Processes(folder)
        self._began = time.monotonic()
        self.addresses = self._start()
        self.watcher = Watcher(self.addresses.admin, self.addresses.worker)

    def __enter__(self) -> Demo:
        try:
            self._until("sidecar and worker", self.watcher.ready)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._processes.stop()
        self.watcher.close()

    def _start(self) -> Addresses:
        listener, model = reserve(8080)
        arguments = ["monitor.examples.model_server", "--example", self.story.name, "--fd", str(listener.fileno())]
        self._processes.start("model server", arguments, pass_fds=[listener.fileno()])
        listener.close()
        url = f"http://127.0.0.1:{model}"
        try:
            self._say("training the model and learning what is normal")
            deployment.fit(self.story, self._predictions(url), self.folder)
            ports = {"capture": free_port(9081), "admin": free_port(9082), "worker": free_port(9090)}
            config = deployment.configure(
                self.story, self.folder, model=model, window=self.plan.window, **ports
            )  # fmt: skip
            for name in ("worker", "capture"):
                self._processes.start(name, ["monitor", name, "--config", str(config)])
        except BaseException:
            self._processes.stop()
            raise
        return Addresses(url, *(f"http://127.0.0.1:{port}" for port in ports.values()))

    def _predictions(self, url: str) -> Array:
        """The model's answers for the reference: what prediction drift is compared with."""
        self._until("model server", lambda: _answers(f"{url}/v1/models/{self.story.name}"))
        answers = []
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
            for start in range(0, len(self.story.x_ref), 1000):
                rows = self.story.x_ref[start : start + 1000].tolist()
                answer = http.post(f"/v1/models/{self.story.name}:predict", json={"instances": rows})
                answers.append(np.asarray(answer.raise_for_status().json()["predictions"]))
        return np.concatenate(answers)

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self._processes.check()
            if time.monotonic() > deadline:
                raise ProcessDied(f"the {what} did not answer within {START_SECONDS:.0f} s; logs are in {self.folder}")
            time.sleep(0.05)

    async def run(self, report: Report, conclude: Callable[[Summary], None], *, once: bool) -> None:
        """Send the story and conclude; without ``once`` go on gently until cancelled."""
        plan, stop = self.plan, asyncio.Event()
        entries = calls(self.story, plan.clean, plan.shifted, plan.planted, plan.seed)
        clients = asyncio.create_task(send(entries, self.addresses.capture, self.sent, plan.rate, stop))
        while not clients.done():
            await self._look(report)
        await clients
        await self._drain(report)
        conclude(await asyncio.to_thread(self.summary))
        if not once:
            endless = calls(self.story, 0, 0, 0, plan.seed + 1)
            clients = asyncio.create_task(send(endless, self.addresses.capture, Sent(), GENTLE_RATE, stop))
            while not clients.done():
                await self._look(report)

    async def _look(self, report: Report) -> Seen:
        self._processes.check()
        seen = await asyncio.to_thread(self.watcher.look)
        stage = "clean traffic" if self.sent.shift_time is None else f"shifted: {self.story.shift_text}"
        report(stage, seen, self.sent)
        await asyncio.sleep(LOOK_EVERY)
        return seen

    async def _drain(self, report: Report) -> None:
        """Until the worker has judged all that was answered."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while (await self._look(report)).judged < 2 * self.sent.answered and time.monotonic() < deadline:
            pass

    def summary(self) -> Summary:
        name, seen = self.story.name, self.watcher.look()
        drift = (f"{name}-drift", f"{name}-predictions")
        texts = {found["id"]: found["text"] for found in self.watcher.findings(drift[0], "window")}
        return summarise(
            name,
            self.plan.seed,
            self.sent,
            seen.captured,
            seen.judged,
            {monitor: self.watcher.timeline(monitor) for monitor in drift},
            self.watcher.findings(f"{name}-outliers", "instance"),
            texts,
            time.monotonic() - self._began,
        )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
