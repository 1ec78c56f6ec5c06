"""Real Apache Kafka brokers for tests: one with every kind of listener, a cluster of three, and where they come from.

Looked for in this order: an address in ``OFFPATH_TEST_KAFKA`` (plain text only, nothing is started or stopped), an
unpacked distribution in ``KAFKA_HOME``, and the folder ``../shared/kafka`` beside the repository. A distribution needs
Java 17 or later on ``PATH``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from servers import free_port

from monitor.transport.kafka.connect import MODULES

ROOT = Path(__file__).parents[1]
WHY = (
    "no Kafka: unpack Apache Kafka 4 and set KAFKA_HOME to it (Java 17 needed), or set OFFPATH_TEST_KAFKA to the "
    "address of a broker"
)
REQUIRED = "OFFPATH_TEST_KAFKA_REQUIRED"
"""Set where Kafka has to be there (CI): its absence is then a failure, not a skip."""

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bob="bob-secret";'


def home() -> Path | None:
    """The distribution, if there is one that can be started."""
    named = os.environ.get("KAFKA_HOME")
    folder = Path(named) if named else ROOT.parent / "shared" / "kafka"
    return folder if (folder / "libs").is_dir() and shutil.which("java") else None


def need() -> Path:
    """The distribution; else the test is skipped, or fails where it is required."""
    folder = home()
    if folder is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but there is {WHY}")
        pytest.skip(WHY)
    return folder


LENIENT = [
    pytest.mark.usefixtures("lenient_with_sockets"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
"""Marks of tests that let clients reach for brokers that are away."""


ONE_QUICK = pytest.mark.parametrize(
    "client", ["confluent-kafka", pytest.param("kafka-python", marks=pytest.mark.slow)], indirect=True
)
"""Mark of tests with ``client``: the second takes too long for what both do alike."""


def need_client(name: str) -> str:
    """The client library; without it the test is skipped."""
    pytest.importorskip(MODULES[name], reason=f'{name}: pip install "offpath[kafka]"')
    return name


class Broker:
    """One broker and controller (KRaft) on free ports.

    ``ports`` maps listener names to ports; ``address`` is the plain one. ``properties`` override any broker property.
    """

    def __init__(self, root: Path, properties: Mapping[str, str] | None = None, node: int = 1) -> None:
        self.root, self.node = root, node
        self.ports = {"PLAINTEXT": free_port(), "CONTROLLER": free_port()}
        self.address = f"127.0.0.1:{self.ports['PLAINTEXT']}"
        self.properties = dict(properties or {})
        self.format_options: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Start, or start again with what is there, and wait until it is ready."""
        self.prepare()
        self.launch()
        self.wait()
        return self

    def prepare(self) -> None:
        """Write its configuration, and format its folder if it is new."""
        self.root.mkdir(parents=True, exist_ok=True)
        conf = self.root / "server.properties"
        conf.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        (self.root / "log4j2.properties").write_text(LOGGING)
        if not (self.root / "logs" / "meta.properties").exists():
            storage = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER_ID, "-c", str(conf)]
            done = subprocess.run(self._java(*storage, *self.format_options), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

    def launch(self) -> None:
        with (self.root / "broker.log").open("wb") as log:
            command = self._java("kafka.Kafka", str(self.root / "server.properties"))
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def wait(self, timeout: float = 170) -> None:
        log, deadline = self.root / "broker.log", time.monotonic() + timeout
        assert self.process is not None
        while b"Kafka Server started" not in log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(log.read_text(errors="replace")[-4000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: as a crash, and the quickest end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _properties(self) -> dict[str, str]:
        plain, controller = (f"127.0.0.1:{self.ports[name]}" for name in ("PLAINTEXT", "CONTROLLER"))
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": f"{self.node}@{controller}",
            "listeners": f"PLAINTEXT://{plain},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{plain}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.root / "logs"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "initial.broker.registration.timeout.ms": "160000",  # of a quorum on a machine that does other things too
            **self.properties,
        }

    def _java(self, *arguments: str) -> list[str]:
        return [
            "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={self.root / 'log4j2.properties'}", "-cp", f"{need() / 'libs'}/*", *arguments,
        ]  # fmt: skip


LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.started.name = kafka.server.KafkaRaftServer
logger.started.level = info
"""


class SecureBroker(Broker):
    """A broker with plain, TLS, mutual TLS and SASL listeners; its certificates are in ``pki``.

    ``alice`` has a SCRAM-SHA-512 password, ``bob`` one for PLAIN. ``EXPIRED`` is a TLS listener whose certificate was
    valid once.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.pki = root / "pki"
        make_certificates(self.pki)
        for name in ("SSL", "MTLS", "EXPIRED", "SASL_SSL", "SASL_PLAINTEXT"):
            self.ports[name] = free_port()
        self.format_options = ("--add-scram", "SCRAM-SHA-512=[name=alice,password=alice-secret]")
        told = {name: f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()}
        sasl = {
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
            for listener in ("sasl_ssl", "sasl_plaintext")
            for mechanism, module in (("scram-sha-512", SCRAM), ("plain", PLAIN))
        }
        kinds = {name: name for name in self.ports} | {"CONTROLLER": "PLAINTEXT", "MTLS": "SSL", "EXPIRED": "SSL"}
        self.properties |= sasl | {
            "listeners": ",".join(told.values()),
            "advertised.listeners": ",".join(where for name, where in told.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in kinds.items()),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.pki / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.pki / "ca.pem"),
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": str(self.pki / "expired.pem"),
            "listener.name.mtls.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        }

    def at(self, listener: str) -> str:
        return f"127.0.0.1:{self.ports[listener]}"


def make_certificates(folder: Path) -> None:
    """A test CA, leaves for the broker and a client, one that has expired, and a CA that signed none of them."""
    folder.mkdir(parents=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other"):
        openssl("req", "-x509", *new, "-days", "30", "-subj", f"/CN=test-{ca}", "-keyout", f"{ca}.key",
                "-out", f"{ca}.pem")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for leaf in ("broker", "client", "expired"):
        days = "-1" if leaf == "expired" else "30"
        openssl("req", *new, "-subj", f"/CN={leaf}", "-keyout", f"{leaf}.key", "-out", f"{leaf}.csr")
        openssl("x509", "-req", "-in", f"{leaf}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", days, "-extfile", "names", "-out", f"{leaf}.crt")  # fmt: skip
        (folder / f"{leaf}.pem").write_text((folder / f"{leaf}.key").read_text() + (folder / f"{leaf}.crt").read_text())


def cluster(root: Path) -> list[Broker]:
    """Three brokers that replicate everything; started."""
    brokers = [Broker(root / str(node), node=node) for node in (1, 2, 3)]
    voters = ",".join(f"{broker.node}@127.0.0.1:{broker.ports['CONTROLLER']}" for broker in brokers)
    for broker in brokers:
        broker.properties |= {
            "controller.quorum.voters": voters,
            "controller.quorum.fetch.timeout.ms": "6000",  # with less, a busy machine has elections again and again
            "controller.quorum.election.timeout.ms": "3000",
            "broker.session.timeout.ms": "6000",
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "share.coordinator.state.topic.replication.factor": "3",
            "share.coordinator.state.topic.min.isr": "2",
        }
    for broker in brokers:
        broker.prepare()
    try:
        for broker in brokers:  # a quorum needs two: start all before waiting for any
            broker.launch()
        for broker in brokers:
            broker.wait()
    except BaseException:
        for broker in brokers:
            broker.kill()
        raise
    return brokers
