"""Fixtures that start servers, for all tests."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kafka_broker
import pytest
from kafka_broker import Broker, SecureBroker
from sidecar import Sidecar

from monitor.transport.kafka.connect import MODULES

# Several test processes share the cores: a second thread of torch or BLAS makes each of them many times slower.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# Where tests run in the background of a shell, SIGINT is ignored, and what they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the same under nohup


GZIP = b"\x1f\x8b"

_DETECTORS = "tests/contract/test_detectors.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As ``--dist loadfile``, but every type of detector is a file of its own: they take as long as all the rest."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file, _, name = nodeid.partition("::")
            return f"{file}[{name.partition('[')[2].partition('-')[0]}" if file == _DETECTORS else file

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker with plain, TLS, mutual TLS and SASL listeners. Who freezes or kills it leaves it running."""
    kafka_broker.need()
    broker = SecureBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """The plain address of a broker; use topics and groups of your own."""
    address = os.environ.get("OFFPATH_TEST_KAFKA")
    if address:
        return address
    broker: Broker = request.getfixturevalue("kafka_server")
    return broker.address


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    """Three brokers that replicate everything."""
    kafka_broker.need()
    brokers = kafka_broker.cluster(tmp_path_factory.mktemp("kafka-cluster"))
    yield brokers
    for broker in brokers:
        broker.kill()


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest) -> str:
    """Each of Kafka's client libraries."""
    return kafka_broker.need_client(request.param)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Starts sidecars; whatever still runs at the end is killed."""
    started: list[Sidecar] = []

    def begin(upstream: int, **options: Any) -> Sidecar:
        started.append(Sidecar(tmp_path, upstream, **options))
        return started[-1]

    yield begin
    for sidecar in started:
        sidecar.kill()


@pytest.fixture
def lenient_with_sockets() -> Iterator[None]:
    """kafka-python forgets the sockets of attempts to connect that failed; they are collected here, without a word."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed and long bodies by length: processes that share tests must agree on names, and gzip writes the time."""
    if isinstance(val, bytes) and (val.startswith(GZIP) or len(val) > 40):
        return f"{len(val)}-bytes"
    return None
