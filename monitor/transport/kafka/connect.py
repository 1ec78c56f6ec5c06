"""Which client library it is."""

from __future__ import annotations

from importlib.util import find_spec

from monitor.transport.kafka.options import KafkaOptions
from monitor.transport.kafka.port import Client
from sinks.records import Unavailable

MODULES = {"confluent-kafka": "confluent_kafka", "kafka-python": "kafka"}
"""Client -> its module; ``auto`` takes the first that is installed: it costs less CPU."""


def choose(wanted: str) -> str:
    """The client that ``transport.client`` asks for.

    Raises
    ------
    Unavailable : it is not installed.
    """
    for name in MODULES if wanted == "auto" else (wanted,):
        if find_spec(MODULES[name]) is not None:
            return name
    missing = "neither confluent-kafka nor kafka-python" if wanted == "auto" else f"transport.client {wanted}"
    raise Unavailable(f'{missing} is installed: pip install "offpath[kafka]"')


def connect(options: KafkaOptions) -> Client:
    """A connected client.

    Raises
    ------
    Unavailable : no broker can be used; the message names the setting at fault.
    ValueError : a file of the security settings cannot be used.
    """
    if choose(options.client) == "confluent-kafka":
        from monitor.transport.kafka.confluent_client import ConfluentClient

        return ConfluentClient(options)
    from monitor.transport.kafka.python_client import PythonClient

    return PythonClient(options)
