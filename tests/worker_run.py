"""A worker that ends when it has committed a log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from prometheus_client import generate_latest

from monitor import wiring
from monitor.settings import Settings


async def judge(settings: Settings, end: int) -> str:
    """Run a worker until it has committed everything; answers its metrics."""
    assembly = wiring.build(settings)
    commit = assembly.source.commit

    async def watch(checkpoints: Mapping[str, Any]) -> None:
        await commit(checkpoints)
        if any(json.loads(c.state)["next"] >= end for c in checkpoints.values()):
            assembly.worker.stop()

    assembly.source.commit = watch  # type: ignore[method-assign]
    await asyncio.wait_for(assembly.worker.run(), 60)
    text = generate_latest(assembly.registry).decode()
    await assembly.close()
    return text
