"""What stands in the topic of a configuration: writing to it and reading it, whatever the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from monitor import wiring
from monitor.events import Delivery, Record
from monitor.settings import Settings


async def publish(settings: Settings, records: Sequence[Record]) -> None:
    transport = wiring.open_transport(settings)
    await transport.publisher(settings.transport.topic).publish(records)
    await transport.close()


async def read(settings: Settings, wanted: int) -> list[Delivery]:
    """The first deliveries of a worker, so many at least."""
    transport = wiring.open_transport(settings)
    source = transport.source(settings.worker)
    found: list[Delivery] = []

    async def collect() -> None:
        async for signal in source:
            found.extend(getattr(signal, "deliveries", ()))
            if len(found) >= wanted:
                return

    await asyncio.wait_for(collect(), 30)
    await source.close()
    await transport.close()
    return found
