"""A Kafka broker, looked for as the tests do."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import kafka_broker


@contextmanager
def broker(without: str) -> Iterator[str | None]:
    """Its address; ``None`` where there is no Kafka: then it is said that what is measured is ``without`` it."""
    address = os.environ.get("OFFPATH_TEST_KAFKA")
    if address is not None or kafka_broker.home() is None:
        if address is None:
            print(f"{without}: {kafka_broker.WHY}")
        yield address
        return
    with tempfile.TemporaryDirectory() as folder:
        running = kafka_broker.Broker(Path(folder)).start()
        try:
            yield running.address
        finally:
            running.kill()
