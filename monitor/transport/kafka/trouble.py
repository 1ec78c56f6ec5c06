"""Why the brokers cannot be used, in words that name the setting to change.

The clients hide it: confluent-kafka tells a callback, kafka-python its log, and both retry for ever. So the words come
from what they told and, for the network and TLS, from a connection of our own, which knows the certificate's fault.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from monitor.transport.kafka.options import KafkaOptions
from sinks.records import Unavailable

PROBE_SECONDS = 3.0
ALERT_SECONDS = 0.3
"""How long a server that dislikes our certificate may take to say so: in TLS 1.3 after the handshake."""

_SASL = (
    (
        r"unsupported ?sasl ?mechanism",
        "does not know the SASL mechanism {mechanism}: change transport.security.mechanism",
    ),
    (
        r"illegalsaslstate|not valid in current sasl state",
        "speaks no SASL at this port: change transport.security.protocol or the port",
    ),
    (
        r"authentication ?failed|authentication failure|invalid credentials|invalid username",
        "refuses user {username!r} (mechanism {mechanism}): check transport.security.username and its password "
        "(password_env or password_file)",
    ),
)
_BROKER = (
    (r"group_?authorization_?failed|groupauthorizationfailed", "does not let this user into the group: worker.group"),
    (r"topic_?authorization_?failed|topicauthorizationfailed", "does not let this user use the topic: transport.topic"),
    (r"cluster_?authorization_?failed|clusterauthorizationfailed", "does not let this user do that: ask for the right"),
    (
        r"not_?enough_?replicas|notenoughreplicas",
        "has too few replicas of the topic in step for acks=all (min.insync.replicas)",
    ),
    (r"unknown_?topic|unknowntopic|unknown_part", "has no such topic: make it, or set transport.create_topics: true"),
)


def unavailable(options: KafkaOptions, told: Iterable[str], doing: str) -> Unavailable:
    """The error of something that could not be done; ``told`` is what the client said, oldest first."""
    texts = [text for text in told if text]
    cause = _known(options, texts) or diagnose(options) or _hung_up(options, texts) or _last(options, texts)
    return Unavailable(f"{doing}: Kafka at {options.bootstrap} {cause}")


def definite(options: KafkaOptions, told: Iterable[str]) -> bool:
    """Waiting longer would not help: what the client was told is certain."""
    return bool(_known(options, [text for text in told if text]))


def _known(options: KafkaOptions, texts: list[str]) -> str:
    tables = (*(_SASL if options.authenticated else ()), *_BROKER)
    for text in reversed(texts):
        for pattern, words in tables:
            if re.search(pattern, text, re.IGNORECASE):
                return str(words.format(mechanism=options.mechanism, username=options.username))
    return ""


def _hung_up(options: KafkaOptions, texts: list[str]) -> str:
    """kafka-python often misses the brokers' answer to a wrong password, and sees only that the connection ends."""
    if not options.authenticated or not any("socket disconnected" in text for text in texts):
        return ""
    return (
        f"hangs up; it probably refuses user {options.username!r} (mechanism {options.mechanism}): check "
        f"transport.security.username, its password (password_env or password_file) and transport.security.mechanism"
    )


def _last(options: KafkaOptions, texts: list[str]) -> str:
    waited = f"did not answer in {options.timeout:g} s"
    said = next((text for text in reversed(texts) if "brokers are down" not in text.lower()), "")
    return f"{waited} ({said[:300]})" if said else f"{waited}: is it healthy, and does its port want TLS or SASL?"


def diagnose(options: KafkaOptions) -> str:
    """What is wrong with the network or TLS of the bootstrap addresses; empty if one of them is well."""
    faults = [_probe(options, address.strip()) for address in options.bootstrap.split(",")]
    return "" if "" in faults else faults[0]


def _probe(options: KafkaOptions, address: str) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), PROBE_SECONDS) as plain:
            return _handshake(options, plain, host)
    except socket.gaierror:
        return f"cannot be found ({host} is no known host): check transport.bootstrap"
    except ConnectionRefusedError:
        return "refuses connections: is it running, and is transport.bootstrap its address?"
    except (OSError, ValueError) as error:
        return f"cannot be reached ({error}): check transport.bootstrap"


def _handshake(options: KafkaOptions, plain: socket.socket, host: str) -> str:
    if not options.encrypted:
        return _speaks_tls(plain, host)
    try:
        context = tls_context(options)
    except (OSError, ValueError) as error:
        return f"cannot be spoken to, {error}"
    try:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            secure.settimeout(ALERT_SECONDS)
            with suppress(TimeoutError):
                secure.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _certificate(error)
    except ssl.SSLError as error:
        return _alert(options, error)
    except ConnectionError:
        return "closes TLS connections: change transport.security.protocol or the port in transport.bootstrap"
    return ""


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message or str(error)
    if "expired" in text:
        return "shows a certificate that has expired: renew it on the brokers"
    if "mismatch" in text or "not valid for" in text:
        return f"shows a certificate of another name ({text}): use that name in transport.bootstrap"
    return f"shows a certificate of an unknown CA ({text}): set transport.security.ca to the CA's file"


def _alert(options: KafkaOptions, error: ssl.SSLError) -> str:
    text = str(error).lower()
    if "certificate" in text:
        if not options.cert:
            return "wants a client certificate: set transport.security.cert and transport.security.key"
        return "refuses the client certificate (expired, or of a CA it does not know): transport.security.cert"
    return f"speaks no TLS at this port ({error.reason or error}): change transport.security.protocol or the port"


def _speaks_tls(plain: socket.socket, host: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only whether it speaks TLS at all
    plain.settimeout(ALERT_SECONDS)
    try:
        with context.wrap_socket(plain, server_hostname=host):
            return "speaks TLS at this port: set transport.security.protocol to SSL or SASL_SSL"
    except OSError:
        return ""


def tls_context(options: KafkaOptions) -> ssl.SSLContext:
    """The TLS settings as Python's.

    Raises
    ------
    ValueError : a file of the settings cannot be used; the message names the setting.
    """
    for setting, path in (("ca", options.ca), ("cert", options.cert), ("key", options.key)):
        if path and not Path(path).is_file():
            raise ValueError(f"transport.security.{setting}: there is no file {path}")
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
    except ssl.SSLError as error:
        raise ValueError(f"transport.security.ca: {options.ca} holds no certificate in PEM ({error.reason})") from error
    context.check_hostname = options.check_hostname
    if options.cert:
        try:
            context.load_cert_chain(options.cert, options.key or None)
        except ssl.SSLError as error:
            files = f"{options.cert} and {options.key or 'no key'}"
            raise ValueError(
                f"transport.security.cert and key: {files} are no certificate and its key in PEM ({error.reason})"
            ) from error
    return context
