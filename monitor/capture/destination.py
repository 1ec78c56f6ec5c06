"""Where the shipper's events go, opened when the first one does: a receiver that is away must not stop the sidecar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.capture.plan import Shipping
from monitor.transport.base import Publisher, Unavailable
from monitor.transport.log import EmbeddedLog, LogError
from sinks.records import Record


class LatePublisher:
    """A publisher that is opened by its first batch, and again by each next one until that works.

    Parameters
    ----------
    opener : makes the publisher; raises :class:`Unavailable` or :class:`~monitor.transport.log.LogError`.
    """

    def __init__(self, opener: Callable[[], Publisher]) -> None:
        self._opener = opener
        self._publisher: Publisher | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        """Raises :class:`Unavailable` or :class:`~monitor.transport.base.Rejected`."""
        try:
            if self._publisher is None:
                self._publisher = self._opener()
            await self._publisher.publish(records)
        except LogError as error:  # for good, but for an operator's hand: the events wait until then
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        if self._publisher is not None:
            await self._publisher.close()


def open_publisher(plan: Shipping) -> Publisher:
    """The publisher that the plan asks for.

    Raises
    ------
    ValueError : the URL is none.
    """
    if plan.url:
        from monitor.transport.http import HttpPublisher

        return HttpPublisher(
            plan.url,
            timeout=plan.timeout,
            max_retries=0,  # the events wait in the spool, and are tried again from there
            connections=plan.connections,
            pipeline=plan.pipeline,
            token=plan.token,
            token_file=Path(plan.token_file) if plan.token_file else None,
            tls=(plan.tls_ca, plan.tls_cert, plan.tls_key),
        )
    if plan.kafka is not None:
        from monitor.transport.kafka.cluster import late_publisher
        from monitor.transport.kafka.options import KafkaOptions, TopicLayout

        layout = TopicLayout(**(plan.layout or {}))
        return late_publisher(KafkaOptions(**plan.kafka), plan.topic, layout, create=plan.create_topics)
    return LatePublisher(lambda: _embedded(plan))


def _embedded(plan: Shipping) -> Publisher:
    from monitor.transport.embedded import EmbeddedPublisher

    path = Path(plan.log)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the log's directory {path.parent} cannot be made: {error.strerror}") from error
    log = EmbeddedLog(path, retain_bytes=plan.retain)
    try:
        log.create_topic(plan.topic, plan.partitions)
        return EmbeddedPublisher(log, plan.topic)
    except BaseException:
        log.close()
        raise
