"""Every producer that is taken in unchanged, over HTTP and over Kafka: one table, and the event that a worker sees."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from topics import read

from monitor import wiring
from monitor.capture.conversation import Conversation
from monitor.capture.frames import CLIENT, UPSTREAM
from monitor.capture.metrics import Counters
from monitor.capture.plan import Shipping
from monitor.capture.record import Recorder
from monitor.codecs.detect import decode
from monitor.events import Delivery, PayloadEvent, Record
from monitor.settings import Settings
from monitor.structured import event_of
from monitor.transport.cloudevent_http import http_headers

V1 = b'{"instances": [[1, 2.5], [3, 4]]}'
SELDON = b'{"data": {"names": ["a", "b"], "ndarray": [[1, 2.5], [3, 4]]}, "meta": {"puid": "p"}}'
V2_JSON = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
V2 = V2_JSON + bytes.fromhex("0000803f000020400000404000008040")
ROWS = [[1.0, 2.5], [3.0, 4.0]]

KSERVE = {
    "ce-id": "7", "ce-source": "http://pod/", "ce-specversion": "1.0", "ce-time": "2026-01-01T00:00:00.123456789Z",
    "ce-type": "org.kubeflow.serving.inference.request", "ce-inferenceservicename": "clf", "ce-namespace": "ns",
    "ce-endpoint": "default", "ce-component": "predictor", "ce-metadata": "{}", "content-type": "application/json",
}  # fmt: skip
SELDON_HTTP = {
    "ce-id": "8", "ce-source": "http://exec/", "ce-specversion": "1.0", "ce-requestid": "r-8", "ce-modelid": "clf",
    "ce-type": "io.seldon.serving.inference.request", "ce-inferenceservicename": "dep", "ce-namespace": "ns",
    "ce-endpoint": "default", "ce-protocol": "seldon", "ce-time": "2026-01-01T00:00:00Z",
    "content-type": "application/json",
}  # fmt: skip
BARE = {
    "type": "io.seldon.serving.inference.request", "content-type": "application/json", "modelid": "clf",
    "requestid": "r-8", "inferenceservicename": "dep", "namespace": "ns", "endpoint": "default", "protocol": "seldon",
}  # fmt: skip
"""Of a record that Seldon's executor writes: no CloudEvents binding, no id, source, time or key."""

WRAPPED = {
    "ce-id": "partition:0/offset:5", "ce-source": "/apis/v1/namespaces/ns/kafkasources/seldon#requests",
    "ce-specversion": "1.0", "ce-type": "dev.knative.kafka.event", "ce-subject": "partition:0#5",
    "ce-time": "2026-01-01T00:00:00Z", "content-type": "application/json",
    **{f"ce-kafkaheader{name}": value for name, value in BARE.items() if name != "content-type"},
}  # fmt: skip
"""What a KafkaSource makes of that record."""


def binding(headers: Mapping[str, str]) -> dict[str, str]:
    """HTTP's headers as Kafka's: the binary mode of both."""
    return {"ce_" + name[3:] if name.startswith("ce-") else name: value for name, value in headers.items()}


def attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}


STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}


def structured(headers: Mapping[str, str], **data: Any) -> bytes:
    return json.dumps({**attributes(headers), "datacontenttype": headers["content-type"], **data}).encode()


def by_the_sdk() -> bytes:
    told = attributes(KSERVE)
    del told["time"]  # the SDK wants an aware datetime
    event = CloudEvent({**told, "datacontenttype": "application/json"}, json.loads(V1))
    return bytes(to_structured(event, JSONFormat()).body)


def captured() -> Record:
    """A request's event as the sidecar makes it."""
    records: list[Record] = []
    counters = Counters()
    shipping = Shipping("http://sidecar", namespace="ns", endpoint="default")
    conversation = Conversation(Recorder(shipping, records.append, counters, lambda: 1_700_000_000.0), counters)
    head = f"POST /v1/models/clf:predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(V1)}\r\n"
    conversation.data(CLIENT, head.encode() + b"X-Request-Id: r-8\r\n\r\n" + V1, 0.25)
    conversation.data(UPSTREAM, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0.5)
    return records[0]


OWN = captured()


class Sent(NamedTuple):
    """What a producer sends: over HTTP, over Kafka, or both; and what the event has beside the usual."""

    http: tuple[Mapping[str, str], bytes] | None
    kafka: tuple[Mapping[str, str], bytes] | None
    expected: Mapping[str, Any] = {}


OF_SELDON = {"request_id": "r-8", "protocol": "seldon", "type": "io.seldon.serving.inference.request"}

