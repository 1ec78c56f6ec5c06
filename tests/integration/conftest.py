"""Fixtures of tests between real servers."""

from __future__ import annotations

import kafka_broker
import pytest

from monitor.transport.kafka.connect import MODULES


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest) -> str:
    """Each of Kafka's client libraries."""
    return kafka_broker.need_client(request.param)
