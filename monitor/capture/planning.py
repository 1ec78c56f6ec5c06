"""Settings to the plan of the sidecar's processes. For the command alone: the processes must not load pydantic."""

from __future__ import annotations

from typing import Any

from monitor.capture.plan import Address, Plan, Shipping
from monitor.capture.rules import ModelColumns, RedactRule, SampleRule
from monitor.settings import (
    CaptureSettings,
    KafkaTransportSettings,
    ModelSettings,
    PayloadSettings,
    Settings,
    parse_duration,
    parse_size,
)


def make_plan(settings: Settings) -> Plan:
    """The plan of both processes.

    Raises
    ------
    ValueError : an address is none; the message names the setting. Or a secret of Kafka is not there.
    """
    capture = settings.capture
    grace = parse_duration(capture.grace)
    shipping = _bodies(_choice(capture), capture, settings.payloads)
    shipping = _delivery(shipping, capture)._replace(
        columns=tuple(_columns(model) for model in settings.models), drain=0.4 * grace, **_destination(settings)
    )
    listen, upstream, admin = (_address(capture, name) for name in ("listen", "upstream", "admin"))
    copy = capture.mode != "none"
    return Plan(listen, upstream, admin, shipping, parse_size(capture.queue), grace, copy, capture.workers)


def _choice(capture: CaptureSettings) -> Shipping:
    """Of what events are made, and what they say of themselves."""
    return Shipping(
        source=capture.source or f"http://{capture.listen}",
        mode="all" if capture.mode == "none" else capture.mode,
        combined=capture.combined,
        include=capture.include,
        exclude=capture.exclude,
        sample=capture.sample,
        sample_rules=tuple(SampleRule(rule.model, rule.side or "", rule.rate) for rule in capture.sample_rules),
        namespace=capture.namespace,
        model=capture.model,
        endpoint=capture.endpoint,
        headers=capture.headers,
        types=capture.types,
        key=capture.key,
    )


def _bodies(shipping: Shipping, capture: CaptureSettings, payloads: PayloadSettings) -> Shipping:
    """What is done to bodies, and how much of them is kept."""
    return shipping._replace(
        redact=tuple(RedactRule(*rule.target, rule.action, rule.model, rule.side or "") for rule in capture.redact),
        redact_key_env=capture.redact_key_env,
        redact_key_file=capture.redact_key_file or "",
        inflate=capture.inflate,
        inflate_limit=parse_size(capture.inflate_limit),
        payloads=payloads.directory or "",
        payloads_above=parse_size(payloads.above),
        payloads_limit=parse_size(payloads.limit),
        payloads_keep=parse_duration(payloads.keep),
        max_body=parse_size(capture.max_body),
        held=max(2 * parse_size(capture.queue), parse_size(capture.max_body)),
    )


def _delivery(shipping: Shipping, capture: CaptureSettings) -> Shipping:
    """How events are posted, and where they wait."""
    return shipping._replace(
        url=capture.url or "",
        timeout=parse_duration(capture.timeout),
        connections=capture.connections,
        pipeline=capture.pipeline,
        token=capture.token.get_secret_value(),
        token_file=capture.token_file,
        tls_ca=capture.tls.ca or "",
        tls_cert=capture.tls.cert or "",
        tls_key=capture.tls.key or "",
        spool=capture.spool,
        spool_limit=parse_size(capture.spool_limit),
        spool_age=parse_duration(capture.spool_age),
        buffer=parse_size(capture.buffer),
    )


def _destination(settings: Settings) -> dict[str, Any]:
    """Where events go that are not posted: the fields of the plan that say so."""
    transport = settings.transport
    if not isinstance(transport, KafkaTransportSettings):
        told = {"log": transport.path, "partitions": transport.partitions, "retain": parse_size(transport.retain)}
    elif settings.capture.url:
        told = {}
    else:
        from monitor.transport.kafka.configured import kafka_options, layout

        told = {
            "kafka": kafka_options(transport)._asdict(),
            "layout": layout(transport)._asdict(),
            "create_topics": transport.create_topics,
        }
    return {**told, "topic": transport.topic}


def _columns(model: ModelSettings) -> ModelColumns:
    features, outputs = (tuple(column.name for column in side) for side in (model.features, model.outputs))
    return ModelColumns(model.match.model or model.name, features, outputs)


def _address(capture: CaptureSettings, name: str) -> Address:
    try:
        return Address.parse(getattr(capture, name))
    except ValueError as error:
        raise ValueError(f"capture.{name}: {error}") from None