PRODUCERS = {
    "our sidecar": Sent(
        (http_headers(OWN), V1), (OWN.headers, V1), {"request_id": "r-8", "path": "/v1/models/clf:predict"}
    ),
    "KServe's agent": Sent((KSERVE, V1), (binding(KSERVE), V1), {"id": "7", "request_id": "7"}),
    "KServe's agent, V2 with binary tensors": Sent(
        ({**KSERVE, "content-type": "application/octet-stream"}, V2),
        ({**binding(KSERVE), "content-type": "application/octet-stream"}, V2),
        {"content_type": "application/octet-stream"},
    ),
    "Seldon's executor": Sent((SELDON_HTTP, SELDON), (binding(SELDON_HTTP), SELDON), {"id": "8", **OF_SELDON}),
    "Seldon's executor with bare headers": Sent(
        None, (BARE, SELDON), {**OF_SELDON, "source": "", "derived": ("missing_id", "missing_time")}
    ),
    "Knative's KafkaSource, of bare headers": Sent(
        (WRAPPED, SELDON), (binding(WRAPPED), SELDON), {"id": "partition:0/offset:5", **OF_SELDON}
    ),
    "Knative's KafkaSource, of an event": Sent(
        ({**KSERVE, "ce-partitionkey": "k", "ce-key": "k", "kn-namespace": "ns", "prefer": "reply"}, V1), None
    ),
    "structured": Sent(
        (STRUCTURED, structured(KSERVE, data=json.loads(V1))), (STRUCTURED, structured(KSERVE, data=json.loads(V1)))
    ),
    "structured, in Base64": Sent(
        (STRUCTURED, structured(SELDON_HTTP, data_base64=base64.b64encode(SELDON).decode())),
        (STRUCTURED, structured(SELDON_HTTP, data_base64=base64.b64encode(SELDON).decode())),
        {"id": "8", **OF_SELDON},
    ),
    "structured, by the CloudEvents SDK": Sent((STRUCTURED, by_the_sdk()), (STRUCTURED, by_the_sdk())),
}


class Inlet:
    """Takes what producers send, and gives what a worker then reads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def send(self, sent: Sent) -> None:
        raise NotImplementedError

    def read(self, wanted: int) -> list[Delivery]:
        return asyncio.run(read(self.settings, wanted))

    def close(self) -> None: ...


class OverHttp(Inlet):
    """Posts to a real endpoint over the embedded log."""

    def __init__(self, folder: Path) -> None:
        told = {"transport": {"path": str(folder / "log.db")}, "ingest": {"remember": 0}}  # some are one event twice
        super().__init__(Settings.model_validate(told))
        self._transport = wiring.open_transport(self.settings)
        app = wiring.build_endpoint(self.settings, self._transport, {}).app()
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def send(self, sent: Sent) -> None:
        assert sent.http is not None
        headers, body = sent.http
        answer = httpx.post(f"http://127.0.0.1:{self._socket.getsockname()[1]}/", headers=headers, content=body)
        assert (answer.status_code, answer.content) == (202, b"")

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        asyncio.run(self._transport.close())


class OverKafka(Inlet):
    """Writes to a real topic, as the producer's own client would."""

    def __init__(self, address: str) -> None:
        from kafka import KafkaProducer

        name = f"producers-{uuid.uuid4().hex[:8]}"
        transport = {"type": "kafka", "bootstrap": address, "topic": name, "dead_letters": f"{name}-dead",
                     "state": f"{name}-state", "partitions": 1, "session_timeout": "6s"}  # fmt: skip
        super().__init__(Settings.model_validate({"transport": transport, "worker": {"group": name}}))
        asyncio.run(wiring.open_transport(self.settings).close())  # makes the topics
        self._producer = KafkaProducer(bootstrap_servers=address)

    def send(self, sent: Sent) -> None:
        assert sent.kafka is not None
        headers, body = sent.kafka
        topic = self.settings.transport.topic
        self._producer.send(topic, body, headers=[(name, value.encode()) for name, value in headers.items()]).get(10)

    def close(self) -> None:
        self._producer.close(5)


def check(name: str, delivery: Delivery) -> None:
    event = event_of(delivery)
    expected = {"side": "request", "model": "clf", "namespace": "ns", "endpoint": "default", **PRODUCERS[name].expected}
    assert {field: getattr(event, field) for field in expected} == expected, name
    assert isinstance(event, PayloadEvent)
    (tensor,) = decode(event).values()
    assert tensor.data.tolist() == ROWS, name


def through(inlet: Inlet, names: list[str]) -> None:
    for name in names:
        inlet.send(PRODUCERS[name])
    for name, delivery in zip(names, inlet.read(len(names)), strict=True):
        check(name, delivery)


@pytest.fixture
def over_http(tmp_path: Path) -> Iterator[OverHttp]:
    inlet = OverHttp(tmp_path)
    yield inlet
    inlet.close()


def test_over_http(over_http: OverHttp) -> None:
    through(over_http, [name for name, sent in PRODUCERS.items() if sent.http is not None])


@pytest.mark.usefixtures("lenient_with_sockets")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_over_kafka(kafka: str) -> None:
    pytest.importorskip("kafka", reason='pip install "offpath[kafka]"')
    inlet = OverKafka(kafka)
    try:
        through(inlet, [name for name, sent in PRODUCERS.items() if sent.kafka is not None])
    finally:
        inlet.close()
