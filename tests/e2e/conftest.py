"""Fixtures of what users run."""

from __future__ import annotations

from pathlib import Path

import kafka_broker
import killing
import pytest

from monitor.settings import Settings


@pytest.fixture(params=kafka_broker.ONE_QUICK)
def client(request: pytest.FixtureRequest) -> str:
    """Each of Kafka's client libraries."""
    return kafka_broker.need_client(request.param)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Every kind of window, over an embedded log."""
    return killing.configured(tmp_path)
