"""Everything that the demo runs: model server, worker and sidecar, each a process, on the usual ports or free ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from detectors.base import Array
from monitor.examples import deployment
from monitor.examples.processes import ProcessDied, Processes, free_port, reserve
from monitor.examples.story import Story
from monitor.examples.watching import Watcher

START_SECONDS = 120.0
MODEL_PORT = 8080
PORTS = {"capture": 9081, "admin": 9082, "worker": 9090}
"""The usual ones."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything answers."""

    model: str
    capture: str
    admin: str
    worker: str


class Stack:
    """Started, fitted and ready once it is made; use as ``with Stack(...) as stack``.

    Parameters
    ----------
    story : whose model is served and watched.
    folder : where configuration, artefacts, logs and the embedded log go.
    window : rows a window.
    say : is told what takes a while.

    Raises
    ------
    ProcessDied : a process ended by itself; the message holds its last words.
    TimeoutError : a process did not answer.
    """

    def __init__(self, story: Story, folder: Path, window: int, say: Callable[[str], None]) -> None:
        self._story, self._folder, self._window = story, folder, window
        self._processes = Processes(folder)
        self.began = time.monotonic()
        try:
            listener, port = reserve(MODEL_PORT)
            self._serve_model(listener)
            say(f"training the {story.name} model, and learning what is normal")
            deployment.fit(story, self._predictions(f"http://127.0.0.1:{port}"), folder)
            self.addresses = self._observe(port)
        except BaseException:
            self._processes.stop()
            raise

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.stop()

    @property
    def log(self) -> Path:
        """The embedded log."""
        return self._folder / deployment.LOG

    def check(self) -> None:
        """Raise :class:`ProcessDied` if a process has ended."""
        self._processes.check()

    def _serve_model(self, listener: socket.socket) -> None:
        with listener:
            descriptor = listener.fileno()
            arguments = ["monitor.examples.model_server", "--example", self._story.name, "--fd", str(descriptor)]
            self._processes.start("model-server", arguments, pass_fds=[descriptor])

    def _predictions(self, url: str) -> Array:
        """The model's answers for the reference: what prediction drift is compared with."""
        name, x_ref = self._story.name, self._story.x_ref
        self._until("model server", lambda: _answers(f"{url}/v1/models/{name}"))
        answers = []
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
            for start in range(0, len(x_ref), 1000):
                rows = x_ref[start : start + 1000].tolist()
                answer = http.post(f"/v1/models/{name}:predict", json={"instances": rows})
                answers.append(np.asarray(answer.raise_for_status().json()["predictions"]))
        return np.concatenate(answers)

    def _observe(self, model: int) -> Addresses:
        """Start worker and sidecar, on the usual ports if they are free."""
        for attempt in range(3):
            ports = {name: free_port(0 if attempt else usual) for name, usual in PORTS.items()}
            try:
                return self._observe_on(model, ports)
            except ProcessDied:  # between the look and the start somebody else may have taken a port
                self._processes.stop("worker", "capture")
                if attempt == 2:
                    raise
        raise AssertionError("the last attempt answers or raises")

    def _observe_on(self, model: int, ports: dict[str, int]) -> Addresses:
        config = deployment.configure(self._story, self._folder, model=model, window=self._window, **ports)
        for name in ("worker", "capture"):
            self._processes.start(name, ["monitor", name, "--config", str(config)])
        addresses = Addresses(*(f"http://127.0.0.1:{port}" for port in (model, *ports.values())))
        with Watcher(addresses.admin, addresses.worker) as watcher:
            self._until("sidecar and worker", lambda: self._listen() and watcher.ready())
        return addresses

    def _listen(self) -> bool:
        """Whether ours listen: somebody else's may answer at these ports, if they were quicker."""
        return self._processes.said("worker", "status page on") and self._processes.said("capture", "relaying")

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self._processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the {what} did not answer within {START_SECONDS:.0f} s; logs are in {self._folder}"
                )
            time.sleep(0.05)
        self._processes.check()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
