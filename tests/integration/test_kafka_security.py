"""TLS and SASL against a real broker, and what a mistake in them is told as."""

from __future__ import annotations

import asyncio
import socket
import uuid
from pathlib import Path
from typing import Any

import kafka_broker
import pytest
from kafka_broker import SecureBroker

from monitor.events import Record
from monitor.settings import KafkaTransportSettings
from monitor.transport.kafka.cluster import Cluster
from monitor.transport.kafka.configured import kafka_options
from monitor.transport.kafka.options import KafkaOptions, TopicLayout
from sinks.base import Unavailable

pytestmark = kafka_broker.LENIENT

SECRET = "hush-hush"


def options(broker: SecureBroker, client: str, listener: str, **told: Any) -> KafkaOptions:
    files = {name: str(broker.pki / told.pop(name)) for name in ("ca", "cert", "key") if name in told}
    return KafkaOptions(broker.at(listener), client, timeout=2.0, **files, **told)


WORKING = {
    "TLS": ("SSL", {"protocol": "SSL", "ca": "ca.pem"}),
    "mutual TLS": ("MTLS", {"protocol": "SSL", "ca": "ca.pem", "cert": "client.crt", "key": "client.key"}),
    "SCRAM over TLS": (
        "SASL_SSL",
        {"protocol": "SASL_SSL", "ca": "ca.pem", "mechanism": "SCRAM-SHA-512", "username": "alice",
         "password": "alice-secret"},
    ),
    "PLAIN over TLS": (
        "SASL_SSL",
        {"protocol": "SASL_SSL", "ca": "ca.pem", "mechanism": "PLAIN", "username": "bob", "password": "bob-secret"},
    ),
    "SCRAM without TLS": (
        "SASL_PLAINTEXT",
        {"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-512", "username": "alice", "password": "alice-secret"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WORKING)
def test_events_pass(kafka_server: SecureBroker, client: str, how: str) -> None:
    listener, told = WORKING[how]

    async def test() -> None:
        cluster = Cluster(options(kafka_server, client, listener, **told), create=True)
        topic = f"secure-{uuid.uuid4().hex[:8]}"
        cluster.ensure(topic, TopicLayout(1, 1))
        await cluster.publisher(topic).publish([Record("k", {"ce_id": "1"}, b"x", 0.0)])
        assert cluster._client.read_one(topic, 0, 0) == b"x"
        await cluster.close()

    asyncio.run(test())


SCRAM = {"mechanism": "SCRAM-SHA-512", "username": "alice", "password": SECRET}
MISTAKES = {
    "wrong SCRAM password": (
        "SASL_SSL", {"protocol": "SASL_SSL", "ca": "ca.pem", **SCRAM},
        r"refuses user 'alice' .*transport\.security\.username",
    ),
    "wrong PLAIN password": (
        "SASL_PLAINTEXT", {"protocol": "SASL_PLAINTEXT", **SCRAM, "mechanism": "PLAIN", "username": "bob"},
        r"refuses user 'bob'",
    ),
    "unknown mechanism": (
        "SASL_PLAINTEXT", {"protocol": "SASL_PLAINTEXT", **SCRAM, "mechanism": "SCRAM-SHA-256"},
        r"transport\.security\.mechanism",
    ),
    "SASL where there is none": (
        "PLAINTEXT", {"protocol": "SASL_PLAINTEXT", **SCRAM, "mechanism": "PLAIN"}, r"no SASL .*security\.protocol",
    ),
    "unknown CA": ("SSL", {"protocol": "SSL", "ca": "other.pem"}, r"unknown CA .*transport\.security\.ca"),
    "expired certificate": ("EXPIRED", {"protocol": "SSL", "ca": "ca.pem"}, r"has expired"),
    "no client certificate": ("MTLS", {"protocol": "SSL", "ca": "ca.pem"}, r"client certificate.*security\.cert"),
    "expired client certificate": (
        "MTLS", {"protocol": "SSL", "ca": "ca.pem", "cert": "expired.crt", "key": "expired.key"},
        r"refuses the client certificate",
    ),
    "TLS to a plain port": ("PLAINTEXT", {"protocol": "SSL", "ca": "ca.pem"}, r"TLS.*transport\.security\.protocol"),
    "no TLS to a TLS port": ("SSL", {"protocol": "PLAINTEXT"}, r"speaks TLS .*transport\.security\.protocol"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_setting_and_without_the_secret(
    kafka_server: SecureBroker, client: str, mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener, told, words = MISTAKES[mistake]
    patience = 3.0 if "username" in told else 1.0  # kafka-python learns a SASL fault with a later attempt only
    wrong = options(kafka_server, client, listener, **told)._replace(timeout=patience)
    with pytest.raises(Unavailable, match=words) as raised:
        Cluster(wrong, create=False)
    assert SECRET not in f"{raised.value} {wrong!r} {caplog.text}"


def test_nobody_there(client: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"refuses connections.*transport\.bootstrap"):
            Cluster(KafkaOptions(address, client, timeout=1.0), create=False)


def test_files_that_are_none(kafka_server: SecureBroker, client: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path, words in ((tmp_path / "none.pem", "no file"), (tmp_path / "ca.pem", "no certificate in PEM")):
        wrong = KafkaOptions(kafka_server.at("SSL"), client, "SSL", ca=str(path), timeout=1.0)
        with pytest.raises(ValueError, match=rf"transport\.security\.ca: .*{words}"):
            Cluster(wrong, create=False)


def test_a_password_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    def settings(**told: Any) -> KafkaTransportSettings:
        security = {"protocol": "SASL_SSL", "username": "alice", **told}
        return KafkaTransportSettings.model_validate({"type": "kafka", "bootstrap": "k:9092", "security": security})

    (tmp_path / "password").write_text(f"{SECRET}\n")
    assert kafka_options(settings(), {"OFFPATH_KAFKA_PASSWORD": SECRET}).password == SECRET
    assert kafka_options(settings(password_env="OTHER"), {"OTHER": SECRET}).password == SECRET
    assert kafka_options(settings(password_file=str(tmp_path / "password")), {}).password == SECRET
    with pytest.raises(ValueError, match="OFFPATH_KAFKA_PASSWORD"):
        kafka_options(settings(), {})
    with pytest.raises(ValueError, match="password_file"):
        kafka_options(settings(password_file=str(tmp_path / "none")), {})
