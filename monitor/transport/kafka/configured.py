"""The settings of Kafka as plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from monitor.settings import KafkaTransportSettings, parse_duration, parse_size
from monitor.transport.kafka.options import KafkaOptions, TopicLayout


def kafka_options(settings: KafkaTransportSettings, environ: Mapping[str, str] | None = None) -> KafkaOptions:
    """The settings as plain values, the password read from where they say.

    Raises
    ------
    ValueError : there is none there.
    """
    security = settings.security
    return KafkaOptions(
        settings.bootstrap,
        settings.client,
        security.protocol,
        security.ca or "",
        security.cert or "",
        security.key or "",
        security.check_hostname,
        security.mechanism if security.username else "",
        security.username or "",
        _password(settings, os.environ if environ is None else environ) if security.username else "",
        settings.compression,
        parse_size(settings.max_record),
        parse_duration(settings.timeout),
    )


def _password(settings: KafkaTransportSettings, environ: Mapping[str, str]) -> str:
    security = settings.security
    if security.password_file is not None:
        try:
            return Path(security.password_file).read_text().strip("\r\n")
        except (OSError, ValueError) as error:
            raise ValueError(f"transport.security.password_file: {security.password_file}: {error}") from None
    password = environ.get(security.password_env, "")
    if not password:
        raise ValueError(
            f"transport.security: no password of user {security.username}: set the variable {security.password_env}, "
            f"or password_file"
        )
    return password


def layout(settings: KafkaTransportSettings) -> TopicLayout:
    """Of the payload topic, if it is made here."""
    return TopicLayout(settings.partitions, settings.replication or -1, parse_duration(settings.retention))
