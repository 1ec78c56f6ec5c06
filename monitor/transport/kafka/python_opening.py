"""Making kafka-python's objects so that one which cannot connect leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient

T = TypeVar("T")


def opened(kind: Callable[..., T], config: Mapping[str, Any]) -> T:
    """An object of the library. Its constructor connects; where it fails, its thread and sockets would stay."""
    made: list[Any] = []

    def network(**told: Any) -> Any:
        made.append(KafkaNetClient(**told))
        return made[-1]

    try:
        return kind(**config, kafka_client=network)
    except BaseException:
        for client in made:
            with suppress(Exception):
                client.close()
        raise
