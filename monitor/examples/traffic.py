"""The examples' clients: rows in a mix of three protocols, some impossible, later from another population."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import numpy as np

from detectors.base import Array
from monitor.examples.story import Story

MAX_ROWS = 8
CLOCK_ERROR = 0.01
"""Seconds by which the sidecar's clock may differ from the clients'."""


class Call(NamedTuple):
    """One request to send: its id, path, body, and which of its rows is impossible (or ``None``)."""

    request_id: str
    path: str
    body: dict[str, Any]
    planted: int | None
    shifted: bool


@dataclass(slots=True)
class Sent:
    """What the clients know: requests answered and failed, planted rows by request id, and when the shift began."""

    answered: int = 0
    failed: int = 0
    planted: dict[str, int] = field(default_factory=dict)
    shift_time: float | None = None


def id_prefix(seed: int) -> str:
    """How the request ids of a run begin."""
    return f"demo-{seed}-"


def calls(story: Story, clean: int, shifted: int, planted: int, seed: int) -> Iterator[Call]:
    """The requests of a run; ``shifted`` of 0 goes on for ever after the clean ones. Same seed, same requests."""
    rng = np.random.default_rng(seed)
    everyone = story.x_stream
    later = everyone[story.shifted(everyone)]
    spots = set(rng.choice(np.arange(clean // 10, clean), size=planted, replace=False).tolist())
    number = 0
    while number < clean + shifted or not shifted:
        is_shifted = number >= clean
        pool = later if is_shifted else everyone
        rows = pool[rng.integers(0, len(pool), rng.integers(1, MAX_ROWS + 1))].copy()
        row = None
        if number in spots:
            row = int(rng.integers(0, len(rows)))
            rows[row, story.impossible[0]] = story.impossible[1]
        path, body = _spoken(story, rows, number)
        yield Call(f"{id_prefix(seed)}{number}", path, body, row, is_shifted)
        number += 1


def _spoken(story: Story, rows: Array, number: int) -> tuple[str, dict[str, Any]]:
    """The rows in V1, V2 or Seldon, in turns."""
    name = story.name
    values = [[int(v) if v.is_integer() else v for v in row] for row in rows.tolist()]
    if number % 3 == 0:
        return f"/v1/models/{name}:predict", {"instances": values}
    if number % 3 == 1:
        tensor = {"name": "rows", "datatype": "FP64", "shape": list(rows.shape), "data": values}
        return f"/v2/models/{name}/infer", {"inputs": [tensor]}
    names = [feature.name for feature in story.features]
    return f"/seldon/seldon/{name}/api/v1.0/predictions", {"data": {"names": names, "ndarray": values}}


async def send(calls: Iterable[Call], url: str, sent: Sent, rate: float) -> None:
    """Send the calls, at most ``rate`` a second, over a few connections in turn.

    One at a time: the log's order, and with it every window, then depends on the seed alone.
    """
    context = ssl.create_default_context()
    async with AsyncExitStack() as stack:
        clients = [httpx.AsyncClient(base_url=url, timeout=30.0, trust_env=False, verify=context) for _ in range(4)]
        for client in clients:
            await stack.enter_async_context(client)
        began = time.monotonic()
        for number, call in enumerate(calls):
            if call.shifted and sent.shift_time is None:
                sent.shift_time = await _between()
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            await _one(clients[number % len(clients)], call, sent)


async def _between() -> float:
    """A moment that no event's time comes near: those before are earlier, those after are later."""
    await asyncio.sleep(CLOCK_ERROR)
    moment = time.time()
    await asyncio.sleep(CLOCK_ERROR)
    return moment


async def _one(http: httpx.AsyncClient, call: Call, sent: Sent) -> None:
    try:
        answer = await http.post(call.path, json=call.body, headers={"X-Request-Id": call.request_id})
    except httpx.HTTPError:
        sent.failed += 1
        return
    if answer.status_code != 200:
        sent.failed += 1
        return
    sent.answered += 1
    if call.planted is not None:
        sent.planted[call.request_id] = call.planted
